//! Loads, stores and views.

use crate::emulator::alignment::{AlignmentRule, Finding};
use crate::emulator::builder::{Builder, Operand, step};
use crate::emulator::error::Result;
use crate::emulator::fault::FaultKind;
use crate::emulator::lanes::room;
use crate::emulator::machine::{Arg, Machine, Step};
use crate::emulator::memory::{Run, View, Words};
use crate::emulator::simd::vectorised;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Space, Type, volume};
use crate::emulator::value::{Lane, Value};
use std::sync::Arc;

type Built = Result<Option<Step>>;

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
struct Access {
    base: Arg,
    indices: Vec<Arg>,
    sizes: Vec<usize>,
    steps: Vec<usize>,
    mask: Option<Arg>,
}

impl Access {
    /// Verifies an access of a vector type. `indices` are operand numbers.
    fn verify<'t>(
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
    fn view(&self, m: &Machine<'_>) -> Result<View> {
        let base = m.view(self.base);
        let start: Vec<i64> = self.indices.iter().map(|&i| m.int(i)).collect();
        slice_or_fault(m, &base, &start, &self.sizes, &self.steps)
    }
}

fn note<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>, found: Vec<(AlignmentRule, usize)>) {
    if op.dead {
        return;
    }
    for (rule, dimension) in found {
        b.findings.push(Finding { location: op.location, op: op.name.to_owned(), rule, dimension });
    }
}

fn slice_or_fault(
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

/// Operand numbers of a vector access: value, base, indices and mask.
struct Places {
    value: usize,
    base: usize,
    indices: std::ops::Range<usize>,
    mask: Option<usize>,
}

impl Places {
    fn load<'t>(b: &Builder<'_, 't>, op: &Op<'t>) -> Result<Places> {
        if op.name == "tpu.vector_load" {
            let groups = b.segments(op, 3)?;
            let mask = (groups[2].1 > 0).then_some(groups[2].0);
            return Ok(Places { value: 0, base: 0, indices: groups[1].0..groups[1].0 + groups[1].1, mask });
        }
        Ok(Places { value: 0, base: 0, indices: 1..op.operands.len(), mask: None })
    }

    fn store<'t>(b: &Builder<'_, 't>, op: &Op<'t>) -> Result<Places> {
        match op.name {
            "tpu.vector_store" => {
                let groups = b.segments(op, 4)?;
                let mask = (groups[3].1 > 0).then_some(groups[3].0);
                Ok(Places { value: 0, base: 1, indices: groups[2].0..groups[2].0 + groups[2].1, mask })
            }
            "tpu.strided_store" => {
                Ok(Places { value: 1, base: 0, indices: 2..op.operands.len(), mask: None })
            }
            _ => Ok(Places { value: 0, base: 1, indices: 2..op.operands.len(), mask: None }),
        }
    }
}

pub(super) fn vector_load<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let places = Places::load(b, op)?;
    let ty = b.written_result(op)?;
    let access = Access::verify(b, op, places.base, places.indices, places.mask, &ty)?;
    let elem = ty.elem();
    let out = b.result(op, ty)?;
    step(move |m| {
        m.tick();
        let view = access.view(m)?;
        m.before_read(&view)?;
        let mut value = read(m, &view);
        if let Some(mask) = access.mask {
            // Lanes that are masked off hold nothing in particular.
            let mask = m.lanes::<bool>(mask);
            value = match value {
                Value::Floats(v) => {
                    f32::wrap(v.iter().zip(mask).map(|(&x, &on)| if on { x } else { f32::NAN }).collect())
                }
                Value::Ints(v) => {
                    i32::wrap(v.iter().zip(mask).map(|(&x, &on)| if on { x } else { 0 }).collect())
                }
                other => other,
            };
        }
        debug_assert_eq!(elem, view.elem);
        m.set(out, value);
        Ok(())
    })
}

