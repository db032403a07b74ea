//! `tpu.matmul`.
//!
//! Every element of the result is `acc + sum`, the sum over the contracted dimension in the order of
//! `RunOptions::matmul`, starting from zero, in f32. Products of bf16 are exact in f32, so there a fused
//! multiply-add gives the same bits and is used where the machine has one; products of f32 are rounded to f32
//! first. `precision` changes nothing: f32 operands are never split or rounded to bf16.

use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::error::Result;
use crate::emulator::lanes::{Lanes, room};
use crate::emulator::options::ReductionOrder;
use crate::emulator::simd::{fused, vectorised};
use crate::emulator::text::ast::{Attribute, Op};
use crate::emulator::types::{Elem, Type, strides};
use crate::emulator::value::Lane;
use std::sync::Arc;

/// Rows and columns of the register tile.
const MR: usize = 6;
const NR: usize = 16;

/// A matrix in a vector: sizes and strides of the kept and the contracted dimension.
#[derive(Clone, Copy)]
struct Side {
    kept: usize,
    kept_stride: usize,
    contracted: usize,
    contracted_stride: usize,
    /// Elements from one batch to the next.
    batch_stride: usize,
}

pub(super) fn build<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [lhs, rhs, acc] = b.operands(op)?;
    for x in [&lhs, &rhs, &acc] {
        b.require(op, matches!(x.ty, Type::Vector(..)), || format!("{} is no vector", x.ty))?;
    }
    let (a, c) = (lhs.ty.elem(), rhs.ty.elem());
    b.require(op, a.is_float() && c.is_float(), || {
        format!("multiplies bf16 and f32, not {} by {}", lhs.ty, rhs.ty)
    })?;
    b.require(op, acc.ty.elem() == Elem::F32, || format!("the accumulator must be f32, not {}", acc.ty))?;
    if op.attributes.get("transpose_lhs_hint").is_none() && op.attributes.get("transpose_lhs").is_none() {
        return b.reject(op, "requires attribute 'transpose_lhs_hint'");
    }
    let numbers = dimension_numbers(b, op)?;
    let [lc, rc, ln, rn, output, lb, rb] = &numbers;
    let batched = lb.len();
    let sides = (side(lhs.ty.shape(), lc, ln, lb), side(rhs.ty.shape(), rc, rn, rb));
    let (Some(left), Some(right)) = sides else {
        return b.reject(op, format!("dimension numbers {numbers:?} do not fit {} and {}", lhs.ty, rhs.ty));
    };
    let batches = if batched == 1 { lhs.ty.shape()[0] } else { 1 };
    // Pairs of operand and dimension: the result's dimensions in order.
    let expected_output: Vec<usize> = (0..batched).flat_map(|_| [0, 0]).chain([0, ln[0], 1, rn[0]]).collect();
    let fits = left.contracted == right.contracted
        && (batched == 0 || (batched == 1 && rhs.ty.shape()[0] == batches))
        && *output == expected_output;
    b.require(op, fits, || format!("dimension numbers {numbers:?} do not fit {} and {}", lhs.ty, rhs.ty))?;
    let mut shape = vec![left.kept, right.kept];
    if batched == 1 {
        shape.insert(0, batches);
    }
    let ty = Type::Vector(shape, Elem::F32);
    b.expect_type(op, &acc.ty, &ty)?;
    let out = b.result(op, ty)?;
    let (lhs, rhs, acc) = (lhs.arg, rhs.arg, acc.arg);
    let exact = a == Elem::Bf16 && c == Elem::Bf16;
    let work = (batches * left.kept * right.kept * left.contracted) as u64;
    step(move |m| {
        m.report.multiply_adds += work;
        let mut sum = m.take_lanes::<f32>(acc);
        let order = m.options.matmul;
        let (a, b) = (m.lanes::<f32>(lhs), m.lanes::<f32>(rhs));
        let size = left.kept * right.kept;
        for (batch, c) in Arc::make_mut(&mut sum).chunks_exact_mut(size).enumerate() {
            let (a, b) = (&a[batch * left.batch_stride..], &b[batch * right.batch_stride..]);
            product(a, left, b, right, c, order, exact);
        }
        m.set(out, f32::share(sum));
        Ok(())
    })
}

