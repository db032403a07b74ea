//! Rules that most ops share, on operands, types and attributes.

use super::{Builder, Operand};
use crate::emulator::error::{EmulatorError, Result};
use crate::emulator::machine::Arg;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Type};

impl<'t> Builder<'_, 't> {
    /// All operands of an op that has exactly `N`.
    pub(crate) fn operands<const N: usize>(&self, op: &Op<'t>) -> Result<[Operand; N]> {
        self.expect_operands(op, N)?;
        let mut out = Vec::with_capacity(N);
        for i in 0..N {
            out.push(self.operand(op, i)?);
        }
        out.try_into().map_err(|_| EmulatorError::verify(op.location, op.name, "wrong number of operands"))
    }

    pub(crate) fn expect_operands(&self, op: &Op<'t>, n: usize) -> Result<()> {
        if op.operands.len() == n {
            return Ok(());
        }
        Err(EmulatorError::verify(
            op.location,
            op.name,
            format!("takes {n} operands, not {}", op.operands.len()),
        ))
    }

    /// Operand groups of an op with optional or variadic operands: start and length of each.
    pub(crate) fn segments(&self, op: &Op<'t>, n: usize) -> Result<Vec<(usize, usize)>> {
        let sizes = op.segments.clone().unwrap_or_default();
        if sizes.len() != n
            || sizes.iter().try_fold(0usize, |a, &s| a.checked_add(s)) != Some(op.operands.len())
        {
            let message = format!("needs the sizes of its {n} operand groups, which add up to its operands");
            return Err(EmulatorError::verify(op.location, op.name, message));
        }
        let mut start = 0;
        Ok(sizes
            .into_iter()
            .map(|len| {
                start += len;
                (start - len, len)
            })
            .collect())
    }

    /// The result type as written. Ops whose form always writes it.
    pub(crate) fn written_result(&self, op: &Op<'t>) -> Result<Type> {
        match op.result_types.as_slice() {
            [ty] => Ok(ty.clone()),
            _ => Err(EmulatorError::verify(op.location, op.name, "has exactly one result")),
        }
    }

    pub(crate) fn expect_type(&self, op: &Op<'t>, found: &Type, expected: &Type) -> Result<()> {
        self.require(op, found == expected, || format!("expected type {expected}, found {found}"))
    }

    pub(crate) fn require(&self, op: &Op<'t>, holds: bool, message: impl FnOnce() -> String) -> Result<()> {
        if holds { Ok(()) } else { Err(EmulatorError::verify(op.location, op.name, message())) }
    }

    /// Fails at the op.
    pub(crate) fn reject<T>(&self, op: &Op<'t>, message: impl Into<String>) -> Result<T> {
        Err(EmulatorError::verify(op.location, op.name, message))
    }

    /// Operands `from..` as memref indices of an integer type.
    pub(crate) fn indices(&self, op: &Op<'t>, range: std::ops::Range<usize>, elem: Elem) -> Result<Vec<Arg>> {
        range
            .map(|i| {
                let index = self.operand(op, i)?;
                self.expect_type(op, &index.ty, &Type::Scalar(elem))?;
                Ok(index.arg)
            })
            .collect()
    }
}
