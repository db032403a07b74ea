//! Constants.

use super::lanes::for_lane;
use crate::emulator::builder::{Builder, Built};
use crate::emulator::text::ast::{Attribute, Op};
use crate::emulator::types::{Elem, Type, volume};
use crate::emulator::value::{Lane, Value, round_bf16, wrap_int};

pub(super) fn build<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    b.expect_operands(op, 0)?;
    let ty = b.written_result(op)?;
    let Some(value) = op.attributes.get("value") else { return b.reject(op, "needs a value") };
    let elem = ty.elem();
    let value = match (&ty, value) {
        (Type::Scalar(_), literal) => scalar(literal, elem),
        (Type::Vector(shape, _), Attribute::Dense(items))
            if items.len() == 1 || items.len() == volume(shape) =>
        {
            let n = volume(shape);
            for_lane!(elem, L => {
                let lanes: Option<Vec<L>> = items.iter().map(|i| L::from_scalar(&scalar(i, elem)?)).collect();
                lanes.map(|l| {
                    let splat = || L::wrap(if l.len() == 1 { vec![l[0]; n] } else { l });
                    b.vector_constant(&ty, format!("{items:?}"), splat)
                })
            })
        }
        _ => None,
    };
    match value {
        Some(value) => {
            let out = b.result(op, ty)?;
            b.constant(out, value);
            Ok(None)
        }
        None => b.reject(op, format!("the value is no constant of type {ty}")),
    }
}

/// A literal as a scalar of an element type.
fn scalar(literal: &Attribute<'_>, elem: Elem) -> Option<Value> {
    let bits = elem.bits();
    Some(match (elem, literal) {
        (Elem::F32, Attribute::Hex(x)) => Value::Float(f32::from_bits(u32::try_from(*x).ok()?)),
        (Elem::Bf16, Attribute::Hex(x)) => {
            Value::Float(f32::from_bits(u32::from(u16::try_from(*x).ok()?) << 16))
        }
        (Elem::F32, Attribute::Float(x)) => Value::Float(*x as f32),
        (Elem::Bf16, Attribute::Float(x)) => Value::Float(round_bf16(*x as f32)),
        (Elem::I1, Attribute::Bool(x)) => Value::Int(i64::from(*x)),
        (_, Attribute::Int(x)) if elem.is_int() => Value::Int(wrap_int(*x, bits)),
        (_, Attribute::Hex(x)) if elem.is_int() => Value::Int(wrap_int(*x as i64, bits)),
        _ => return None,
    })
}
