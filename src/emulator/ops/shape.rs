//! Moving lanes about: broadcast, slices, transposition, rotation, gathers.

use super::lanes::for_lane;
use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::error::Result;
use crate::emulator::fault::FaultKind;
use crate::emulator::lanes::room;
use crate::emulator::machine::Arg;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Type, strides, volume};
use crate::emulator::value::{Lane, Value};
use std::sync::Arc;

/// Reads a vector by sizes and strides; a stride of 0 repeats.
pub(super) fn gather_strided<L: Lane>(source: &[L], offset: usize, dims: &[(usize, usize)]) -> Vec<L> {
    let mut out = room(dims.iter().map(|d| d.0).product());
    // Inner dimensions that continue each other move as one.
    let mut dims = dims.to_vec();
    while let [.., (a, s), (n, t)] = dims[..] {
        if a != 1 && s != n * t {
            break;
        }
        dims.truncate(dims.len() - 2);
        dims.push((a * n, t));
    }
    let Some(((n, stride), outer)) = dims.split_last().map(|(l, o)| (*l, o)) else {
        return vec![source[offset]];
    };
    let mut index = vec![0usize; outer.len()];
    let mut at = offset;
    loop {
        match stride {
            1 => out.extend_from_slice(&source[at..at + n]),
            0 => out.extend(std::iter::repeat_n(source[at], n)),
            _ => out.extend(source[at..].iter().step_by(stride).take(n)),
        }
        let mut d = outer.len();
        loop {
            if d == 0 {
                return out;
            }
            d -= 1;
            index[d] += 1;
            at += outer[d].1;
            if index[d] < outer[d].0 {
                break;
            }
            at -= outer[d].0 * outer[d].1;
            index[d] = 0;
        }
    }
}

/// `n` copies of a lane.
fn filled<L: Lane>(lane: L, n: usize) -> Vec<L> {
    let mut out = room(n);
    out.resize(n, lane);
    out
}

/// A step that reads its operand by sizes and strides.
fn strided_step(arg: Arg, out: usize, elem: Elem, offset: usize, dims: Vec<(usize, usize)>) -> Built {
    for_lane!(elem, L => step(move |m| {
        let lanes = gather_strided(m.lanes::<L>(arg), offset, &dims);
        m.set(out, L::wrap(lanes));
        Ok(())
    }))
}

/// A step that hands its operand on.
fn forward(arg: Arg, out: usize) -> Built {
    step(move |m| {
        let value = m.take(arg);
        m.set(out, value);
        Ok(())
    })
}

fn vector<'t, 'x>(b: &Builder<'_, 't>, op: &Op<'t>, ty: &'x Type) -> Result<(&'x [usize], Elem)> {
    match ty {
        Type::Vector(shape, elem) => Ok((shape, *elem)),
        other => b.reject(op, format!("{other} is no vector")),
    }
}

pub(super) fn broadcast<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (shape, elem) = vector(b, op, &ty)?;
    b.require(op, elem == x.ty.elem(), || format!("{} and {ty} differ in element type", x.ty))?;
    let (n, arg) = (volume(shape), x.arg);
    if let Type::Scalar(_) = x.ty {
        let out = b.result(op, ty)?;
        return step(move |m| {
            let value = match m.take(arg) {
                Value::Float(v) => f32::wrap(filled(v, n)),
                Value::Int(v) if elem == Elem::I1 => bool::wrap(filled(v != 0, n)),
                Value::Int(v) => i32::wrap(filled(v as i32, n)),
                _ => unreachable!("verified as a scalar"),
            };
            m.set(out, value);
            Ok(())
        });
    }
    let (source, _) = vector(b, op, &x.ty)?;
    let leading = shape.len().checked_sub(source.len());
    let fits = leading.is_some_and(|l| source.iter().zip(&shape[l..]).all(|(s, t)| s == t || *s == 1));
    b.require(op, fits, || format!("{} does not stretch to {ty}", x.ty))?;
    let leading = leading.unwrap_or(0);
    let steps = strides(source);
    let dims = shape.iter().enumerate().map(|(d, &n)| match d.checked_sub(leading) {
        Some(s) if source[s] == n => (n, steps[s]),
        _ => (n, 0),
    });
    let (dims, same) = (dims.collect(), source == shape);
    let out = b.result(op, ty)?;
    if same { forward(arg, out) } else { strided_step(arg, out, elem, 0, dims) }
}