/// The elements of a view as a vector.
fn read(m: &Machine<'_>, view: &View) -> Value {
    let n = view.volume();
    let words = &m.buffers[view.buffer].words;
    if view.pack.is_some() {
        return from_bits(gather_packed(words, view), view.elem);
    }
    macro_rules! collect {
        ($words:expr, $convert:expr) => {{
            let mut out = room(n);
            view.for_each_run(|run| {
                let part = &$words[run.start..run.start + run.len];
                vectorised(
                    #[inline(always)]
                    || out.extend(part.iter().map($convert)),
                );
            });
            out
        }};
    }
    match (words, view.elem) {
        (Words::W32(w), Elem::F32) => f32::wrap(collect!(w, |&x| f32::from_bits(x))),
        (Words::W16(w), Elem::Bf16) => f32::wrap(collect!(w, |&x| f32::from_bits(u32::from(x) << 16))),
        (Words::W32(w), _) => i32::wrap(collect!(w, |&x| x as i32)),
        (Words::W16(w), _) => i32::wrap(collect!(w, |&x| i32::from(x as i16))),
        (Words::W8(w), _) => i32::wrap(collect!(w, |&x| i32::from(x as i8))),
        (Words::Semaphores(_), _) => unreachable!("verified as data"),
    }
}

/// Bits as lanes of an element type.
fn from_bits(bits: Vec<u32>, elem: Elem) -> Value {
    match elem {
        Elem::F32 => f32::wrap(bits.into_iter().map(f32::from_bits).collect()),
        Elem::Bf16 => f32::wrap(bits.into_iter().map(|x| f32::from_bits(x << 16)).collect()),
        Elem::I16 => i32::wrap(bits.into_iter().map(|x| i32::from(x as u16 as i16)).collect()),
        _ => i32::wrap(bits.into_iter().map(|x| x as i32).collect()),
    }
}

/// Buffer elements under every element of a packed view: low bits first.
fn packed_places(view: &View, mut f: impl FnMut(usize, usize)) {
    let (count, distance) = view.pack.unwrap_or((1, 0));
    let flat = View { pack: None, ..view.clone() };
    flat.for_each_run(|run| {
        for at in run.start..run.start + run.len {
            (0..count).for_each(|part| f(part, at + part * distance));
        }
    });
}

fn gather_packed(words: &Words, view: &View) -> Vec<u32> {
    let mut bits = Vec::with_capacity(view.volume());
    packed_places(view, |part, at| {
        let (x, width) = match words {
            Words::W8(w) => (u32::from(w[at]), 8),
            Words::W16(w) => (u32::from(w[at]), 16),
            Words::W32(w) => (w[at], 32),
            Words::Semaphores(_) => (0, 32),
        };
        match bits.last_mut() {
            Some(last) if part > 0 => *last |= x << (part * width),
            _ => bits.push(x),
        }
    });
    bits
}

pub(super) fn vector_store<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let places = Places::store(b, op)?;
    let value = b.operand(op, places.value)?;
    b.require(op, op.attributes.bool("add") != Some(true), || {
        "a store that adds is not supported".to_owned()
    })?;
    let access = Access::verify(b, op, places.base, places.indices, places.mask, &value.ty)?;
    let value = value.arg;
    step(move |m| {
        m.tick();
        let view = access.view(m)?;
        let value = m.take(value);
        match access.mask {
            None => {
                m.before_write(&view)?;
                write(m, &view, &value);
            }
            Some(mask) => {
                let mask = m.take_lanes::<bool>(mask);
                write_masked(m, &view, &value, &mask)?;
            }
        }
        Ok(())
    })
}

fn bits_of(value: &Value, lane: usize, elem: Elem) -> u32 {
    match value {
        Value::Floats(v) => v[lane].to_bits() >> if elem == Elem::Bf16 { 16 } else { 0 },
        Value::Ints(v) => v[lane] as u32,
        _ => unreachable!("verified as numbers"),
    }
}

fn write(m: &mut Machine<'_>, view: &View, value: &Value) {
    let words = &mut m.buffers[view.buffer].words;
    if let Some((count, _)) = view.pack {
        let mut element = 0;
        packed_places(view, |part, at| {
            put(words, at, bits_of(value, element, view.elem) >> (part * 32 / count));
            element += usize::from(part + 1 == count);
        });
        return;
    }
    let mut from = 0;
    macro_rules! copy {
        ($words:expr, $lanes:expr, $convert:expr) => {{
            let words = Arc::make_mut($words);
            view.for_each_run(|run| {
                let (to, lanes) = (&mut words[run.start..run.start + run.len], &$lanes[from..from + run.len]);
                vectorised(
                    #[inline(always)]
                    || to.iter_mut().zip(lanes).for_each(|(w, &x)| *w = $convert(x)),
                );
                from += run.len;
            })
        }};
    }
    match (words, value) {
        (Words::W32(w), Value::Floats(v)) => copy!(w, v, f32::to_bits),
        (Words::W16(w), Value::Floats(v)) => copy!(w, v, |x: f32| (x.to_bits() >> 16) as u16),
        (Words::W32(w), Value::Ints(v)) => copy!(w, v, |x: i32| x as u32),
        (Words::W16(w), Value::Ints(v)) => copy!(w, v, |x: i32| x as u16),
        (Words::W8(w), Value::Ints(v)) => copy!(w, v, |x: i32| x as u8),
        _ => unreachable!("verified as data"),
    }
}

