//! A structural check of rendered StableHLO text. Shared by the library and by build.rs.
//!
//! It knows our authoring style (one operation a line, regions opened at line ends) and proves, without a
//! compiler: regions balance; every value is defined once, before its use, in a region that encloses the use;
//! the types an operation states are those its operands were defined with; `return` matches the function's
//! results; a called function exists with that signature. Semantics of single operations are the compiler's.

use std::collections::HashMap;

/// What is wrong, and on which line (1-based) of the rendered text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}: {text}")]
pub struct VerifyError {
    /// Line of the rendered text, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// The line itself.
    pub text: String,
}

type Scope<'a> = HashMap<&'a str, Vec<&'a str>>;

/// Parameter and result types of every function, by name.
type Signatures<'a> = HashMap<&'a str, Signature<'a>>;
type Signature<'a> = (Vec<&'a str>, Vec<&'a str>);

struct Verifier<'a> {
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

/// Checks the functions of `text`; `text` may be a whole module.
pub fn verify(text: &str) -> Result<(), VerifyError> {
    let signatures = signatures(text);
    let mut v = Verifier { scopes: Vec::new(), results: Vec::new(), pending: Vec::new() };
    for (number, raw) in text.lines().enumerate() {
        let line = raw.trim();
        v.line(line, &signatures).map_err(|problem| VerifyError {
            line: number + 1,
            problem,
            text: line.chars().take(160).collect(),
        })?;
    }
    if v.pending.is_empty() {
        Ok(())
    } else {
        let line = text.lines().count();
        Err(VerifyError {
            line,
            problem: format!("{} regions are not closed", v.pending.len()),
            text: String::new(),
        })
    }
}

fn signatures(text: &str) -> Signatures<'_> {
    text.lines().map(str::trim).filter(|l| l.starts_with("func.func")).filter_map(header).collect()
}

fn header(line: &str) -> Option<(&str, Signature<'_>)> {
    let (_, rest) = line.split_once('@')?;
    let (name, rest) = rest.split_once('(')?;
    let close = matching(rest, ')')?;
    let parameters = split_top(&rest[..close]).into_iter().filter_map(|p| Some(p.split_once(':')?.1.trim()));
    let results = rest[close + 1..].trim().strip_prefix("->").map_or(Vec::new(), |r| {
        let r = r.trim().trim_end_matches('{').trim();
        split_top(r.strip_prefix('(').and_then(|r| r.strip_suffix(')')).unwrap_or(r))
    });
    Some((name, (parameters.map(|p| p.split('{').next().unwrap_or(p).trim()).collect(), results)))
}

impl<'a> Verifier<'a> {
    fn line(&mut self, line: &'a str, signatures: &Signatures<'a>) -> Result<(), String> {
        if line.is_empty() || line.starts_with("//") || line.starts_with("module") {
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
        let (_, (_, results)) = header(line).ok_or("the function header does not parse")?;
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
            // The closing brace of a module.
            None => Ok(()),
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

/// Index of the bracket that closes one already open.
fn matching(text: &str, close: char) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '(' | '<' | '[' | '{' => depth += 1,
            // `->` is an arrow, not a bracket.
            '>' if text[..i].ends_with('-') => {}
            ')' | '>' | ']' | '}' if depth > 0 => depth -= 1,
            c if c == close => return Some(i),
            _ => {}
        }
    }
    None
}