pub(super) fn shape_cast<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let ((from, a), (to, e)) = (vector(b, op, &x.ty)?, vector(b, op, &ty)?);
    b.require(op, a == e && volume(from) == volume(to), || format!("{} does not reshape to {ty}", x.ty))?;
    let out = b.result(op, ty)?;
    forward(x.arg, out)
}

/// An attribute of as many non-negative integers as a vector has dimensions.
fn per_dimension<'t>(b: &Builder<'_, 't>, op: &Op<'t>, name: &str, rank: usize) -> Result<Vec<usize>> {
    let ints = op.attributes.ints(name).unwrap_or_default();
    let values: Vec<usize> =
        ints.iter().filter_map(|&i| usize::try_from(i).ok().filter(|&u| u <= u32::MAX as usize)).collect();
    b.require(op, values.len() == rank && ints.len() == rank, || format!("needs {rank} numbers {name}"))?;
    Ok(values)
}

pub(super) fn extract<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (shape, elem) = vector(b, op, &x.ty)?;
    let given = op.attributes.ints("static_position").map_or(0, |p| p.len());
    let position = per_dimension(b, op, "static_position", given)?;
    let fits = given <= shape.len() && position.iter().zip(shape).all(|(p, n)| p < n);
    b.require(op, fits, || format!("position {position:?} is outside {}", x.ty))?;
    let rest = &shape[given..];
    let expected = if rest.is_empty() { Type::Scalar(elem) } else { Type::Vector(rest.to_vec(), elem) };
    b.expect_type(op, &ty, &expected)?;
    let offset = position.iter().zip(strides(shape)).map(|(p, s)| p * s).sum::<usize>();
    let (n, arg, scalar) = (volume(rest), x.arg, rest.is_empty());
    let out = b.result(op, ty)?;
    if !scalar {
        return strided_step(arg, out, elem, offset, vec![(n, 1)]);
    }
    step(move |m| {
        let value = match &m.slots[arg.slot] {
            Value::Floats(v) => Value::Float(v[offset]),
            Value::Ints(v) => Value::Int(i64::from(v[offset])),
            Value::Bools(v) => Value::Int(i64::from(v[offset])),
            _ => unreachable!("verified as a vector"),
        };
        m.set(out, value);
        Ok(())
    })
}

pub(super) fn slice<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (shape, elem) = vector(b, op, &x.ty)?;
    let rank = shape.len();
    let offsets = per_dimension(b, op, "offsets", rank)?;
    let sizes = per_dimension(b, op, "sizes", rank)?;
    let steps = per_dimension(b, op, "strides", rank)?;
    let fits = (0..rank).all(|d| sizes[d] > 0 && offsets[d] + (sizes[d] - 1) * steps[d].max(1) < shape[d]);
    b.require(op, fits, || format!("slice of {sizes:?} at {offsets:?} is outside {}", x.ty))?;
    b.expect_type(op, &ty, &Type::Vector(sizes.clone(), elem))?;
    let memory = strides(shape);
    let offset = offsets.iter().zip(&memory).map(|(o, s)| o * s).sum();
    let dims = (0..rank).map(|d| (sizes[d], memory[d] * steps[d])).collect();
    let same = sizes == shape;
    let out = b.result(op, ty)?;
    if same { forward(x.arg, out) } else { strided_step(x.arg, out, elem, offset, dims) }
}

pub(super) fn insert<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x, target] = b.operands(op)?;
    let ((small, a), (large, e)) = (vector(b, op, &x.ty)?, vector(b, op, &target.ty)?);
    let offsets = per_dimension(b, op, "offsets", large.len())?;
    let steps = per_dimension(b, op, "strides", small.len())?;
    let leading = large.len().checked_sub(small.len());
    let fits = a == e
        && leading.is_some_and(|l| {
            offsets[..l].iter().zip(large).all(|(o, n)| o < n)
                && (0..small.len()).all(|d| offsets[l + d] + (small[d] - 1) * steps[d] < large[l + d])
        });
    b.require(op, fits, || format!("{} at {offsets:?} is outside {}", x.ty, target.ty))?;
    let memory = strides(large);
    let offset: usize = offsets.iter().zip(&memory).map(|(o, s)| o * s).sum();
    let inner = &memory[leading.unwrap_or(0)..];
    let dims: Vec<(usize, usize)> = (0..small.len()).map(|d| (small[d], inner[d] * steps[d])).collect();
    let out = b.result(op, target.ty.clone())?;
    let (x, target) = (x.arg, target.arg);
    for_lane!(e, L => step(move |m| {
        let mut whole = m.take_lanes::<L>(target);
        let part = m.lanes::<L>(x);
        let lanes = Arc::make_mut(&mut whole);
        let mut from = part.iter();
        scatter(lanes, offset, &dims, &mut from);
        m.set(out, L::share(whole));
        Ok(())
    }))
}

