//! Conversions between element types.

use super::lanes::{map, map_same};
use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::machine::Machine;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Type, volume};
use crate::emulator::value::{Lane, Value, round_bf16, unsigned, wrap_int};

/// What a conversion takes and gives.
fn accepts(name: &str, from: Elem, to: Elem) -> bool {
    let (wider, narrower) = (to.bits() > from.bits(), to.bits() < from.bits());
    let whole = |e: Elem| e.is_int() && e != Elem::Index;
    match name {
        "arith.extf" => from.is_float() && to.is_float() && wider,
        "arith.truncf" => from.is_float() && to.is_float() && narrower,
        "arith.extsi" | "arith.extui" => whole(from) && whole(to) && wider,
        "arith.trunci" => whole(from) && whole(to) && narrower,
        "arith.sitofp" | "arith.uitofp" => whole(from) && to.is_float(),
        "arith.fptosi" => from.is_float() && whole(to),
        _ => (from == Elem::Index) != (to == Elem::Index) && from.is_int() && to.is_int(),
    }
}

pub(super) fn build<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (from, to) = (x.ty.elem(), ty.elem());
    let fits = ty == x.ty.with_elem(to) && !matches!(ty, Type::MemRef(..)) && accepts(op.name, from, to);
    b.require(op, fits, || format!("cannot convert {} to {ty}", x.ty))?;
    let out = b.result(op, ty.clone())?;
    let arg = x.arg;
    let (from_bits, to_bits) = (from.bits(), to.bits());
    let zero_extend = matches!(op.name, "arith.extui" | "arith.uitofp" | "arith.index_castui");
    // Integers on their way to a wider integer or a float. A true boolean is -1 where it counts as signed.
    let read = move |v: i64| {
        if zero_extend {
            unsigned(v, from_bits) as i64
        } else if from_bits == 1 {
            -v
        } else {
            v
        }
    };
    if let Type::Scalar(_) = ty {
        if let Some(c) = b.constant_of(arg).filter(|_| to.is_int()) {
            b.constant(out, Value::Int(wrap_int(read(c), to_bits)));
            return Ok(None);
        }
        let known = b.divisor(arg);
        b.set_divisor(out, known);
        return step(move |m| {
            let value = match (m.take(arg), to) {
                (Value::Int(v), Elem::F32) => Value::Float(read(v) as f32),
                (Value::Int(v), Elem::Bf16) => Value::Float(round_bf16(read(v) as f32)),
                (Value::Int(v), _) => Value::Int(wrap_int(read(v), to_bits)),
                (Value::Float(v), Elem::F32) => Value::Float(v),
                (Value::Float(v), Elem::Bf16) => Value::Float(round_bf16(v)),
                (Value::Float(v), _) => Value::Int(saturate(v, to_bits)),
                (other, _) => other,
            };
            m.set(out, value);
            Ok(())
        });
    }
    let run = move |m: &mut Machine<'_>| -> Value {
        match (from, to) {
            (Elem::Bf16, Elem::F32) => m.take(arg),
            (Elem::F32, Elem::Bf16) => map_same(m, arg, round_bf16),
            (Elem::I1, Elem::F32 | Elem::Bf16) => map(m, arg, |x: bool| read(i64::from(x)) as f32),
            (Elem::I1, _) => map(m, arg, |x: bool| wrap_int(read(i64::from(x)), to_bits) as i32),
            (_, Elem::I1) if from.is_int() => map(m, arg, |x: i32| x & 1 != 0),
            (_, Elem::F32) => map(m, arg, |x: i32| read(i64::from(x)) as f32),
            (_, Elem::Bf16) => map(m, arg, |x: i32| round_bf16(read(i64::from(x)) as f32)),
            (_, Elem::I1) => map(m, arg, |x: f32| saturate(x, 1) != 0),
            _ if from.is_float() => map(m, arg, |x: f32| saturate(x, to_bits) as i32),
            _ => map_same(m, arg, |x: i32| wrap_int(read(i64::from(x)), to_bits) as i32),
        }
    };
    step(move |m| {
        let value = run(m);
        m.set(out, value);
        Ok(())
    })
}

