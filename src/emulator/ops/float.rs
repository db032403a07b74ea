//! Arithmetic on floats: each lane alone, rounded where the result is bf16.

use super::lanes::{map_same, zip_same};
use super::pair::pair;
use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::machine::{Arg, Machine};
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Type};
use crate::emulator::value::{Value, round_bf16};

pub(super) fn float(m: &Machine<'_>, arg: Arg) -> f32 {
    match &m.slots[arg.slot] {
        Value::Float(x) => *x,
        other => unreachable!("verified as a float: {other:?}"),
    }
}

pub(super) fn float1<'t>(
    b: &mut Builder<'_, 't>,
    op: &Op<'t>,
    f: impl Fn(f32) -> f32 + Copy + Send + Sync + 'static,
) -> Built {
    let [x] = b.operands(op)?;
    let elem = x.ty.elem();
    b.require(op, elem.is_float() && !matches!(x.ty, Type::MemRef(..)), || format!("{} is no float", x.ty))?;
    let out = b.result(op, x.ty.clone())?;
    let x = (x.arg, x.ty);
    let round = elem == Elem::Bf16;
    match (x, round) {
        ((x, Type::Scalar(_)), _) => step(move |m| {
            let y = f(float(m, x));
            m.set(out, Value::Float(if round { round_bf16(y) } else { y }));
            Ok(())
        }),
        ((x, _), true) => step(move |m| {
            let y = map_same(m, x, |x| round_bf16(f(x)));
            m.set(out, y);
            Ok(())
        }),
        ((x, _), false) => step(move |m| {
            let y = map_same(m, x, f);
            m.set(out, y);
            Ok(())
        }),
    }
}

pub(super) fn float2<'t>(
    b: &mut Builder<'_, 't>,
    op: &Op<'t>,
    f: impl Fn(f32, f32) -> f32 + Copy + Send + Sync + 'static,
) -> Built {
    let [x, y] = pair(b, op, Elem::is_float)?;
    let round = x.ty.elem() == Elem::Bf16;
    let out = b.result(op, x.ty.clone())?;
    let (ty, x, y) = (x.ty, x.arg, y.arg);
    match (ty, round) {
        (Type::Scalar(_), _) => step(move |m| {
            let z = f(float(m, x), float(m, y));
            m.set(out, Value::Float(if round { round_bf16(z) } else { z }));
            Ok(())
        }),
        (_, true) => step(move |m| {
            let z = zip_same(m, x, y, |x, y| round_bf16(f(x, y)));
            m.set(out, z);
            Ok(())
        }),
        (_, false) => step(move |m| {
            let z = zip_same(m, x, y, f);
            m.set(out, z);
            Ok(())
        }),
    }
}

/// The larger, NaN if either is; +0 above -0.
#[inline(always)]
pub(super) fn maximum(x: f32, y: f32) -> f32 {
    if x.is_nan() {
        x
    } else if y.is_nan() || y > x {
        y
    } else if x == y {
        // Equal values differ at most in the sign of zero.
        f32::from_bits(x.to_bits() & y.to_bits())
    } else {
        x
    }
}

/// The exact quotient, also where the text allows an approximation.
pub(super) fn reciprocal<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    float1(b, op, |x| 1.0 / x)
}
