//! Loops, branches, calls and trace regions.

use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::error::Result;
use crate::emulator::fault::FaultKind;
use crate::emulator::machine::{Arg, Code, Machine};
use crate::emulator::text::ast::{Attribute, Op};
use crate::emulator::types::{Elem, Type};
use crate::emulator::value::Value;

/// Ops whose trips are counted.
pub(crate) const LOOPS: [&str; 2] = ["scf.for", "scf.while"];

/// Moves values all at once, so that loop-carried values may trade places.
fn transfer(m: &mut Machine<'_>, from: &[Arg], to: &[usize]) {
    match (from, to) {
        ([one], [slot]) => {
            let value = m.take(*one);
            m.set(*slot, value);
        }
        _ => {
            let values: Vec<Value> = from.iter().map(|&a| m.take(a)).collect();
            to.iter().zip(values).for_each(|(&slot, value)| m.set(slot, value));
        }
    }
}

/// Booleans in vectors and memrefs cannot be carried: the compiler fails to legalise the loop.
fn check_carried<'t>(b: &Builder<'_, 't>, op: &Op<'t>, types: &[Type]) -> Result<()> {
    for ty in types {
        let fits = !matches!(ty, Type::Vector(_, Elem::I1) | Type::MemRef(..));
        b.require(op, fits, || format!("a value of type {ty} cannot be carried through a loop"))?;
    }
    Ok(())
}

/// The operands of an op that start its loop-carried values.
fn carried<'t>(b: &Builder<'_, 't>, op: &Op<'t>, from: usize) -> Result<(Vec<Arg>, Vec<Type>)> {
    let mut args = Vec::new();
    let mut types = Vec::new();
    for i in from..op.operands.len() {
        let x = b.operand(op, i)?;
        args.push(x.arg);
        types.push(x.ty);
    }
    check_carried(b, op, &types)?;
    Ok((args, types))
}

pub(super) fn for_loop<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>, site: usize) -> Built {
    let [low, high, by] = [b.operand(op, 0)?, b.operand(op, 1)?, b.operand(op, 2)?];
    let ty = low.ty.clone();
    b.require(op, matches!(ty, Type::Scalar(Elem::I32 | Elem::Index)), || format!("does not count in {ty}"))?;
    b.expect_type(op, &high.ty, &ty)?;
    b.expect_type(op, &by.ty, &ty)?;
    let (start, types) = carried(b, op, 3)?;
    let [body] = op.regions.as_slice() else { return b.reject(op, "has one region") };
    let arguments: Vec<Type> = std::iter::once(ty).chain(types.clone()).collect();
    let written: Vec<Type> = body.arguments.iter().map(|a| a.1.clone()).collect();
    b.require(op, written == arguments, || {
        "the arguments of the body are not the counter and the carried values".to_owned()
    })?;
    b.require(op, op.result_types == types, || "the results are not the carried values".to_owned())?;
    let known = b.divisor(low.arg).sum(b.divisor(by.arg));
    let (slots, code) = b.loop_region(body, &["scf.yield"], &types, op.location, known)?;
    let outs = b.results(op, types)?;
    let (low, high, by) = (low.arg, high.arg, by.arg);
    step(move |m| {
        let (first, end, stride) = (m.int(low), m.int(high), m.int(by));
        if stride <= 0 {
            let message = format!("a step of {stride} never reaches the bound");
            return Err(m.fault(FaultKind::Deadlock, message).into());
        }
        transfer(m, &start, &slots[1..]);
        let mut i = first;
        while i < end {
            m.trips[site] += 1;
            m.set(slots[0], Value::Int(i));
            m.run(&code)?;
            transfer(m, &code.results, &slots[1..]);
            // Past the largest integer there is nothing left to count.
            let Some(next) = i.checked_add(stride) else { break };
            i = next;
        }
        let last: Vec<Arg> = slots[1..].iter().map(|&slot| Arg { slot, last: true }).collect();
        transfer(m, &last, &outs);
        Ok(())
    })
}