/// Towards zero, to the nearest end of the range if outside; NaN gives 0.
#[inline(always)]
fn saturate(x: f32, bits: u32) -> i64 {
    if bits == 1 {
        return i64::from(x as i32 != 0);
    }
    let max = (1i64 << (bits - 1)) - 1;
    (x as i64).clamp(-max - 1, max)
}

/// Reinterprets bits. Between widths, the rows of the narrower type that share a row of the wider one are
/// neighbours, the first in the low bits: that is how a tile is packed.
pub(super) fn bitcast<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (from, to) = (x.ty.elem(), ty.elem());
    let numeric = |e: Elem| (e.is_float() || e.is_int()) && !matches!(e, Elem::I1 | Elem::Index);
    b.require(op, numeric(from) && numeric(to), || format!("cannot reinterpret {from} as {to}"))?;
    let (from_bits, to_bits) = (from.bits() as usize, to.bits() as usize);
    if let (Type::Scalar(_), Type::Scalar(_)) = (&x.ty, &ty) {
        b.require(op, from_bits == to_bits, || "a scalar keeps its width".to_owned())?;
        let (out, arg) = (b.result(op, ty)?, x.arg);
        return step(move |m| {
            let value = match (m.take(arg), to.is_float()) {
                (Value::Float(v), false) => {
                    Value::Int(wrap_int(i64::from(v.to_bits() >> (32 - from_bits)), to_bits as u32))
                }
                (Value::Int(v), true) => Value::Float(f32::from_bits((v as u32) << (32 - to_bits))),
                (same, _) => same,
            };
            m.set(out, value);
            Ok(())
        });
    }
    let (Type::Vector(source, _), Type::Vector(target, _)) = (&x.ty, &ty) else {
        return b.reject(op, format!("cannot reinterpret {} as {ty}", x.ty));
    };
    let mut rescaled = source.clone();
    if let [.., rows, _] = rescaled.as_mut_slice() {
        *rows = *rows * from_bits / to_bits;
    }
    let fits = rescaled == *target && volume(source) * from_bits == volume(target) * to_bits;
    b.require(op, fits, || format!("{} does not hold the bits of {ty}", x.ty))?;
    let lanes = target.last().copied().unwrap_or(1);
    let out = b.result(op, ty)?;
    let arg = x.arg;
    step(move |m| {
        let bits: Vec<u32> = match m.take(arg) {
            Value::Floats(v) => v.iter().map(|x| x.to_bits() >> (32 - from_bits)).collect(),
            Value::Ints(v) => v.iter().map(|&x| unsigned(i64::from(x), from_bits as u32) as u32).collect(),
            _ => unreachable!("verified as numbers"),
        };
        let bits = repack(bits, from_bits, to_bits, lanes);
        let value = if to.is_float() {
            f32::wrap(bits.into_iter().map(|x| f32::from_bits(x << (32 - to_bits))).collect())
        } else {
            i32::wrap(bits.into_iter().map(|x| wrap_int(i64::from(x), to_bits as u32) as i32).collect())
        };
        m.set(out, value);
        Ok(())
    })
}

/// Regroups bit fields along the second-minor dimension.
fn repack(bits: Vec<u32>, from: usize, to: usize, lanes: usize) -> Vec<u32> {
    if from == to {
        return bits;
    }
    let mut out = Vec::with_capacity(bits.len() * from / to);
    if from > to {
        let mask = (1u32 << to) - 1;
        for row in bits.chunks_exact(lanes) {
            for part in 0..from / to {
                out.extend(row.iter().map(|x| x >> (part * to) & mask));
            }
        }
    } else {
        let parts = to / from;
        for rows in bits.chunks_exact(lanes * parts) {
            out.extend(
                (0..lanes).map(|l| (0..parts).fold(0, |acc, p| acc | rows[p * lanes + l] << (p * from))),
            );
        }
    }
    out
}