fn scatter<'a, L: Lane>(
    lanes: &mut [L],
    offset: usize,
    dims: &[(usize, usize)],
    from: &mut impl Iterator<Item = &'a L>,
) {
    match dims {
        [] => {
            if let Some(&x) = from.next() {
                lanes[offset] = x;
            }
        }
        [(n, stride), rest @ ..] => (0..*n).for_each(|i| scatter(lanes, offset + i * stride, rest, from)),
    }
}

pub(super) fn transpose<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (shape, elem) = vector(b, op, &x.ty)?;
    let order = per_dimension(b, op, "permutation", shape.len())?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    b.require(op, sorted.iter().copied().eq(0..shape.len()), || format!("{order:?} is no permutation"))?;
    b.expect_type(op, &ty, &Type::Vector(order.iter().map(|&d| shape[d]).collect(), elem))?;
    let memory = strides(shape);
    let dims = order.iter().map(|&d| (shape[d], memory[d])).collect();
    let out = b.result(op, ty)?;
    strided_step(x.arg, out, elem, 0, dims)
}

/// An attribute that names one dimension.
fn dimension<'t>(b: &Builder<'_, 't>, op: &Op<'t>, names: &[&str], rank: usize) -> Result<usize> {
    let value = names.iter().find_map(|n| op.attributes.int(n)).and_then(|d| usize::try_from(d).ok());
    match value {
        Some(d) if d < rank => Ok(d),
        _ => b.reject(op, format!("needs a dimension below {rank}")),
    }
}

pub(super) fn concatenate<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let ty = b.written_result(op)?;
    let (shape, elem) = vector(b, op, &ty)?;
    let axis = dimension(b, op, &["dimension"], shape.len())?;
    b.require(op, !op.operands.is_empty(), || "takes at least one operand".to_owned())?;
    // Elements that each operand gives to one block of the result.
    let mut parts = Vec::new();
    let mut extent = 0;
    for i in 0..op.operands.len() {
        let x = b.operand(op, i)?;
        let (part, e) = vector(b, op, &x.ty)?;
        let fits = e == elem
            && part.len() == shape.len()
            && (0..part.len()).all(|d| d == axis || part[d] == shape[d]);
        b.require(op, fits, || format!("{} is no part of {ty} along dimension {axis}", x.ty))?;
        extent += part[axis];
        parts.push((x.arg, volume(&part[axis..])));
    }
    b.require(op, extent == shape[axis], || {
        format!("the parts have {extent} of {} along dimension {axis}", shape[axis])
    })?;
    let (blocks, n) = (volume(&shape[..axis]), volume(shape));
    let out = b.result(op, ty.clone())?;
    for_lane!(elem, L => step(move |m| {
        let mut lanes = room(n);
        for block in 0..blocks {
            for &(arg, len) in &parts {
                lanes.extend_from_slice(&m.lanes::<L>(arg)[block * len..(block + 1) * len]);
            }
        }
        m.set(out, L::wrap(lanes));
        Ok(())
    }))
}

/// A constant: the index along a dimension, or the row-major index over several.
pub(super) fn iota<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    b.expect_operands(op, 0)?;
    let ty = b.written_result(op)?;
    let (shape, elem) = vector(b, op, &ty)?;
    let rank = shape.len();
    let dims: Vec<usize> = op
        .attributes
        .ints("dimensions")
        .unwrap_or_default()
        .iter()
        .filter_map(|&d| usize::try_from(d).ok())
        .collect();
    let fits = elem == Elem::I32 && !dims.is_empty() && dims.iter().all(|&d| d < rank);
    b.require(op, fits, || format!("needs dimensions of the i32 result {ty}"))?;
    let index = || {
        let memory = strides(shape);
        let along = |i: usize| dims.iter().fold(0, |acc, &d| acc * shape[d] + i / memory[d] % shape[d]);
        i32::wrap((0..volume(shape)).map(|i| along(i) as i32).collect())
    };
    let value = b.vector_constant(&ty, format!("iota {dims:?}"), index);
    let out = b.result(op, ty)?;
    b.constant(out, value);
    Ok(None)
}