pub(super) fn while_loop<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>, site: usize) -> Built {
    let (start, types) = carried(b, op, 0)?;
    let [before, after] = op.regions.as_slice() else { return b.reject(op, "has two regions") };
    let written: Vec<Type> = before.arguments.iter().map(|a| a.1.clone()).collect();
    b.require(op, written == types, || "the arguments of the first region are not the operands".to_owned())?;
    let results = op.result_types.clone();
    check_carried(b, op, &results)?;
    let written: Vec<Type> = after.arguments.iter().map(|a| a.1.clone()).collect();
    b.require(op, written == results, || {
        "the arguments of the second region are not the results".to_owned()
    })?;
    let condition: Vec<Type> = std::iter::once(Type::BOOL).chain(results.clone()).collect();
    let (before_slots, before) = b.region(before, &["scf.condition"], &condition, op.location)?;
    let (after_slots, after) = b.region(after, &["scf.yield"], &types, op.location)?;
    let outs = b.results(op, results)?;
    step(move |m| {
        transfer(m, &start, &before_slots);
        loop {
            m.run(&before)?;
            let Some((condition, values)) = before.results.split_first() else { return Ok(()) };
            if m.int(*condition) == 0 {
                transfer(m, values, &outs);
                return Ok(());
            }
            transfer(m, values, &after_slots);
            m.trips[site] += 1;
            m.run(&after)?;
            transfer(m, &after.results, &before_slots);
        }
    })
}

pub(super) fn if_else<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [condition] = b.operands(op)?;
    b.expect_type(op, &condition.ty, &Type::BOOL)?;
    let types = op.result_types.clone();
    let (then, otherwise) = match op.regions.as_slice() {
        [then] if types.is_empty() => (then, None),
        [then, otherwise] => (then, Some(otherwise)),
        _ => return b.reject(op, "with results it needs both branches"),
    };
    let (_, then) = b.region(then, &["scf.yield"], &types, op.location)?;
    let otherwise = match otherwise {
        Some(region) => b.region(region, &["scf.yield"], &types, op.location)?.1,
        None => Code::default(),
    };
    let outs = b.results(op, types)?;
    let condition = condition.arg;
    step(move |m| {
        let branch = if m.int(condition) != 0 { &then } else { &otherwise };
        m.run(branch)?;
        transfer(m, &branch.results, &outs);
        Ok(())
    })
}

/// Inlines the callee.
pub(super) fn call<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let Some(Attribute::Symbol(name)) = op.attributes.get("callee") else {
        return b.reject(op, "needs a callee");
    };
    let module = b.module;
    let Some(callee) = module.functions.iter().find(|f| f.name == *name) else {
        return b.reject(op, format!("there is no function @{name}"));
    };
    let mut values = Vec::new();
    b.expect_operands(op, callee.body.arguments.len())?;
    for (i, (_, ty)) in callee.body.arguments.iter().enumerate() {
        let x = b.operand(op, i)?;
        b.expect_type(op, &x.ty, ty)?;
        values.push(x.arg);
    }
    b.require(op, op.result_types == callee.results, || format!("the results are not those of @{name}"))?;
    let (parameters, code) = b.isolated(op.location, |b| {
        let parameters = b.arguments(&callee.body)?;
        let code = b.body(&callee.body, &["return", "func.return"], &callee.results, callee.location)?;
        Ok((parameters, code))
    })?;
    let outs = b.results(op, callee.results.clone())?;
    step(move |m| {
        transfer(m, &values, &parameters);
        m.run(&code)?;
        transfer(m, &code.results, &outs);
        Ok(())
    })
}

/// Trace regions are counted by their message.
pub(super) fn trace<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    b.expect_operands(op, 0)?;
    let Some(Attribute::Str(message)) = op.attributes.get("message") else { return Ok(None) };
    let message = message.to_string();
    step(move |m| {
        match m.report.counts.get_mut(&message) {
            Some(count) => *count += 1,
            None => {
                m.report.counts.insert(message.clone(), 1);
            }
        }
        Ok(())
    })
}
