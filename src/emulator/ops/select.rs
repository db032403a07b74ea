//! Selection by a condition, whole or lane by lane.

use super::lanes::for_lane;
use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::lanes::room;
use crate::emulator::machine::{Arg, Machine};
use crate::emulator::simd::vectorised;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Type};
use crate::emulator::value::{Lane, Value};
use std::sync::Arc;

pub(super) fn build<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [c, x, y] = b.operands(op)?;
    b.expect_type(op, &y.ty, &x.ty)?;
    b.require(op, !matches!(x.ty, Type::MemRef(..)), || "does not select memrefs".to_owned())?;
    let out = b.result(op, x.ty.clone())?;
    let (condition, ty, x, y) = (c.arg, x.ty, x.arg, y.arg);
    if c.ty == Type::BOOL {
        if let Type::Scalar(e) = ty
            && e.is_int()
        {
            let known = b.divisor(x).sum(b.divisor(y));
            b.set_divisor(out, known);
        }
        return step(move |m| {
            let chosen = if m.int(condition) != 0 { x } else { y };
            let value = m.take(chosen);
            m.set(out, value);
            Ok(())
        });
    }
    b.expect_type(op, &c.ty, &ty.with_elem(Elem::I1))?;
    for_lane!(ty.elem(), L => step(move |m| {
        let value = select_lanes::<L>(m, condition, x, y);
        m.set(out, value);
        Ok(())
    }))
}

fn select_lanes<L: Lane>(m: &mut Machine<'_>, condition: Arg, x: Arg, y: Arg) -> Value {
    let distinct = x.slot != y.slot && x.slot != condition.slot;
    if x.last && distinct {
        let mut lanes = m.take_lanes::<L>(x);
        let (mask, other) = (m.lanes::<bool>(condition), m.lanes::<L>(y));
        if let Some(free) = Arc::get_mut(&mut lanes) {
            vectorised(
                #[inline(always)]
                || free.iter_mut().zip(other).zip(mask).for_each(|((x, &y), &c)| *x = if c { *x } else { y }),
            );
            return L::share(lanes);
        }
        return L::wrap(pick(mask, &lanes, other));
    }
    L::wrap(pick(m.lanes(condition), m.lanes(x), m.lanes(y)))
}

fn pick<L: Lane>(mask: &[bool], x: &[L], y: &[L]) -> Vec<L> {
    let mut out = room(mask.len());
    vectorised(
        #[inline(always)]
        || out.extend(x.iter().zip(y).zip(mask).map(|((&x, &y), &c)| if c { x } else { y })),
    );
    out
}
