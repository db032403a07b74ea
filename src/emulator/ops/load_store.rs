//! Loads and stores.

use super::access::{Access, memref, slice_or_fault};
use super::elements::{read, write, write_masked};
use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::error::Result;
use crate::emulator::machine::{Arg, Machine};
use crate::emulator::memory::View;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Space, Type};
use crate::emulator::value::{Lane, Value};

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
