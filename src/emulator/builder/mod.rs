//! From syntax tree to verified steps: names become slots, types are checked, constants are folded in.

mod rules;

use crate::emulator::alignment::{Divisor, Finding};
use crate::emulator::error::{EmulatorError, Result};
use crate::emulator::location::Location;
use crate::emulator::machine::{Arg, Code, Function, Node, Site, Step};
use crate::emulator::text::ast::{self, Block, Module, Op, ValueName};
use crate::emulator::types::Type;
use crate::emulator::value::Value;
use std::collections::HashMap;

/// Deepest chain of inlined calls; recursion ends here.
const MAX_CALLS: usize = 16;

/// Slots that a kernel may use.
const MAX_SLOTS: usize = 1 << 22;

/// Lanes that all vector constants may have together.
const MAX_CONSTANT_LANES: usize = 1 << 28;

/// What is known of a slot before execution.
struct Slot {
    ty: Type,
    /// The value of a scalar constant.
    constant: Option<i64>,
    divisor: Divisor,
    /// Holds its value from the start and for good.
    preset: bool,
}

/// An operand of the op at hand.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub(crate) arg: Arg,
    pub(crate) ty: Type,
}

/// What an op is compiled to; nothing where it is done once compiled.
pub(crate) type Built = Result<Option<Step>>;

