//! DMA starts and waits, and counting semaphores.

use super::access::memref;
use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::error::{EmulatorError, Result};
use crate::emulator::machine::Arg;
use crate::emulator::memory::View;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Space, Type};
use crate::emulator::value::Value;

/// An operand that is a semaphore of one kind.
fn semaphore_operand<'t>(b: &Builder<'_, 't>, op: &Op<'t>, i: usize, elem: Elem) -> Result<Arg> {
    let x = b.operand(op, i)?;
    b.expect_type(op, &x.ty, &Type::MemRef(Vec::new(), elem, Space::Semaphore))?;
    Ok(x.arg)
}

/// Refuses operand groups that concern other cores.
fn local_only<'t>(
    b: &Builder<'_, 't>,
    op: &Op<'t>,
    groups: &[(usize, usize)],
    remote: &[usize],
) -> Result<()> {
    let local = remote.iter().all(|&g| groups[g].1 == 0);
    b.require(op, local, || "only copies within one core are supported".to_owned())
}

pub(super) fn enqueue<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let groups = b.segments(op, 6)?;
    local_only(b, op, &groups, &[1, 4, 5])?;
    for (group, name) in [(0, "source"), (2, "target"), (3, "target_semaphore")] {
        b.require(op, groups[group].1 == 1, || format!("needs a {name}"))?;
    }
    let (source, target) = (b.operand(op, groups[0].0)?, b.operand(op, groups[2].0)?);
    let (from, e, from_space) = memref(b, op, &source)?;
    let (to, f, to_space) = memref(b, op, &target)?;
    let data = !e.is_semaphore() && from_space != Space::Semaphore;
    b.require(op, data && from == to && e == f, || format!("cannot copy {} to {}", source.ty, target.ty))?;
    let semaphore = semaphore_operand(b, op, groups[3].0, Elem::DmaSemaphore)?;
    let direction = (from_space, to_space);
    let (source, target) = (source.arg, target.arg);
    step(move |m| {
        let (from, to, semaphore) = (m.view(source), m.view(target), m.view(semaphore));
        if from.pack.is_some() || to.pack.is_some() {
            let location = m.sites[m.site].location;
            return Err(EmulatorError::verify(
                location,
                "tpu.enqueue_dma",
                "copies of a bitcast memref are not supported",
            ));
        }
        m.start_dma(View::clone(&from), View::clone(&to), &semaphore, direction)
    })
}

pub(super) fn wait<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let (semaphore, target) = if op.name == "tpu.wait_dma2" {
        let groups = b.segments(op, 5)?;
        local_only(b, op, &groups, &[3, 4])?;
        b.require(op, groups[..3].iter().all(|g| g.1 == 1), || "needs semaphore, src and dst".to_owned())?;
        b.operand(op, groups[1].0)?;
        (groups[0].0, groups[2].0)
    } else {
        let groups = b.segments(op, 4)?;
        local_only(b, op, &groups, &[1])?;
        b.require(op, groups[2].1 == 1 && groups[3].1 == 1, || {
            "needs target and target_semaphore".to_owned()
        })?;
        match op.attributes.bool("wait_target") {
            Some(true) => {}
            Some(false) => return b.reject(op, "the awaited semaphore must be provided: wait_target = true"),
            None => return b.reject(op, "requires attribute 'wait_target'"),
        }
        (groups[3].0, groups[2].0)
    };
    let target = b.operand(op, target)?;
    let (_, elem, _) = memref(b, op, &target)?;
    b.require(op, !elem.is_semaphore(), || format!("{} has no bytes to wait for", target.ty))?;
    let semaphore = semaphore_operand(b, op, semaphore, Elem::DmaSemaphore)?;
    // The wait counts the bytes of the destination, whatever it is.
    let bytes = target.ty.shape().iter().product::<usize>() * elem.bytes();
    step(move |m| {
        m.tick();
        let semaphore = m.view(semaphore);
        m.wait_dma(&semaphore, bytes)
    })
}

/// `tpu.sem_signal` and `tpu.sem_wait` of a counting semaphore on this core.
pub(super) fn semaphore<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    b.expect_operands(op, 2)?;
    let semaphore = semaphore_operand(b, op, 0, Elem::Semaphore)?;
    let amount = b.operand(op, 1)?;
    b.expect_type(op, &amount.ty, &Type::I32)?;
    let (amount, signal) = (amount.arg, op.name == "tpu.sem_signal");
    step(move |m| {
        let (semaphore, amount) = (m.view(semaphore), m.int(amount));
        if signal {
            m.signal(&semaphore, amount);
            return Ok(());
        }
        m.wait_semaphore(&semaphore, amount)
    })
}

pub(super) fn read_semaphore<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    b.expect_operands(op, 1)?;
    let semaphore = semaphore_operand(b, op, 0, Elem::Semaphore)?;
    let out = b.result(op, Type::I32)?;
    step(move |m| {
        let value = m.read_semaphore(&m.view(semaphore));
        m.set(out, Value::Int(value));
        Ok(())
    })
}
