//! Memory of a kernel's own, and views: slices and other shapes of the same memory.

use super::access::{memref, note, slice_or_fault};
use crate::emulator::alignment::AlignmentRule;
use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::error::EmulatorError;
use crate::emulator::machine::Arg;
use crate::emulator::memory::View;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Space, Type, volume};
use crate::emulator::value::Value;

/// Scratch memory; it exists before the kernel starts, like scratch arguments.
pub(super) fn alloca<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    b.expect_operands(op, 0)?;
    let ty = b.written_result(op)?;
    b.require(op, matches!(ty, Type::MemRef(_, _, Space::Vmem | Space::Smem | Space::Semaphore)), || {
        format!("allocates in vmem, smem or semaphore_mem, not {ty}")
    })?;
    b.require(op, b.calls == 0, || "only in the entry function".to_owned())?;
    let out = b.result(op, ty.clone())?;
    b.allocas.push((out, ty));
    Ok(None)
}

pub(super) fn slice<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let base = b.operand(op, 0)?;
    let ty = b.written_result(op)?;
    let (shape, elem, space) = memref(b, op, &base)?;
    let sizes = ty.shape().to_vec();
    let fits = ty == Type::MemRef(sizes.clone(), elem, space)
        && sizes.len() == shape.len()
        && op.operands.len() == shape.len() + 1
        && sizes.iter().zip(shape).all(|(s, n)| s <= n);
    b.require(op, fits, || format!("{} indices do not slice {} to {ty}", op.operands.len() - 1, base.ty))?;
    let indices = b.indices(op, 1..op.operands.len(), Elem::I32)?;
    if !elem.is_semaphore() && space != Space::Smem {
        let rank = shape.len();
        let mut found = Vec::new();
        for (from_end, tile) in [(2usize, 8usize), (1, 128)] {
            let Some(d) = rank.checked_sub(from_end) else { continue };
            // An array of few rows is tiled by fewer.
            let tile = if from_end == 2 { tile.min(shape[d].next_power_of_two()) } else { tile };
            if !b.divisor(indices[d]).divides_by(tile as u64) {
                found.push((AlignmentRule::SliceOffset, d));
            }
            if sizes[d] != shape[d] && !sizes[d].is_multiple_of(tile) {
                found.push((AlignmentRule::SliceSize, d));
            }
        }
        note(b, op, found);
    }
    let out = b.result(op, ty)?;
    let base = base.arg;
    let steps = vec![1; sizes.len()];
    step(move |m| {
        let start: Vec<i64> = indices.iter().map(|&i| m.int(i)).collect();
        let view = slice_or_fault(m, &m.view(base), &start, &sizes, &steps)?;
        m.set(out, Value::Ref(view.into()));
        Ok(())
    })
}

/// A step that makes one view from another.
fn view_step(base: Arg, out: usize, f: impl Fn(&View) -> View + Send + Sync + 'static) -> Built {
    step(move |m| {
        let view = f(&m.view(base));
        m.set(out, Value::Ref(view.into()));
        Ok(())
    })
}

/// Drops dimensions of size 1.
pub(super) fn squeeze<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [base] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (shape, elem, space) = memref(b, op, &base)?;
    let target = ty.shape().to_vec();
    // Match the kept dimensions from the left; dimensions of size 1 may go.
    let mut keep = Vec::new();
    for (d, &n) in shape.iter().enumerate() {
        let left = shape.len() - d;
        let wanted = target.len() - keep.len().min(target.len());
        if wanted > 0
            && target[keep.len()] == n
            && (n != 1 || left <= wanted || !rest_fits(&shape[d + 1..], &target[keep.len()..]))
        {
            keep.push(d);
        } else if n != 1 {
            return b.reject(op, format!("{} does not squeeze to {ty}", base.ty));
        }
    }
    let fits = keep.len() == target.len() && ty == Type::MemRef(target.clone(), elem, space);
    b.require(op, fits, || format!("{} does not squeeze to {ty}", base.ty))?;
    let out = b.result(op, ty)?;
    view_step(base.arg, out, move |v| View { dims: keep.iter().map(|&d| v.dims[d]).collect(), ..v.clone() })
}

/// Whether dropping ones from `shape` can still give `target`.
fn rest_fits(shape: &[usize], target: &[usize]) -> bool {
    match (shape, target) {
        (_, []) => shape.iter().all(|&n| n == 1),
        ([], _) => false,
        ([n, rest @ ..], [t, wanted @ ..]) => {
            (n == t && rest_fits(rest, wanted)) || (*n == 1 && rest_fits(rest, target))
        }
    }
}

/// Another shape of the same elements, which must lie without gaps.
pub(super) fn reshape<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [base] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (shape, elem, space) = memref(b, op, &base)?;
    let target = ty.shape().to_vec();
    let fits = ty == Type::MemRef(target.clone(), elem, space) && volume(shape) == volume(&target);
    b.require(op, fits, || format!("{} does not reshape to {ty}", base.ty))?;
    let (out, base) = (b.result(op, ty)?, base.arg);
    step(move |m| {
        let view = m.view(base);
        if !view.is_contiguous() {
            return Err(EmulatorError::verify(
                m.sites[m.site].location,
                "tpu.memref_reshape",
                "the memref has gaps: reshape before slicing",
            ));
        }
        let whole = View::whole(view.buffer, &target, view.elem);
        m.set(out, Value::Ref(View { offset: view.offset, ..whole }.into()));
        Ok(())
    })
}

/// The same bytes with another element type. A wider type takes neighbouring rows, the first in the low bits.
pub(super) fn bitcast<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [base] = b.operands(op)?;
    let ty = b.written_result(op)?;
    let (shape, from, space) = memref(b, op, &base)?;
    let to = ty.elem();
    let ratio = (to.bits() / from.bits().max(1)).max(1) as usize;
    let mut target = shape.to_vec();
    if let [.., rows, _] = target.as_mut_slice() {
        *rows /= ratio;
    }
    let numeric = |e: Elem| (e.is_float() || e.is_int()) && !matches!(e, Elem::I1 | Elem::Index);
    let fits = numeric(from)
        && numeric(to)
        && to.bits() >= from.bits()
        && volume(&target) * ratio == volume(shape)
        && ty == Type::MemRef(target, to, space);
    b.require(op, fits, || {
        format!("{} does not bitcast to {ty}: only to the same or a wider type", base.ty)
    })?;
    let (out, base) = (b.result(op, ty)?, base.arg);
    step(move |m| {
        let mut view = View::clone(&m.view(base));
        if ratio > 1 {
            let rows = view.dims.len() - 2;
            let (n, stride) = view.dims[rows];
            view.dims[rows] = (n / ratio, stride * ratio);
            view.pack = Some((ratio, stride));
        }
        view.elem = to;
        m.set(out, Value::Ref(view.into()));
        Ok(())
    })
}