/// Verifies an op, whose site is given, and compiles it.
pub(crate) type Compile<'m, 't> = fn(&mut Builder<'m, 't>, &Op<'t>, usize) -> Built;

pub(crate) struct Builder<'m, 't> {
    /// Knows every op. Given from above, for ops are compiled with a builder.
    compile: Compile<'m, 't>,
    pub(crate) module: &'m Module<'t>,
    sites: Vec<Site>,
    markers: Vec<(Location, &'t str, bool)>,
    slots: Vec<Slot>,
    constants: Vec<(usize, Value)>,
    scopes: Vec<HashMap<&'t str, (usize, usize)>>,
    pub(crate) calls: usize,
    vectors: HashMap<(Type, String), Value>,
    constant_lanes: usize,
    /// What `check_alignment` reports.
    pub(crate) findings: Vec<Finding>,
    /// Memory of `memref.alloca` ops: slot and type.
    pub(crate) allocas: Vec<(usize, Type)>,
}

impl<'m, 't> Builder<'m, 't> {
    pub(crate) fn new(module: &'m Module<'t>, compile: Compile<'m, 't>) -> Self {
        Builder {
            compile,
            module,
            sites: Vec::new(),
            markers: module.markers.iter().map(|&(at, name)| (at, name, false)).collect(),
            slots: Vec::new(),
            constants: Vec::new(),
            scopes: Vec::new(),
            calls: 0,
            vectors: HashMap::new(),
            constant_lanes: 0,
            findings: Vec::new(),
            allocas: Vec::new(),
        }
    }

    /// Compiles a function into a frame of its own.
    pub(crate) fn function(&mut self, function: &ast::Function<'t>) -> Result<Function> {
        self.slots.clear();
        self.constants.clear();
        self.scopes.push(HashMap::new());
        let arguments = self.arguments(&function.body)?;
        let code =
            self.body(&function.body, &["return", "func.return"], &function.results, function.location)?;
        self.scopes.pop();
        let (slots, constants) = (self.slots.len(), std::mem::take(&mut self.constants));
        Ok(Function { code, slots, arguments, constants })
    }

    /// Defines the arguments of a block in the current scope.
    pub(crate) fn arguments(&mut self, block: &Block<'t>) -> Result<Vec<usize>> {
        block.arguments.iter().map(|(name, ty)| self.define(name, 1, ty.clone())).collect()
    }

    /// Compiles a nested region; its arguments are defined in a new scope.
    pub(crate) fn region(
        &mut self,
        block: &Block<'t>,
        terminator: &[&str],
        results: &[Type],
        location: Location,
    ) -> Result<(Vec<usize>, Code)> {
        self.loop_region(block, terminator, results, location, Divisor::ONE)
    }

    /// A region whose first argument is a counter with a known divisor.
    pub(crate) fn loop_region(
        &mut self,
        block: &Block<'t>,
        terminator: &[&str],
        results: &[Type],
        location: Location,
        counter: Divisor,
    ) -> Result<(Vec<usize>, Code)> {
        self.scopes.push(HashMap::new());
        let arguments = self.arguments(block)?;
        if let Some(&slot) = arguments.first() {
            self.set_divisor(slot, counter);
        }
        let code = self.body(block, terminator, results, location)?;
        self.scopes.pop();
        Ok((arguments, code))
    }

    /// Ops up to the terminator, whose operands must have the given types. A region without results may leave the
    /// terminator out.
    pub(crate) fn body(
        &mut self,
        block: &Block<'t>,
        terminator: &[&str],
        results: &[Type],
        location: Location,
    ) -> Result<Code> {
        let mut code = Code::default();
        let mut terminated = false;
        for op in &block.ops {
            if terminated {
                return Err(EmulatorError::verify(op.location, op.name, "stands after the end of its block"));
            }
            if terminator.contains(&op.name) {
                self.expect_operands(op, results.len())?;
                for (i, ty) in results.iter().enumerate() {
                    let operand = self.operand(op, i)?;
                    self.expect_type(op, &operand.ty, ty)?;
                    code.results.push(operand.arg);
                }
                terminated = true;
                continue;
            }
            let site = self.site(op.name, op.location);
            if self.constant_lanes > MAX_CONSTANT_LANES {
                let message = format!("constants of more than {MAX_CONSTANT_LANES} lanes in all");
                return Err(EmulatorError::verify(op.location, op.name, message));
            }
            let step = (self.compile)(self, op, site)?;
            if let Some(step) = step.filter(|_| !op.dead) {
                code.nodes.push(Node { site, step });
            }
        }
        if !terminated && !results.is_empty() {
            return Err(EmulatorError::verify(
                location,
                terminator[0],
                "a block with results must end with this op",
            ));
        }
        // A value that is a result twice must not be moved out the first time.
        let slots: Vec<usize> = code.results.iter().map(|r| r.slot).collect();
        for (i, result) in code.results.iter_mut().enumerate() {
            result.last &= !slots[i + 1..].contains(&result.slot);
        }
        Ok(code)
    }

    /// Registers an op for counters and messages.
    pub(crate) fn site(&mut self, op: &str, location: Location) -> usize {
        let marker = self.markers.iter_mut().find(|m| m.0.line == location.line && !m.2).map(|m| {
            m.2 = true;
            m.1.to_owned()
        });
        self.sites.push(Site { op: op.to_owned(), location, marker });
        self.sites.len() - 1
    }

    /// The number that the next site gets.
    pub(crate) fn next_site(&self) -> usize {
        self.sites.len()
    }

    /// All sites. A `// count:` comment on a line without an op is an error, because it would count nothing.
    pub(crate) fn into_sites(self) -> Result<(Vec<Site>, Vec<Finding>)> {
        if let Some((location, name, _)) = self.markers.iter().find(|m| !m.2) {
            let message = format!("no op starts on the line of the comment '// count: {name}'");
            return Err(EmulatorError::Parse { location: *location, message });
        }
        Ok((self.sites, self.findings))
    }

    fn define(&mut self, name: &ValueName<'t>, count: usize, ty: Type) -> Result<usize> {
        let slot = self.slots.len();
        let visible = self.scopes.iter().any(|s| s.contains_key(name.name));
        if visible {
            return Err(EmulatorError::verify(name.location, name.name, "is already defined"));
        }
        self.fresh(ty, name.location)?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.name, (slot, count));
        }
        Ok(slot)
    }

    fn fresh(&mut self, ty: Type, location: Location) -> Result<usize> {
        if self.slots.len() >= MAX_SLOTS {
            return Err(EmulatorError::verify(
                location,
                "func.func",
                format!("more than {MAX_SLOTS} values"),
            ));
        }
        self.slots.push(Slot { ty, constant: None, divisor: Divisor::ONE, preset: false });
        Ok(self.slots.len() - 1)
    }

    /// Runs `f` with only the names that it defines, as in the body of another function.
    pub(crate) fn isolated<R>(
        &mut self,
        location: Location,
        f: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        if self.calls >= MAX_CALLS {
            return Err(EmulatorError::verify(
                location,
                "func.call",
                format!("calls nest deeper than {MAX_CALLS}"),
            ));
        }
        self.calls += 1;
        let outer = std::mem::replace(&mut self.scopes, vec![HashMap::new()]);
        let result = f(self);
        self.scopes = outer;
        self.calls -= 1;
        result
    }

    /// Operand `i`, its written type checked against its definition.
    pub(crate) fn operand(&self, op: &Op<'t>, i: usize) -> Result<Operand> {
        let Some(value) = op.operands.get(i) else {
            return Err(EmulatorError::verify(op.location, op.name, format!("operand {i} is missing")));
        };
        let Some(&(slot, count)) = self.scopes.iter().rev().find_map(|s| s.get(value.name)) else {
            return Err(EmulatorError::verify(
                value.location,
                op.name,
                format!("{} is not defined here", value.name),
            ));
        };
        if value.part >= count {
            let message = format!("{} has {count} results, not {}", value.name, value.part + 1);
            return Err(EmulatorError::verify(value.location, op.name, message));
        }
        let slot = slot + value.part;
        let ty = self.slots[slot].ty.clone();
        if let Some(Some(written)) = op.operand_types.get(i)
            && *written != ty
        {
            let message = format!("{} is {ty}, not {written}", value.name);
            return Err(EmulatorError::verify(value.location, op.name, message));
        }
        let last = op.last_use.get(i).copied().unwrap_or(false) && !self.slots[slot].preset;
        Ok(Operand { arg: Arg { slot, last }, ty })
    }

    /// Defines the only result.
    pub(crate) fn result(&mut self, op: &Op<'t>, ty: Type) -> Result<usize> {
        if let Some(written) = op.result_types.first() {
            self.expect_type(op, &ty, written)?;
        }
        Ok(self.results(op, vec![ty])?[0])
    }

    /// Defines the results, whatever names the op spreads them over.
    pub(crate) fn results(&mut self, op: &Op<'t>, types: Vec<Type>) -> Result<Vec<usize>> {
        let named: usize = op.results.iter().map(|r| r.1).sum();
        if named != types.len() && !op.results.is_empty() {
            let message = format!("has {} results, not {named}", types.len());
            return Err(EmulatorError::verify(op.location, op.name, message));
        }
        let first = self.slots.len();
        let mut types = types.into_iter();
        for (name, count) in &op.results {
            for part in 0..*count {
                let Some(ty) = types.next() else { break };
                if part == 0 {
                    self.define(name, *count, ty)?
                } else {
                    self.fresh(ty, op.location)?
                };
            }
        }
        for ty in types {
            self.fresh(ty, op.location)?;
        }
        Ok((first..self.slots.len()).collect())
    }

    /// Makes a slot hold a value from the start.
    pub(crate) fn constant(&mut self, slot: usize, value: Value) {
        self.slots[slot].preset = true;
        if let Value::Int(i) = value {
            self.slots[slot].constant = Some(i);
            self.slots[slot].divisor = Divisor::of(i);
        }
        self.constants.push((slot, value));
    }

    /// A vector constant, made once for all ops that ask for the same: tiles of zeros are many and large.
    pub(crate) fn vector_constant(&mut self, ty: &Type, key: String, make: impl FnOnce() -> Value) -> Value {
        let lanes = ty.shape().iter().product::<usize>();
        let entry = self.vectors.entry((ty.clone(), key));
        entry
            .or_insert_with(|| {
                self.constant_lanes += lanes;
                make()
            })
            .clone()
    }

    pub(crate) fn constant_of(&self, arg: Arg) -> Option<i64> {
        self.slots[arg.slot].constant
    }

    pub(crate) fn divisor(&self, arg: Arg) -> Divisor {
        self.slots[arg.slot].divisor
    }

    pub(crate) fn set_divisor(&mut self, slot: usize, divisor: Divisor) {
        self.slots[slot].divisor = divisor;
    }
}

/// A step that is boxed; names the closure's type for inference.
pub(crate) fn step(
    f: impl Fn(&mut crate::emulator::machine::Machine<'_>) -> Result<()> + Send + Sync + 'static,
) -> Built {
    Ok(Some(Box::new(f)))
}
