//! Values and regions, line by line.

use std::collections::{HashMap, HashSet};

use super::header::{Signatures, header};
use super::syntax::{matching, split_top, top_level_colon, uses};

type Scope<'a> = HashMap<&'a str, Vec<&'a str>>;

/// What is open at a line.
#[derive(Default)]
pub(super) struct Verifier<'a> {
    modules: usize,
    functions: HashSet<&'a str>,
    scopes: Vec<Scope<'a>>,
    results: Vec<&'a str>,
    /// Region-carrying operations still open: result name, and types where the header states them.
    pending: Vec<Pending<'a>>,
}

#[derive(Clone)]
enum Pending<'a> {
    Function,
    While { name: &'a str, arguments: Vec<(&'a str, &'a str)> },
    Generic { name: &'a str, operands: Vec<&'a str> },
}

impl<'a> Verifier<'a> {
    /// What is open: a module, a function, operations with regions.
    pub(super) fn depth(&self) -> usize {
        self.modules + self.pending.len()
    }

    pub(super) fn line(&mut self, line: &'a str, signatures: &Signatures<'a>) -> Result<(), String> {
        if line.is_empty() || line.starts_with("//") {
            return Ok(());
        }
        if line.starts_with("module") {
            if self.depth() > 0 || !line.ends_with('{') {
                return Err("a module that is inside of another, or opened at no line's end".into());
            }
            self.modules = 1;
            return Ok(());
        }
        if line.contains("{{") || line.contains("{%") {
            return Err("template syntax was left over".into());
        }
        if line.starts_with("func.func") {
            return self.open_function(line);
        }
        if line == "}" {
            return self.close();
        }
        if line == "cond {" {
            return self.open_while_region();
        }
        if line == "} do {" {
            self.scopes.pop();
            return self.open_while_region();
        }
        if line == "}, {" {
            self.scopes.pop();
            self.scopes.push(Scope::new());
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("^bb0(") {
            let close = matching(rest, ')').ok_or("block arguments are not closed")?;
            for argument in split_top(&rest[..close]) {
                let (name, ty) = argument.split_once(':').ok_or("a block argument has no type")?;
                self.define(name.trim(), vec![ty.trim()])?;
            }
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("})") {
            return self.close_generic(rest);
        }
        if let Some(rest) = line.strip_prefix("stablehlo.return").or_else(|| line.strip_prefix("return")) {
            let (values, types) = rest.split_once(" : ").ok_or("return has no types")?;
            let types = split_top(types);
            self.expect(&split_top(values), &types)?;
            if line.starts_with("return") && types != self.results {
                return Err(format!("returns {types:?}, the function says {:?}", self.results));
            }
            return Ok(());
        }
        let (name, op) = line.split_once(" = ").ok_or("not an operation")?;
        if op.starts_with("stablehlo.while(") {
            return self.open_while(name, op);
        }
        if op.ends_with("({") {
            let operands = uses(op);
            for operand in &operands {
                self.lookup(operand)?;
            }
            self.pending.push(Pending::Generic { name: name.trim(), operands });
            self.scopes.push(Scope::new());
            return Ok(());
        }
        let colon = top_level_colon(op).ok_or("the operation states no type")?;
        let (body, ty) = (&op[..colon], op[colon + 1..].trim());
        let operands = uses(body);
        let result = match ty.split_once(" -> ") {
            Some((inputs, output)) => {
                let inputs = inputs
                    .strip_prefix('(')
                    .and_then(|i| i.strip_suffix(')'))
                    .ok_or("inputs lack parentheses")?;
                let inputs = split_top(inputs);
                self.expect(&operands, &inputs)?;
                let outputs = output.strip_prefix('(').and_then(|o| o.strip_suffix(')')).unwrap_or(output);
                let outputs = split_top(outputs);
                if let Some(callee) =
                    body.trim().strip_prefix("func.call @").or(body.trim().strip_prefix("call @"))
                {
                    let callee = callee.split('(').next().unwrap_or(callee);
                    match signatures.get(callee) {
                        Some((parameters, results)) if *parameters == inputs && *results == outputs => {}
                        Some((parameters, results)) => {
                            return Err(format!("@{callee} has signature {parameters:?} -> {results:?}"));
                        }
                        None => return Err(format!("@{callee} is not defined")),
                    }
                }
                outputs
            }
            None => {
                let types = split_top(ty);
                let last = *types.last().ok_or("no type")?;
                let is = |op| body.trim_start().starts_with(op);
                // `select` states predicate and value types, a barrier those of its operands and results; other
                // one-type operations apply to all operands.
                let (each, results) = match types.as_slice() {
                    [predicate, value] if is("stablehlo.select") => {
                        (vec![*predicate, value, value], vec![*value])
                    }
                    _ if is("stablehlo.select") => return Err("select states two types".into()),
                    _ if is("stablehlo.optimization_barrier") => (types.clone(), types),
                    _ => (vec![last; operands.len()], vec![last]),
                };
                self.expect(&operands, &each)?;
                results
            }
        };
        self.define(name.trim(), result)
    }

    fn open_function(&mut self, line: &'a str) -> Result<(), String> {
        if !self.pending.is_empty() {
            return Err("a function inside a region".into());
        }
        let (name, (_, results)) = header(line).ok_or("the function header does not parse")?;
        if !self.functions.insert(name) {
            return Err(format!("@{name} is defined twice"));
        }
        let (_, rest) = line.split_once('(').ok_or("no parameter list")?;
        let close = matching(rest, ')').ok_or("the parameter list is not closed")?;
        self.results = results;
        self.pending.push(Pending::Function);
        self.scopes = vec![Scope::new()];
        for parameter in split_top(&rest[..close]) {
            let (name, ty) = parameter.split_once(':').ok_or("a parameter has no type")?;
            self.define(name.trim(), vec![ty.split('{').next().unwrap_or(ty).trim()])?;
        }
        Ok(())
    }

    fn open_while(&mut self, name: &'a str, op: &'a str) -> Result<(), String> {
        let inside = &op["stablehlo.while(".len()..];
        let close = matching(inside, ')').ok_or("the while header is not closed")?;
        let types =
            split_top(inside[close + 1..].trim().strip_prefix(':').ok_or("while states no types")?.trim());
        let pairs: Option<Vec<_>> =
            split_top(&inside[..close]).into_iter().map(|p| p.split_once(" = ")).collect();
        let pairs = pairs.ok_or("a while argument has no initial value")?;
        let initial: Vec<&str> = pairs.iter().map(|p| p.1).collect();
        self.expect(&initial, &types)?;
        let arguments = pairs.iter().map(|p| p.0).zip(types).collect();
        self.pending.push(Pending::While { name: name.trim(), arguments });
        Ok(())
    }

    fn open_while_region(&mut self) -> Result<(), String> {
        let Some(Pending::While { arguments, .. }) = self.pending.last().cloned() else {
            return Err("a while region without a while".into());
        };
        self.scopes.push(Scope::new());
        for (name, ty) in arguments {
            self.define(name, vec![ty])?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        match self.pending.pop() {
            Some(Pending::Function) => {
                self.scopes.clear();
                Ok(())
            }
            Some(Pending::While { name, arguments }) => {
                self.scopes.pop();
                self.define(name, arguments.into_iter().map(|a| a.1).collect())
            }
            Some(Pending::Generic { .. }) => Err("the region is closed by '})'".into()),
            None if self.modules > 0 => {
                self.modules = 0;
                Ok(())
            }
            None => Err("a brace that closes nothing".into()),
        }
    }

    fn close_generic(&mut self, rest: &'a str) -> Result<(), String> {
        let Some(Pending::Generic { name, operands }) = self.pending.pop() else {
            return Err("no operation with regions is open".into());
        };
        self.scopes.pop();
        let (inputs, output) = rest
            .split_once(':')
            .and_then(|r| r.1.split_once(" -> "))
            .ok_or("the operation states no type")?;
        let inputs = inputs
            .trim()
            .strip_prefix('(')
            .and_then(|i| i.strip_suffix(')'))
            .ok_or("inputs lack parentheses")?;
        self.expect(&operands, &split_top(inputs))?;
        let output = output.trim();
        let results = split_top(output.strip_prefix('(').and_then(|o| o.strip_suffix(')')).unwrap_or(output));
        self.define(name, results)
    }

    /// Defines `name` (`%x` or `%x:3`) in the innermost region.
    fn define(&mut self, name: &'a str, types: Vec<&'a str>) -> Result<(), String> {
        let (base, count) = match name.split_once(':') {
            Some((base, count)) => {
                (base, count.parse().map_err(|_| "a result count is no number".to_owned())?)
            }
            None => (name, 1),
        };
        if types.len() != count {
            return Err(format!("{base} names {count} results, the operation has {}", types.len()));
        }
        if self.scopes.iter().any(|s| s.contains_key(base)) {
            return Err(format!("{base} is defined twice"));
        }
        self.scopes.last_mut().ok_or("a value outside of a function")?.insert(base, types);
        Ok(())
    }

    fn lookup(&self, value: &str) -> Result<&'a str, String> {
        let (base, index) =
            value.split_once('#').map_or((value, 0), |(b, i)| (b, i.parse().unwrap_or(usize::MAX)));
        let types =
            self.scopes.iter().rev().find_map(|s| s.get(base)).ok_or(format!("{base} is not defined"))?;
        types.get(index).copied().ok_or(format!("{base} has {} results", types.len()))
    }

    fn expect(&self, operands: &[&str], types: &[&str]) -> Result<(), String> {
        if operands.len() != types.len() {
            return Err(format!("{} operands, {} types", operands.len(), types.len()));
        }
        for (operand, ty) in operands.iter().zip(types) {
            let found = self.lookup(operand.trim())?;
            if found != *ty {
                return Err(format!("{operand} is {found}, the operation says {ty}"));
            }
        }
        Ok(())
    }
}