/// Lane `i` moves to `i + amount`, around the end.
pub(super) fn rotate<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let x = b.operand(op, 0)?;
    let (shape, elem) = vector(b, op, &x.ty)?;
    let strided = ["stride", "stride_dimension"].iter().any(|a| op.attributes.get(a).is_some());
    b.require(op, !strided, || "a rotation with a stride is not supported".to_owned())?;
    let axis = dimension(b, op, &["dimension"], shape.len())?;
    let (extent, inner) = (shape[axis], volume(&shape[axis + 1..]));
    let amount = if op.name == "tpu.dynamic_rotate" {
        b.expect_operands(op, 2)?;
        let amount = b.operand(op, 1)?;
        b.expect_type(op, &amount.ty, &Type::I32)?;
        Err(amount.arg)
    } else {
        b.expect_operands(op, 1)?;
        match op.attributes.int("amount") {
            Some(amount) => Ok(amount),
            None => return b.reject(op, "needs an amount"),
        }
    };
    let out = b.result(op, x.ty.clone())?;
    let arg = x.arg;
    for_lane!(elem, L => step(move |m| {
        let by = amount.unwrap_or_else(|a| m.int(a)).rem_euclid(extent as i64) as usize;
        let mut lanes = m.lanes::<L>(arg).to_vec();
        lanes.chunks_exact_mut(extent * inner).for_each(|block| block.rotate_right(by * inner));
        m.set(out, L::wrap(lanes));
        Ok(())
    }))
}

/// Lane `i` along the dimension becomes lane `index[i]`.
pub(super) fn gather<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x, index] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (shape, elem) = vector(b, op, &x.ty)?;
    let axes = op.attributes.ints("dimensions").unwrap_or_default();
    let axis = match axes.as_slice() {
        [d] if usize::try_from(*d).is_ok_and(|d| d < shape.len()) => *d as usize,
        _ => return b.reject(op, "gathers along one dimension"),
    };
    let (places, e) = vector(b, op, &index.ty)?;
    let fits = e == Elem::I32
        && places.len() == shape.len()
        && (0..places.len()).all(|d| d == axis || places[d] == shape[d]);
    b.require(op, fits, || format!("{} does not index {}", index.ty, x.ty))?;
    b.expect_type(op, &ty, &Type::Vector(places.to_vec(), elem))?;
    let (extent, picks, inner) = (shape[axis], places[axis], volume(&shape[axis + 1..]));
    let out = b.result(op, ty)?;
    let (arg, index) = (x.arg, index.arg);
    for_lane!(elem, L => step(move |m| {
        let (source, index) = (m.lanes::<L>(arg), m.lanes::<i32>(index));
        let mut lanes = Vec::with_capacity(index.len());
        for (i, &at) in index.iter().enumerate() {
            let Some(at) = usize::try_from(at).ok().filter(|&at| at < extent) else {
                let message = format!("lane {i} gathers {at} of {extent}");
                return Err(m.fault(FaultKind::OutOfBounds, message).into());
            };
            lanes.push(source[(i / (picks * inner) * extent + at) * inner + i % inner]);
        }
        m.set(out, L::wrap(lanes));
        Ok(())
    }))
}

/// Copies of the whole vector one after another along a dimension.
pub(super) fn repeat<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (shape, elem) = vector(b, op, &x.ty)?;
    let axis = dimension(b, op, &["dimension"], shape.len())?;
    let times = op
        .attributes
        .int("times")
        .and_then(|t| usize::try_from(t).ok())
        .filter(|t| (1..=1 << 16).contains(t));
    let Some(times) = times else { return b.reject(op, "needs a positive number of times") };
    let mut expected = shape.to_vec();
    expected[axis] *= times;
    b.expect_type(op, &ty, &Type::Vector(expected, elem))?;
    let block = volume(&shape[axis..]);
    let dims = vec![(volume(&shape[..axis]), block), (times, 0), (block, 1)];
    let out = b.result(op, ty)?;
    strided_step(x.arg, out, elem, 0, dims)
}