fn side(shape: &[usize], contracted: &[usize], kept: &[usize], batch: &[usize]) -> Option<Side> {
    let (&[c], &[k]) = (contracted, kept) else { return None };
    let mut all: Vec<usize> = contracted.iter().chain(kept).chain(batch).copied().collect();
    all.sort_unstable();
    // A batch dimension comes first.
    if !all.iter().copied().eq(0..shape.len()) || !matches!(batch, [] | [0]) {
        return None;
    }
    let memory = strides(shape);
    Some(Side {
        kept: shape[k],
        kept_stride: memory[k],
        contracted: shape[c],
        contracted_stride: memory[c],
        batch_stride: if batch.is_empty() { 0 } else { memory[0] },
    })
}

/// The seven lists of `#tpu.dot_dimension_numbers`; without it the plain product.
fn dimension_numbers<'t>(b: &Builder<'_, 't>, op: &Op<'t>) -> Result<[Vec<usize>; 7]> {
    let text = match op.attributes.get("dimension_numbers") {
        None => {
            let flag = |name| usize::from(op.attributes.bool(name).unwrap_or(false));
            let (l, r) = (flag("transpose_lhs"), flag("transpose_rhs"));
            let output = vec![0, l, 1, 1 - r];
            return Ok([vec![1 - l], vec![r], vec![l], vec![1 - r], output, vec![], vec![]]);
        }
        Some(Attribute::Dialect("tpu.dot_dimension_numbers", text)) => text,
        Some(_) => return b.reject(op, "dimension_numbers must be #tpu.dot_dimension_numbers"),
    };
    let lists: Option<Vec<Vec<usize>>> = text
        .split('[')
        .skip(1)
        .map(|list| {
            let (items, _) = list.split_once(']')?;
            items.split(',').map(str::trim).filter(|i| !i.is_empty()).map(|i| i.parse().ok()).collect()
        })
        .collect();
    match lists.and_then(|l| <[Vec<usize>; 7]>::try_from(l).ok()) {
        Some(lists) => Ok(lists),
        None => b.reject(op, format!("cannot read dimension numbers '{text}'")),
    }
}

/// `c += a b`.
fn product(a: &[f32], left: Side, b: &[f32], right: Side, c: &mut [f32], order: ReductionOrder, exact: bool) {
    let depth = left.contracted;
    let left_panels = pack::<MR>(a, left);
    let mut right_panel = zeros(depth * NR);
    for first in (0..right.kept).step_by(NR) {
        let columns = NR.min(right.kept - first);
        pack_panel::<NR>(b, right, first, columns, &mut right_panel);
        for (panel, rows) in left_panels.chunks_exact(depth * MR).zip(0..) {
            let tile = match order {
                ReductionOrder::Sequential => sequential(panel, &right_panel, exact),
                ReductionOrder::BalancedTree => vectorised(
                    #[inline(always)]
                    || tree(panel, &right_panel),
                ),
            };
            for (i, sums) in tile.iter().enumerate().take(left.kept - rows * MR) {
                let start = (rows * MR + i) * right.kept + first;
                c[start..start + columns].iter_mut().zip(sums).for_each(|(c, s)| *c += s);
            }
        }
    }
}

fn zeros(n: usize) -> Lanes<f32> {
    let mut lanes = room(n);
    lanes.resize(n, 0.0);
    Lanes::from(lanes)
}

/// All panels of `W` kept rows, each with the contracted dimension outermost; missing rows are zero.
fn pack<const W: usize>(source: &[f32], side: Side) -> Lanes<f32> {
    let mut out = zeros(side.kept.div_ceil(W) * W * side.contracted);
    for (panel, first) in out.chunks_exact_mut(W * side.contracted).zip((0..side.kept).step_by(W)) {
        pack_panel::<W>(source, side, first, W.min(side.kept - first), panel);
    }
    out
}

fn pack_panel<const W: usize>(source: &[f32], side: Side, first: usize, width: usize, panel: &mut [f32]) {
    if width < W {
        panel.fill(0.0);
    }
    if side.kept_stride == 1 {
        for (k, row) in panel.chunks_exact_mut(W).enumerate() {
            let start = k * side.contracted_stride + first;
            row[..width].copy_from_slice(&source[start..start + width]);
        }
        return;
    }
    for lane in 0..width {
        let start = (first + lane) * side.kept_stride;
        let column = source[start..].iter().step_by(side.contracted_stride).take(side.contracted);
        panel[lane..].iter_mut().step_by(W).zip(column).for_each(|(p, &x)| *p = x);
    }
}

type Tile = [[f32; NR]; MR];

fn sequential(a: &[f32], b: &[f32], exact: bool) -> Tile {
    // On machines without fused multiply-add the separate product is as exact.
    if exact
        && let Some(tile) = fused(
            #[inline(always)]
            || accumulate(a, b, |x, y, z| x.mul_add(y, z)),
        )
    {
        return tile;
    }
    vectorised(
        #[inline(always)]
        || accumulate(a, b, |x, y, z| x * y + z),
    )
}

