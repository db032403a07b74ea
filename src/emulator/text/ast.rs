//! What the parser hands on: ops in one uniform shape, whichever form they were written in.

use crate::emulator::location::Location;
use crate::emulator::types::Type;

/// A kernel text.
pub(crate) struct Module<'t> {
    pub(crate) functions: Vec<Function<'t>>,
    /// `// count: NAME` comments: line and name.
    pub(crate) markers: Vec<(Location, &'t str)>,
}

/// One `func.func`.
pub(crate) struct Function<'t> {
    pub(crate) name: &'t str,
    pub(crate) location: Location,
    pub(crate) results: Vec<Type>,
    pub(crate) attributes: Dict<'t>,
    pub(crate) body: Block<'t>,
}

/// The only block of a region.
#[derive(Default)]
pub(crate) struct Block<'t> {
    pub(crate) arguments: Vec<(ValueName<'t>, Type)>,
    pub(crate) ops: Vec<Op<'t>>,
}

/// Name of an SSA value where it is defined or used; `part` is the `n` of `%v#n`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueName<'t> {
    pub(crate) name: &'t str,
    pub(crate) part: usize,
    pub(crate) location: Location,
}

/// One operation. Operands stand in the dialect's own order, not the pretty form's.
pub(crate) struct Op<'t> {
    pub(crate) name: &'t str,
    pub(crate) location: Location,
    /// Names of the results and how many values each stands for.
    pub(crate) results: Vec<(ValueName<'t>, usize)>,
    pub(crate) operands: Vec<ValueName<'t>>,
    /// Types as written, by operand; pretty forms leave some out.
    pub(crate) operand_types: Vec<Option<Type>>,
    /// Types as written, by result; empty where the form implies them.
    pub(crate) result_types: Vec<Type>,
    pub(crate) attributes: Dict<'t>,
    pub(crate) regions: Vec<Block<'t>>,
    /// Sizes of the operand groups of an op with several optional or variadic operands.
    pub(crate) segments: Option<Vec<usize>>,
    /// Set by `liveness`: nothing uses the results and the op has no effect.
    pub(crate) dead: bool,
    /// Set by `liveness`: which operands no later op of the block uses.
    pub(crate) last_use: Vec<bool>,
}

/// An attribute value, as deep as the emulator looks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attribute<'t> {
    Unit,
    Bool(bool),
    Int(i64),
    /// A hexadecimal integer literal; for floats these are the bits.
    Hex(u64),
    Float(f64),
    Str(&'t str),
    Symbol(&'t str),
    List(Vec<Attribute<'t>>),
    Dict(Dict<'t>),
    Dense(Vec<Attribute<'t>>),
    /// `#dialect.name<body>`, the body as text.
    Dialect(&'t str, &'t str),
    Type(Type),
    /// Anything that is skipped as balanced text.
    Opaque,
}

/// Attributes by name, in text order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dict<'t>(pub(crate) Vec<(&'t str, Attribute<'t>)>);

impl<'t> Dict<'t> {
    pub(crate) fn get(&self, name: &str) -> Option<&Attribute<'t>> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, a)| a)
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Attribute::Int(i) => Some(*i),
            _ => None,
        }
    }

    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Attribute::Bool(b) => Some(*b),
            Attribute::Unit => Some(true),
            _ => None,
        }
    }

    /// A list of integers, either `[..]` or `array<i64: ..>`.
    pub(crate) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        match self.get(name)? {
            Attribute::List(l) => l
                .iter()
                .map(|a| match a {
                    Attribute::Int(i) => Some(*i),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }
}
