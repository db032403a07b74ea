//! Words that know where they come from, and what scalar ops make of them.

use super::super::listing::{Alu, Compare, Logic};

/// Where an address points, or why a value is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Plain,
    /// Into an operand in HBM.
    Hbm(u32),
    /// Into an operand that lies in VMEM.
    Vmem(u32),
    /// Into the core's own memory.
    Core,
    /// Nothing wrote it.
    Undefined,
    /// Result of an op that is not executed, by number.
    Opaque(u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub bits: u32,
    pub tag: Tag,
    /// When it was written: a phi takes the newest of its operands, for they share a register.
    pub written: u64,
}

pub(super) fn plain(bits: u32) -> Value {
    Value { bits, tag: Tag::Plain, written: 0 }
}

pub(super) fn known(value: Value) -> bool {
    !matches!(value.tag, Tag::Undefined | Tag::Opaque(_))
}

/// A result of two values: unknown if either is, an address if either is.
pub(super) fn joined(a: Value, b: Value, bits: u32) -> Value {
    let tag = match (a.tag, b.tag) {
        (Tag::Opaque(n), _) | (_, Tag::Opaque(n)) => Tag::Opaque(n),
        (Tag::Undefined, _) | (_, Tag::Undefined) => Tag::Undefined,
        (Tag::Plain, tag) | (tag, _) => tag,
    };
    Value { bits, tag, written: 0 }
}

pub(super) fn calculate(alu: Alu, a: u32, b: u32) -> u32 {
    match alu {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::MulHigh => ((u64::from(a) * u64::from(b)) >> 32) as u32,
        Alu::And => a & b,
        Alu::Or => a | b,
        Alu::Xor => a ^ b,
        Alu::ShiftLeft => a.checked_shl(b).unwrap_or(0),
        Alu::ShiftRight => a.checked_shr(b).unwrap_or(0),
        Alu::ShiftRightSigned => ((a as i32) >> b.min(31)) as u32,
        Alu::MinSigned => (a as i32).min(b as i32) as u32,
        Alu::MaxSigned => (a as i32).max(b as i32) as u32,
        Alu::MinUnsigned => a.min(b),
        Alu::MaxUnsigned => a.max(b),
    }
}

pub(super) fn holds(compare: Compare, signed: bool, a: u32, b: u32) -> bool {
    let order = if signed { (a as i32).cmp(&(b as i32)) } else { a.cmp(&b) };
    match compare {
        Compare::Eq => order.is_eq(),
        Compare::Ne => order.is_ne(),
        Compare::Lt => order.is_lt(),
        Compare::Le => order.is_le(),
        Compare::Gt => order.is_gt(),
        Compare::Ge => order.is_ge(),
    }
}

/// Logic with unknown operands: known where the other one settles it.
pub(super) fn decide(logic: Logic, a: Value, b: Value) -> Value {
    let (x, y) = (a.bits != 0, b.bits != 0);
    let settled = |v: Value, by: bool| known(v) && (v.bits != 0) == by;
    let either = |by: bool| settled(a, by) || settled(b, by);
    match logic {
        Logic::And if either(false) => plain(0),
        Logic::Nand if either(false) => plain(1),
        Logic::Or if either(true) => plain(1),
        Logic::Nor if either(true) => plain(0),
        Logic::And => joined(a, b, u32::from(x && y)),
        Logic::Nand => joined(a, b, u32::from(!(x && y))),
        Logic::Or => joined(a, b, u32::from(x || y)),
        Logic::Nor => joined(a, b, u32::from(!(x || y))),
        Logic::Xor => joined(a, b, u32::from(x ^ y)),
        Logic::Not => Value { bits: u32::from(!x), ..a },
        Logic::Copy => a,
    }
}