#[inline(always)]
fn accumulate(a: &[f32], b: &[f32], multiply_add: impl Fn(f32, f32, f32) -> f32) -> Tile {
    let mut tile = [[0.0; NR]; MR];
    let (a, _) = a.as_chunks::<MR>();
    let (b, _) = b.as_chunks::<NR>();
    for (x, y) in a.iter().zip(b) {
        for i in 0..MR {
            for j in 0..NR {
                tile[i][j] = multiply_add(x[i], y[j], tile[i][j]);
            }
        }
    }
    tile
}

/// Products that `tree` adds in registers.
const LEAF: usize = 8;

/// Partial sums as the digits of a binary counter: level `l` holds the sum of a complete subtree of `2^l` products.
#[inline(always)]
fn tree(a: &[f32], b: &[f32]) -> Tile {
    let (a, _) = a.as_chunks::<MR>();
    let (b, _) = b.as_chunks::<NR>();
    let (a_leaves, a_rest) = a.as_chunks::<LEAF>();
    let (b_leaves, b_rest) = b.as_chunks::<LEAF>();
    let mut levels: Vec<(u32, Tile)> = Vec::with_capacity(usize::BITS as usize);
    for (x, y) in a_leaves.iter().zip(b_leaves) {
        let mut tile = [[0.0; NR]; MR];
        for i in 0..MR {
            for j in 0..NR {
                let p = |k: usize| x[k][i] * y[k][j];
                tile[i][j] = ((p(0) + p(1)) + (p(2) + p(3))) + ((p(4) + p(5)) + (p(6) + p(7)));
            }
        }
        push(&mut levels, LEAF.ilog2(), tile);
    }
    for (x, y) in a_rest.iter().zip(b_rest) {
        let mut tile = [[0.0; NR]; MR];
        for i in 0..MR {
            for j in 0..NR {
                tile[i][j] = x[i] * y[j];
            }
        }
        push(&mut levels, 0, tile);
    }
    let (_, mut sum) = levels.pop().unwrap_or_default();
    while let Some((_, left)) = levels.pop() {
        add(&mut sum, &left);
    }
    sum
}

#[inline(always)]
fn push(levels: &mut Vec<(u32, Tile)>, mut level: u32, mut tile: Tile) {
    while let Some((_, left)) = levels.pop_if(|(l, _)| *l == level) {
        add(&mut tile, &left);
        level += 1;
    }
    levels.push((level, tile));
}

#[inline(always)]
fn add(right: &mut Tile, left: &Tile) {
    for i in 0..MR {
        for j in 0..NR {
            right[i][j] += left[i][j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The balanced tree by definition: halves at the largest power of two.
    fn by_definition(products: &[f32]) -> f32 {
        match products {
            [] => 0.0,
            [one] => *one,
            _ => {
                let half = products.len().next_power_of_two() / 2;
                by_definition(&products[..half]) + by_definition(&products[half..])
            }
        }
    }

    #[test]
    fn orders_are_as_documented() {
        let value = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 7.0 - 71.0;
        for depth in [1, 2, 7, 8, 9, 23, 64, 100] {
            let (rows, columns) = (7, 19);
            let a: Vec<f32> = (0..rows * depth).map(value).collect();
            let b: Vec<f32> = (0..depth * columns).map(|i| value(i + 31)).collect();
            let left = Side {
                kept: rows,
                kept_stride: depth,
                contracted: depth,
                contracted_stride: 1,
                batch_stride: 0,
            };
            let right = Side {
                kept: columns,
                kept_stride: 1,
                contracted: depth,
                contracted_stride: columns,
                batch_stride: 0,
            };
            for order in [ReductionOrder::Sequential, ReductionOrder::BalancedTree] {
                let mut c = vec![0.5; rows * columns];
                product(&a, left, &b, right, &mut c, order, false);
                for (at, got) in c.iter().enumerate() {
                    let (i, j) = (at / columns, at % columns);
                    let products: Vec<f32> =
                        (0..depth).map(|k| a[i * depth + k] * b[k * columns + j]).collect();
                    let sum = match order {
                        ReductionOrder::Sequential => products.iter().fold(0.0, |s, p| s + p),
                        ReductionOrder::BalancedTree => by_definition(&products),
                    };
                    assert_eq!(*got, 0.5 + sum, "{order:?} depth {depth} element {i},{j}");
                }
            }
        }
    }
}
