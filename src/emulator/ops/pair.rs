//! Two operands of one type.

use crate::emulator::builder::{Builder, Operand};
use crate::emulator::error::Result;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Type};

/// Verifies them; `accepts` checks the type.
pub(super) fn pair<'t>(b: &Builder<'_, 't>, op: &Op<'t>, accepts: fn(Elem) -> bool) -> Result<[Operand; 2]> {
    let [x, y] = b.operands(op)?;
    b.expect_type(op, &y.ty, &x.ty)?;
    let fits = accepts(x.ty.elem()) && !matches!(x.ty, Type::MemRef(..));
    b.require(op, fits, || format!("does not take operands of type {}", x.ty))?;
    Ok([x, y])
}