/// Splits at commas outside brackets.
fn split_top(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' | '<' | '[' | '{' => depth += 1,
            ')' | '>' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[from..i].trim());
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts.retain(|p| !p.is_empty());
    parts
}

/// The colon before an operation's type: the last one outside brackets.
fn top_level_colon(op: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = None;
    for (i, c) in op.char_indices() {
        match c {
            '(' | '<' | '[' | '{' => depth += 1,
            '>' if op[..i].ends_with('-') => {}
            ')' | '>' | ']' | '}' => depth -= 1,
            ':' if depth == 0 => at = Some(i),
            _ => {}
        }
    }
    at
}

/// Values that a text refers to, in order, with their `#n`.
fn uses(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '#';
    text.match_indices('%')
        .map(|(i, _)| {
            let end = text[i + 1..].find(|c| !is_name(c)).map_or(text.len(), |e| i + 1 + e);
            &text[i..end]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
func.func private @f(%a: tensor<4xf32>, %n: tensor<i32>) -> tensor<4xf32> {
  %c0 = stablehlo.constant dense<0> : tensor<i32>
  %w:2 = stablehlo.while(%i = %c0, %x = %a) : tensor<i32>, tensor<4xf32>
  cond {
    %c = stablehlo.compare LT, %i, %n : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %c : tensor<i1>
  } do {
    %y = stablehlo.add %x, %a : tensor<4xf32>
    %z = \"stablehlo.if\"(%first) ({
      stablehlo.return %y : tensor<4xf32>
    }, {
      stablehlo.return %x : tensor<4xf32>
    }) : (tensor<i1>) -> tensor<4xf32>
    stablehlo.return %i, %z : tensor<i32>, tensor<4xf32>
  }
  return %w#1 : tensor<4xf32>
}";

    fn good() -> String {
        GOOD.replace(
            "    %y =",
            "    %first = stablehlo.compare EQ, %i, %c0 : (tensor<i32>, tensor<i32>) -> tensor<i1>\n    \
             %b:2 = stablehlo.optimization_barrier %x, %n : tensor<4xf32>, tensor<i32>\n    %y =",
        )
    }

    #[test]
    fn accepts_a_good_function() {
        verify(&good()).unwrap();
    }

    #[test]
    fn names_what_is_wrong() {
        let faults = [
            ("%y = stablehlo.add %x", "%y = stablehlo.add %q", "%q is not defined"),
            ("%y = stablehlo.add %x, %a", "%x = stablehlo.add %x, %a", "%x is defined twice"),
            (
                "add %x, %a : tensor<4xf32>",
                "add %x, %a : tensor<5xf32>",
                "%x is tensor<4xf32>, the operation says tensor<5xf32>",
            ),
            ("return %w#1 : tensor<4xf32>", "return %w#0 : tensor<i32>", "the function says"),
            ("return %w#1 :", "return %w#2 :", "%w has 2 results"),
            ("return %w#1 :", "return %y :", "%y is not defined"),
            ("%w:2", "%w:3", "names 3 results"),
            ("return %w#1 : tensor<4xf32>\n}", "return %w#1 : tensor<4xf32>", "not closed"),
            ("compare LT, %i, %n", "compare LT, %i", "1 operands, 2 types"),
            ("stablehlo.add %x", "stablehlo.add {{ x }}", "template syntax"),
            ("barrier %x, %n", "barrier %n, %x", "%n is tensor<i32>, the operation says tensor<4xf32>"),
            ("%b:2 = ", "%b:3 = ", "names 3 results, the operation has 2"),
        ];
        for (from, to, expected) in faults {
            let text = good().replacen(from, to, 1);
            assert_ne!(text, good(), "{from} not found");
            let problem = verify(&text).unwrap_err().to_string();
            assert!(problem.contains(expected), "{problem} lacks {expected}");
        }
    }

    #[test]
    fn checks_calls() {
        let call = |callee: &str, ty: &str| {
            format!(
                "{}\nfunc.func public @main(%a: tensor<4xf32>, %n: tensor<i32>) -> tensor<4xf32> {{\n  %r = func.call @{callee}(%a, %n) : (tensor<4xf32>, tensor<i32>) -> {ty}\n  return %r : {ty}\n}}",
                good()
            )
        };
        verify(&call("f", "tensor<4xf32>")).unwrap();
        assert!(verify(&call("g", "tensor<4xf32>")).unwrap_err().to_string().contains("@g is not defined"));
        assert!(verify(&call("f", "tensor<3xf32>")).unwrap_err().to_string().contains("has signature"));
    }
}
