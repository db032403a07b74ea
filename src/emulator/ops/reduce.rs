//! Reductions along dimensions.

use super::float::maximum;
use super::shape::gather_strided;
use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::options::ReductionOrder;
use crate::emulator::simd::vectorised;
use crate::emulator::text::ast::{Attribute, Op};
use crate::emulator::types::{Elem, Type, strides, volume};
use crate::emulator::value::{Lane, round_bf16, unsigned, wrap_int};

/// A vector seen as `outer x reduced x inner`.
#[derive(Clone, Copy)]
struct Extent {
    outer: usize,
    reduced: usize,
    inner: usize,
}

pub(super) fn multi_reduction<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x, init] = b.operands(op)?;
    let Type::Vector(shape, elem) = &x.ty else { return b.reject(op, format!("{} is no vector", x.ty)) };
    let (rank, elem) = (shape.len(), *elem);
    let given = op.attributes.ints("reduction_dims").unwrap_or_default();
    let mut dims: Vec<usize> =
        given.iter().filter_map(|&d| usize::try_from(d).ok().filter(|&d| d < rank)).collect();
    dims.sort_unstable();
    dims.dedup();
    b.require(op, dims.len() == given.len(), || format!("{given:?} are no dimensions of {}", x.ty))?;
    let kept: Vec<usize> = (0..rank).filter(|d| !dims.contains(d)).collect();
    let rest: Vec<usize> = kept.iter().map(|&d| shape[d]).collect();
    let ty = if rest.is_empty() { Type::Scalar(elem) } else { Type::Vector(rest.clone(), elem) };
    b.expect_type(op, &init.ty, &ty)?;
    // Adjacent dimensions reduce in place, others are moved to the end first.
    let adjacent = dims.windows(2).all(|w| w[1] == w[0] + 1);
    let reduced = dims.iter().map(|&d| shape[d]).product();
    let memory = strides(shape);
    let moved =
        (!adjacent).then(|| kept.iter().chain(&dims).map(|&d| (shape[d], memory[d])).collect::<Vec<_>>());
    let first = dims.first().copied().unwrap_or(rank);
    let (outer, inner) = if adjacent {
        (volume(&shape[..first]), volume(shape) / volume(&shape[..first]) / reduced)
    } else {
        (volume(&rest), 1)
    };
    let extent = Extent { outer, reduced, inner };
    let kind = match op.attributes.get("kind") {
        Some(Attribute::Str(kind)) => *kind,
        Some(Attribute::Dialect(_, kind)) => kind.trim(),
        _ => "",
    };
    let out = b.result(op, ty)?;
    let task = Task { x: x.arg, init: init.arg, out, extent, moved };
    let n = elem.bits();
    let round = elem == Elem::Bf16;
    let finish = move |x: f32| if round { round_bf16(x) } else { x };
    match (kind, elem.is_float()) {
        ("add", true) => task.build(|x: f32, y| x + y, finish),
        ("mul", true) => task.build(|x: f32, y| x * y, finish),
        ("maximumf", true) => task.build(maximum, finish),
        ("minimumf", true) => task.build(|x: f32, y| -maximum(-x, -y), finish),
        ("maxnumf", true) => task.build(f32::max, finish),
        ("minnumf", true) => task.build(f32::min, finish),
        (_, false) if elem == Elem::I1 => match kind {
            "and" | "minui" | "mul" => task.build(|x: bool, y| x & y, |x| x),
            "or" | "maxui" => task.build(|x: bool, y| x | y, |x| x),
            "xor" | "add" => task.build(|x: bool, y| x ^ y, |x| x),
            _ => b.reject(op, format!("no reduction '{kind}' of {elem}")),
        },
        ("add", false) => {
            task.build(|x: i32, y| x.wrapping_add(y), move |x| wrap_int(i64::from(x), n) as i32)
        }
        ("mul", false) => {
            task.build(|x: i32, y| x.wrapping_mul(y), move |x| wrap_int(i64::from(x), n) as i32)
        }
        ("maxsi", false) => task.build(|x: i32, y| x.max(y), |x| x),
        ("minsi", false) => task.build(|x: i32, y| x.min(y), |x| x),
        ("maxui", false) => task.build(move |x: i32, y| if less_unsigned(y, x, n) { x } else { y }, |x| x),
        ("minui", false) => task.build(move |x: i32, y| if less_unsigned(x, y, n) { x } else { y }, |x| x),
        ("and", false) => task.build(|x: i32, y| x & y, |x| x),
        ("or", false) => task.build(|x: i32, y| x | y, |x| x),
        ("xor", false) => task.build(|x: i32, y| x ^ y, |x| x),
        _ => b.reject(op, format!("no reduction '{kind}' of {elem}")),
    }
}

fn less_unsigned(x: i32, y: i32, bits: u32) -> bool {
    unsigned(i64::from(x), bits) < unsigned(i64::from(y), bits)
}

struct Task {
    x: crate::emulator::machine::Arg,
    init: crate::emulator::machine::Arg,
    out: usize,
    extent: Extent,
    moved: Option<Vec<(usize, usize)>>,
}