fn put(words: &mut Words, at: usize, bits: u32) {
    match words {
        Words::W8(w) => Arc::make_mut(w)[at] = bits as u8,
        Words::W16(w) => Arc::make_mut(w)[at] = bits as u16,
        Words::W32(w) => Arc::make_mut(w)[at] = bits,
        Words::Semaphores(_) => {}
    }
}

/// Stores the lanes that the mask lets through; the others are not touched.
fn write_masked(m: &mut Machine<'_>, view: &View, value: &Value, mask: &[bool]) -> Result<()> {
    let mut places = Vec::new();
    let mut lane = 0;
    packed_places(view, |part, at| {
        lane += usize::from(part == 0);
        if mask[lane - 1] {
            places.push((lane - 1, part, at));
        }
    });
    let mut runs: Vec<Run> = places.iter().map(|&(_, _, start)| Run { start, len: 1 }).collect();
    runs.sort_unstable_by_key(|r| r.start);
    if m.dma.touches(view.buffer) {
        m.race(view.buffer, &runs, true, m.site)?;
    }
    let buffer = &mut m.buffers[view.buffer];
    runs.into_iter().for_each(|run| buffer.mark_written(run));
    let count = view.pack.map_or(1, |p| p.0);
    for (lane, part, at) in places {
        put(&mut buffer.words, at, bits_of(value, lane, view.elem) >> (part * 32 / count));
    }
    Ok(())
}

/// Scalars are read from and written to SMEM only.
fn scalar_access<'t>(b: &Builder<'_, 't>, op: &Op<'t>, base: usize) -> Result<(Arg, Vec<Arg>, Elem)> {
    let memory = b.operand(op, base)?;
    let (shape, elem, space) = memref(b, op, &memory)?;
    b.require(op, space == Space::Smem, || format!("scalars live in smem, not {}", space.name()))?;
    b.require(op, op.operands.len() == base + 1 + shape.len(), || format!("needs {} indices", shape.len()))?;
    let indices = b.indices(op, base + 1..op.operands.len(), Elem::Index)?;
    Ok((memory.arg, indices, elem))
}

fn scalar_view(m: &Machine<'_>, base: Arg, indices: &[Arg]) -> Result<View> {
    let base = m.view(base);
    let start: Vec<i64> = indices.iter().map(|&i| m.int(i)).collect();
    slice_or_fault(m, &base, &start, &vec![1; start.len()], &vec![1; start.len()])
}

pub(super) fn scalar_load<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let (base, indices, elem) = scalar_access(b, op, 0)?;
    let out = b.result(op, Type::Scalar(elem))?;
    step(move |m| {
        m.tick();
        let view = scalar_view(m, base, &indices)?;
        m.before_read(&view)?;
        let value = match read(m, &view) {
            Value::Floats(v) => Value::Float(v[0]),
            Value::Ints(v) => Value::Int(i64::from(v[0])),
            other => other,
        };
        m.set(out, value);
        Ok(())
    })
}

pub(super) fn scalar_store<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let value = b.operand(op, 0)?;
    let (base, indices, elem) = scalar_access(b, op, 1)?;
    b.expect_type(op, &value.ty, &Type::Scalar(elem))?;
    let value = value.arg;
    step(move |m| {
        m.tick();
        let view = scalar_view(m, base, &indices)?;
        m.before_write(&view)?;
        let lanes = match m.take(value) {
            Value::Float(x) => f32::wrap(vec![x]),
            Value::Int(x) => i32::wrap(vec![x as i32]),
            other => other,
        };
        write(m, &view, &lanes);
        Ok(())
    })
}

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
            return Err(crate::emulator::EmulatorError::verify(
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
