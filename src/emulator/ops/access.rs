//! Boxes of memrefs that ops access: typing, alignment, bounds.

use crate::emulator::alignment::{AlignmentRule, Finding};
use crate::emulator::builder::{Builder, Operand};
use crate::emulator::error::Result;
use crate::emulator::fault::FaultKind;
use crate::emulator::machine::{Arg, Machine};
use crate::emulator::memory::View;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Space, Type};

/// A memref operand's shape, element type and space.
pub(super) fn memref<'t, 'x>(
    b: &Builder<'_, 't>,
    op: &Op<'t>,
    x: &'x Operand,
) -> Result<(&'x [usize], Elem, Space)> {
    match &x.ty {
        Type::MemRef(shape, elem, space) => Ok((shape, *elem, *space)),
        other => b.reject(op, format!("{other} is no memref")),
    }
}

/// A box of a memref that a vector op accesses.
pub(super) struct Access {
    base: Arg,
    indices: Vec<Arg>,
    sizes: Vec<usize>,
    steps: Vec<usize>,
    pub(super) mask: Option<Arg>,
}

impl Access {
    /// Verifies an access of a vector type. `indices` are operand numbers.
    pub(super) fn verify<'t>(
        b: &mut Builder<'_, 't>,
        op: &Op<'t>,
        base: usize,
        indices: std::ops::Range<usize>,
        mask: Option<usize>,
        ty: &Type,
    ) -> Result<Access> {
        let base = b.operand(op, base)?;
        let (shape, elem, space) = memref(b, op, &base)?;
        let Type::Vector(sizes, lane) = ty else { return b.reject(op, format!("{ty} is no vector")) };
        b.require(op, space == Space::Vmem, || format!("vectors live in vmem, not {}", space.name()))?;
        let fits = *lane == elem && elem != Elem::I1 && sizes.len() <= shape.len();
        b.require(op, fits, || format!("{ty} does not fit {}", base.ty))?;
        b.require(op, indices.len() == shape.len(), || format!("needs {} indices", shape.len()))?;
        let indices = b.indices(op, indices, Elem::Index)?;
        let mut steps = vec![1; sizes.len()];
        if let Some(strides) = op.attributes.ints("strides").filter(|s| !s.is_empty()) {
            let given: Vec<usize> = strides
                .iter()
                .filter_map(|&s| usize::try_from(s).ok().filter(|s| (1..=1 << 31).contains(s)))
                .collect();
            b.require(op, given.len() == sizes.len(), || format!("needs {} positive strides", sizes.len()))?;
            steps = given;
        }
        let mask = match mask {
            Some(i) => {
                let mask = b.operand(op, i)?;
                b.expect_type(op, &mask.ty, &ty.with_elem(Elem::I1))?;
                Some(mask.arg)
            }
            None => None,
        };
        let access = Access { base: base.arg, indices, sizes: sizes.clone(), steps, mask };
        access.check_alignment(b, op, shape, elem);
        Ok(access)
    }

    /// Notes accesses that the compiler refuses.
    fn check_alignment<'t>(&self, b: &mut Builder<'_, 't>, op: &Op<'t>, shape: &[usize], elem: Elem) {
        let rank = shape.len();
        let strided = op.name.starts_with("tpu.strided");
        let mut found = Vec::new();
        if strided && shape.last() != Some(&128) {
            found.push((AlignmentRule::StridedMinor, rank.saturating_sub(1)));
        }
        let one_row =
            elem == Elem::F32 && rank >= 2 && self.sizes.iter().rev().nth(1).is_none_or(|&n| n == 1);
        for (from_end, tile, rule) in
            [(2, 8, AlignmentRule::DynamicSublane), (1, 128, AlignmentRule::DynamicLane)]
        {
            let Some(d) = rank.checked_sub(from_end) else { continue };
            let exempt = from_end == 2 && (one_row || strided);
            let index = self.indices[d];
            if !exempt && b.constant_of(index).is_none() && !b.divisor(index).divides_by(tile) {
                found.push((rule, d));
            }
        }
        note(b, op, found);
    }

    /// The view at run time, or an out-of-bounds fault.
    pub(super) fn view(&self, m: &Machine<'_>) -> Result<View> {
        let base = m.view(self.base);
        let start: Vec<i64> = self.indices.iter().map(|&i| m.int(i)).collect();
        slice_or_fault(m, &base, &start, &self.sizes, &self.steps)
    }
}

pub(super) fn note<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>, found: Vec<(AlignmentRule, usize)>) {
    if op.dead {
        return;
    }
    for (rule, dimension) in found {
        b.findings.push(Finding { location: op.location, op: op.name.to_owned(), rule, dimension });
    }
}

pub(super) fn slice_or_fault(
    m: &Machine<'_>,
    base: &View,
    start: &[i64],
    sizes: &[usize],
    steps: &[usize],
) -> Result<View> {
    base.slice(start, sizes, steps).map_err(|d| {
        let shape: Vec<usize> = base.dims.iter().map(|d| d.0).collect();
        let name = &m.buffers[base.buffer].name;
        let message = format!("{sizes:?} at {start:?} leaves {name} of shape {shape:?} in dimension {d}");
        m.fault(FaultKind::OutOfBounds, message).into()
    })
}