impl Task {
    /// Reduces, then combines with the initial value, then `finish`es: a bf16 sum is rounded once.
    fn build<L: Lane>(
        self,
        f: impl Fn(L, L) -> L + Copy + Send + Sync + 'static,
        finish: impl Fn(L) -> L + Copy + Send + Sync + 'static,
    ) -> Built {
        let Task { x, init, out, extent, moved } = self;
        step(move |m| {
            let order = m.options.reduction;
            let source = m.lanes::<L>(x);
            let packed = moved.as_ref().map(|dims| gather_strided(source, 0, dims));
            let source = packed.as_deref().unwrap_or(source);
            let reduced = vectorised(
                #[inline(always)]
                || match order {
                    ReductionOrder::Sequential => sequential(source, extent, f),
                    ReductionOrder::BalancedTree => tree(source, extent, f),
                },
            );
            let value = match L::from_scalar(&m.slots[init.slot]) {
                Some(start) => finish(f(start, reduced[0])).into_scalar(),
                None => {
                    L::wrap(m.lanes::<L>(init).iter().zip(&reduced).map(|(&a, &r)| finish(f(a, r))).collect())
                }
            };
            m.set(out, value);
            Ok(())
        })
    }
}

/// First to last. Eight rows at a time where lanes are reduced, so that the chains of additions overlap.
#[inline(always)]
fn sequential<L: Lane>(source: &[L], e: Extent, f: impl Fn(L, L) -> L) -> Vec<L> {
    let mut out = Vec::with_capacity(e.outer * e.inner);
    if e.inner > 1 {
        for block in source.chunks_exact(e.reduced * e.inner) {
            let (first, rest) = block.split_at(e.inner);
            let at = out.len();
            out.extend_from_slice(first);
            let acc = &mut out[at..];
            for row in rest.chunks_exact(e.inner) {
                acc.iter_mut().zip(row).for_each(|(a, &x)| *a = f(*a, x));
            }
        }
        return out;
    }
    let mut rows = source.chunks_exact(e.reduced);
    while rows.len() >= 8 {
        let group: [&[L]; 8] = std::array::from_fn(|_| rows.next().unwrap_or_default());
        let mut acc = group.map(|row| row[0]);
        for k in 1..e.reduced {
            acc.iter_mut().zip(group).for_each(|(a, row)| *a = f(*a, row[k]));
        }
        out.extend(acc);
    }
    out.extend(rows.map(|row| row[1..].iter().fold(row[0], |a, &x| f(a, x))));
    out
}

/// Neighbours first.
#[inline(always)]
fn tree<L: Lane>(source: &[L], e: Extent, f: impl Fn(L, L) -> L) -> Vec<L> {
    let mut out = Vec::with_capacity(e.outer * e.inner);
    let mut level = Vec::new();
    for block in source.chunks_exact(e.reduced * e.inner) {
        level.clear();
        level.extend_from_slice(block);
        let mut n = e.reduced;
        while n > 1 {
            for pair in 0..n / 2 {
                for lane in 0..e.inner {
                    let (x, y) = (level[2 * pair * e.inner + lane], level[(2 * pair + 1) * e.inner + lane]);
                    level[pair * e.inner + lane] = f(x, y);
                }
            }
            if n % 2 == 1 {
                level.copy_within((n - 1) * e.inner..n * e.inner, n / 2 * e.inner);
            }
            n = n.div_ceil(2);
        }
        out.extend_from_slice(&level[..e.inner]);
    }
    out
}

/// Index of the first largest or smallest lane along a dimension; a NaN counts as the extreme.
pub(super) fn reduce_index<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x] = b.operands(op)?;
    let Type::Vector(shape, elem) = x.ty.clone() else {
        return b.reject(op, format!("{} is no vector", x.ty));
    };
    let axis = op.attributes.int("axis").and_then(|a| usize::try_from(a).ok()).filter(|&a| a < shape.len());
    let Some(axis) = axis else { return b.reject(op, "needs an axis of the operand") };
    let largest = match op.attributes.get("kind") {
        Some(Attribute::Dialect("tpu.reduction_kind", kind)) if kind.trim() == "arg_max" => true,
        Some(Attribute::Dialect("tpu.reduction_kind", kind)) if kind.trim() == "arg_min" => false,
        _ => return b.reject(op, "needs the kind arg_max or arg_min"),
    };
    b.require(op, elem == Elem::F32, || format!("takes f32, not {elem}"))?;
    let rest: Vec<usize> = shape.iter().enumerate().filter(|(d, _)| *d != axis).map(|(_, &n)| n).collect();
    let out = b.result(op, Type::Vector(rest, Elem::I32))?;
    let (outer, n, inner) = (volume(&shape[..axis]), shape[axis], volume(&shape[axis + 1..]));
    let arg = x.arg;
    step(move |m| {
        let source = m.lanes::<f32>(arg);
        let mut lanes = Vec::with_capacity(outer * inner);
        for (block, lane) in (0..outer).flat_map(|o| (0..inner).map(move |l| (o, l))) {
            let at = |k: usize| source[(block * n + k) * inner + lane];
            let beats = |k: usize, best: usize| {
                let (x, y) = (at(k), at(best));
                !y.is_nan() && (x.is_nan() || if largest { x > y } else { x < y })
            };
            lanes.push((1..n).fold(0, |best, k| if beats(k, best) { k } else { best }) as i32);
        }
        m.set(out, i32::wrap(lanes));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_differ_only_in_grouping() {
        let x: Vec<f32> = (0..7).map(|i| if i == 0 { 1e8 } else { 1.0 }).collect();
        let e = Extent { outer: 1, reduced: 7, inner: 1 };
        let f = |a: f32, b: f32| a + b;
        assert_eq!(sequential(&x, e, f), [1e8]);
        let pairs = ((1e8f32 + 1.0) + 2.0) + (2.0 + 1.0);
        assert_eq!(tree(&x, e, f), [pairs]);
        let rows: Vec<f32> = (0..40).map(|i| i as f32).collect();
        for e in [Extent { outer: 10, reduced: 4, inner: 1 }, Extent { outer: 2, reduced: 4, inner: 5 }] {
            assert_eq!(sequential(&rows, e, f), tree(&rows, e, f));
        }
    }
}
