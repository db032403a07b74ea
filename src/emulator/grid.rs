//! Running a kernel: memory, grid steps, and the pipeline that moves windows.

use super::error::{EmulatorError, Result};
use super::fault::FaultKind;
use super::machine::{Machine, Site};
use super::memory::{Buffer, Role, Run, View};
use super::operands::Operands;
use super::options::{GridOrder, RunOptions};
use super::report::{LoopCount, Outcome};
use super::rng::Rng;
use super::signature::{Argument, Bound, Signature, Transform, Window};
use super::tensor::Tensor;
use super::types::{Elem, volume};
use super::value::Value;
use std::sync::Arc;

/// Bytes that all buffers of a run may take together.
const MAX_MEMORY: usize = 16 << 30;

/// A window at run time: the array in device memory and the block that is in VMEM or SMEM.
struct Port<'s> {
    window: &'s Window,
    array: View,
    block: View,
    output: bool,
    /// Where the block starts in the array, once a step has run.
    start: Option<Vec<i64>>,
}

pub(super) fn run(
    signature: &Signature,
    sites: &[Site],
    mut operands: Operands,
    options: &RunOptions,
) -> Result<Outcome> {
    let mut machine = Machine::new(sites, options);
    let bounds = bounds(signature, &operands)?;
    let arrays = arrays(signature, &mut operands, &mut machine)?;
    let mut frame = signature.main.frame();
    let arguments = &signature.main.arguments[bounds.len()..];
    let prefetch = signature.prefetch.len();
    let mut prefetched = Vec::new();
    for (i, a) in signature.prefetch.iter().enumerate() {
        // SMEM has its own copy; kernels may keep state in it.
        let words = operands.inputs[i].words();
        let view = allocate(&mut machine, Buffer::filled(&a.name, a.elem, words, Role::Input), &a.shape);
        prefetched.push(Value::Ref(Arc::new(view)));
        frame[arguments[i]] = prefetched[i].clone();
    }
    let inputs = operands.inputs.len() - prefetch;
    let mut ports = Vec::new();
    for (i, a) in signature.operands.iter().enumerate() {
        let view = match &signature.windows[i] {
            None => arrays[i].clone(),
            Some(window) => {
                let output = i >= inputs;
                let role = if output { Role::Output } else { Role::Input };
                let buffer = Buffer::uninitialised(&a.name, a.elem, volume(&a.shape), role);
                let block = allocate(&mut machine, buffer, &a.shape);
                ports.push(Port {
                    window,
                    array: arrays[i].clone(),
                    block: block.clone(),
                    output,
                    start: None,
                });
                block
            }
        };
        frame[arguments[prefetch + i]] = Value::Ref(Arc::new(view));
    }
    let scratch_slots = &arguments[prefetch + signature.operands.len()..];
    let scratch = scratch_slots.iter().copied().zip(&signature.scratch);
    for (slot, a) in scratch.chain(signature.allocas.iter().map(|(slot, a)| (*slot, a))) {
        let buffer = Buffer::uninitialised(&a.name, a.elem, volume(&a.shape), Role::Scratch);
        frame[slot] = Value::Ref(Arc::new(allocate(&mut machine, buffer, &a.shape)));
    }
    steps(signature, &bounds, frame, &prefetched, &mut ports, &mut machine)?;
    machine.site = signature.site;
    machine.check_exit(signature.site)?;
    Ok(finish(signature, &operands, &arrays[inputs..], machine))
}

fn allocate(machine: &mut Machine<'_>, buffer: Buffer, shape: &[usize]) -> View {
    let view = View::whole(machine.buffers.len(), shape, buffer.elem);
    machine.buffers.push(buffer);
    view
}

fn bounds(signature: &Signature, operands: &Operands) -> Result<Vec<i64>> {
    let mut given = operands.grid.iter().copied();
    let bounds: Option<Vec<i64>> = signature.grid.iter().map(|b| b.size.or_else(|| given.next())).collect();
    match bounds {
        Some(bounds) if given.next().is_none() && bounds.iter().all(|b| (0..=1 << 24).contains(b)) => {
            Ok(bounds)
        }
        _ => {
            let dynamic = signature.grid.iter().filter(|b| b.size.is_none()).count();
            Err(EmulatorError::operands(format!(
                "{dynamic} dynamic grid bounds are needed, {} given",
                operands.grid.len()
            )))
        }
    }
}

/// Checks the operands and puts all arrays into device memory, aliased ones once.
fn arrays(signature: &Signature, operands: &mut Operands, machine: &mut Machine<'_>) -> Result<Vec<View>> {
    let prefetch = signature.prefetch.len();
    let expected = prefetch + signature.operands.len();
    let given = operands.inputs.len() + operands.outputs.len();
    if given != expected || operands.inputs.len() < prefetch {
        let message = format!(
            "@{} takes {prefetch} prefetch operands and {} inputs and outputs; given are {} inputs and {} outputs",
            signature.name,
            signature.operands.len(),
            operands.inputs.len(),
            operands.outputs.len()
        );
        return Err(EmulatorError::operands(message));
    }
    let locals =
        signature.operands.iter().zip(&signature.windows).filter(|(_, w)| w.is_some()).map(|(a, _)| a);
    let scratch = signature.scratch.iter().chain(signature.allocas.iter().map(|(_, a)| a));
    let local = locals
        .chain(scratch)
        .chain(&signature.prefetch)
        .map(|a| volume(&a.shape).saturating_mul(a.elem.bytes()));
    let outputs = operands
        .outputs
        .iter()
        .map(|(e, s)| s.iter().try_fold(e.size(), |a, &d| a.checked_mul(d)).unwrap_or(usize::MAX));
    let total = local.chain(outputs).fold(0usize, usize::saturating_add);
    if total > MAX_MEMORY {
        return Err(EmulatorError::operands(format!(
            "the kernel and its results need {total} bytes; at most {MAX_MEMORY} are given"
        )));
    }
    for (a, tensor) in signature.prefetch.iter().zip(&operands.inputs) {
        check(a, tensor.element_type().into(), tensor.shape(), true)?;
    }
    let inputs = &mut operands.inputs[prefetch..];
    let mut views: Vec<View> = Vec::new();
    for (i, a) in signature.operands.iter().enumerate() {
        let whole = signature.windows[i].as_ref().is_none_or(|w| w.transform.is_none());
        if let Some(tensor) = inputs.get_mut(i) {
            check(a, tensor.element_type().into(), tensor.shape(), whole)?;
            let buffer = Buffer::filled(&a.name, a.elem, tensor.take_words(), Role::Hbm);
            views.push(allocate(machine, buffer, tensor.shape()));
            continue;
        }
        let output = i - inputs.len();
        let (element, shape) = &operands.outputs[output];
        check(a, Elem::from(*element), shape, whole)?;
        let alias = operands.aliases.iter().find(|(_, o)| *o == output).map(|(i, _)| *i);
        views.push(match alias {
            None => {
                allocate(machine, Buffer::uninitialised(&a.name, a.elem, volume(shape), Role::Hbm), shape)
            }
            Some(input) => {
                let source = input.checked_sub(prefetch).and_then(|i| Some((views.get(i)?, inputs.get(i)?)));
                match source {
                    Some((view, t)) if t.shape() == shape && t.element_type() == *element => view.clone(),
                    _ => {
                        let message = format!("result {output} cannot share the memory of input {input}");
                        return Err(EmulatorError::operands(message));
                    }
                }
            }
        });
    }
    if let Some((_, o)) = operands.aliases.iter().find(|(_, o)| *o >= operands.outputs.len()) {
        return Err(EmulatorError::operands(format!("there is no result {o} to alias")));
    }
    Ok(views)
}

/// An operand must have the argument's element type and, if it is not cut into windows, its shape.
fn check(argument: &Argument, elem: Elem, shape: &[usize], whole: bool) -> Result<()> {
    let fits = elem == argument.elem
        && !shape.contains(&0)
        && if whole { shape == argument.shape } else { shape.len() == argument.shape.len() };
    if fits {
        return Ok(());
    }
    let kind = if whole { "shape" } else { "window" };
    let Argument { name, shape: wanted, elem: e, .. } = argument;
    Err(EmulatorError::operands(format!(
        "{name} is {e} with {kind} {wanted:?}; given is {elem} of shape {shape:?}"
    )))
}

fn steps(
    signature: &Signature,
    bounds: &[i64],
    frame: Vec<Value>,
    prefetched: &[Value],
    ports: &mut [Port<'_>],
    m: &mut Machine<'_>,
) -> Result<()> {
    let order = order(&signature.grid, bounds, m.options);
    if bounds.contains(&0) {
        return Ok(());
    }
    let mut place = vec![0usize; bounds.len()];
    let mut frame = frame;
    loop {
        m.grid = place.iter().zip(&order).map(|(&p, o)| o.at(p)).collect();
        m.report.grid_steps += 1;
        m.report.steps += 1;
        for port in ports.iter_mut() {
            turn(port, prefetched, m)?;
        }
        m.slots = frame;
        for (i, &slot) in m.grid.clone().iter().zip(&signature.main.arguments) {
            m.set(slot, Value::Int(*i));
        }
        m.run(&signature.main.code)?;
        frame = std::mem::take(&mut m.slots);
        let mut d = bounds.len();
        let done = loop {
            if d == 0 {
                break true;
            }
            d -= 1;
            place[d] += 1;
            if (place[d] as i64) < bounds[d] {
                break false;
            }
            place[d] = 0;
        };
        if done {
            break;
        }
    }
    for port in ports.iter().filter(|p| p.output) {
        m.site = port.window.transform.as_ref().map_or(signature.site, |t| t.site);
        write_back(port, m)?;
    }
    Ok(())
}

/// The values that a grid index takes, in order.
enum Order {
    Up,
    Down(i64),
    List(Vec<i64>),
}

impl Order {
    fn at(&self, place: usize) -> i64 {
        match self {
            Order::Up => place as i64,
            Order::Down(bound) => bound - 1 - place as i64,
            Order::List(list) => list[place],
        }
    }
}

fn order(grid: &[Bound], bounds: &[i64], options: &RunOptions) -> Vec<Order> {
    let mut rng = Rng::new(options.seed);
    grid.iter()
        .zip(bounds)
        .map(|(g, &n)| match options.grid_order {
            GridOrder::Reversed if g.parallel => Order::Down(n),
            GridOrder::Permuted if g.parallel => {
                let mut list: Vec<i64> = (0..n).collect();
                rng.shuffle(&mut list);
                Order::List(list)
            }
            _ => Order::Up,
        })
        .collect()
}

/// Brings a window to where the current step wants it: an output block is written back and an input block fetched
/// only when the block changes.
fn turn(port: &mut Port<'_>, prefetched: &[Value], m: &mut Machine<'_>) -> Result<()> {
    let start = match &port.window.transform {
        None => vec![0; port.window.bounds.len()],
        Some(transform) => {
            let index = evaluate(transform, prefetched, m)?;
            let scale =
                |(i, &n): (i64, &usize)| if port.window.by_element { i } else { i.saturating_mul(n as i64) };
            let start: Vec<i64> = index.into_iter().zip(&port.window.bounds).map(scale).collect();
            m.site = transform.site;
            for (d, (&s, &(size, _))) in start.iter().zip(&port.array.dims).enumerate() {
                if s < 0 || s >= size as i64 {
                    let name = m.buffers[port.array.buffer].name.clone();
                    let message = format!(
                        "the window of {name} starts at {start:?}, outside dimension {d} of size {size}"
                    );
                    return Err(m.fault(FaultKind::OutOfBounds, message).into());
                }
            }
            start
        }
    };
    if port.start.as_ref() == Some(&start) {
        return Ok(());
    }
    if port.output {
        if port.start.is_some() {
            write_back(port, m)?;
        }
        exclude_dma(&port.block, true, m)?;
        m.buffers[port.block.buffer].forget();
        port.start = Some(start);
        return Ok(());
    }
    port.start = Some(start);
    exclude_dma(&port.block, true, m)?;
    let (array, block) = visible(port);
    exclude_dma(&array, false, m)?;
    if block.volume() < port.block.volume() || !m.buffers[array.buffer].is_complete() {
        m.buffers[block.buffer].forget();
    }
    m.copy(&array, &block);
    m.report.window_in.add(block.bytes());
    Ok(())
}

/// The part of the array under the window, and the part of the block that it fills.
fn visible(port: &Port<'_>) -> (View, View) {
    let start = port.start.clone().unwrap_or_default();
    let (mut array, mut block) = (port.array.clone(), port.block.clone());
    for (d, &s) in start.iter().enumerate() {
        let (size, stride) = port.array.dims[d];
        let visible = port.block.dims[d].0.min(size - s as usize);
        array.offset += s as usize * stride;
        array.dims[d].0 = visible;
        block.dims[d].0 = visible;
    }
    (array, block)
}

fn write_back(port: &Port<'_>, m: &mut Machine<'_>) -> Result<()> {
    if port.start.is_none() {
        return Ok(());
    }
    let (array, block) = visible(port);
    exclude_dma(&block, false, m)?;
    exclude_dma(&array, true, m)?;
    m.copy(&block, &array);
    m.report.window_out.add(block.bytes());
    Ok(())
}

/// The pipeline's own copies race with DMAs in flight like any other access.
fn exclude_dma(view: &View, write: bool, m: &mut Machine<'_>) -> Result<()> {
    if !m.dma.touches(view.buffer) {
        return Ok(());
    }
    let runs: Vec<Run> = view.footprint();
    m.race(view.buffer, &runs, write, m.site)
}

fn evaluate(transform: &Transform, prefetched: &[Value], m: &mut Machine<'_>) -> Result<Vec<i64>> {
    m.slots = transform.function.frame();
    let values = m.grid.clone().into_iter().map(Value::Int).chain(prefetched.iter().cloned());
    for (&slot, value) in transform.function.arguments.iter().zip(values) {
        m.set(slot, value);
    }
    m.run(&transform.function.code)?;
    let index = transform.function.code.results.iter().map(|&r| m.int(r)).collect();
    m.slots = Vec::new();
    Ok(index)
}

fn finish(signature: &Signature, operands: &Operands, results: &[View], m: Machine<'_>) -> Outcome {
    let Machine { mut buffers, mut report, counts, trips, sites, .. } = m;
    for (site, s) in sites.iter().enumerate().take(signature.main_sites) {
        if counts[site] > 0 {
            *report.ops.entry(s.op.clone()).or_default() += counts[site];
        }
        if super::ops::LOOPS.contains(&s.op.as_str()) {
            report.loops.insert(s.location, LoopCount { entries: counts[site], trips: trips[site] });
        }
        if let Some(marker) = &s.marker {
            *report.counts.entry(marker.clone()).or_default() += counts[site];
        }
    }
    let mut outputs = Vec::new();
    for ((element, shape), view) in operands.outputs.iter().zip(results) {
        let buffer = &mut buffers[view.buffer];
        report.unwritten.push(buffer.unwritten());
        outputs.push(Tensor::from_words(shape, *element, buffer.words.hand_out()));
    }
    Outcome { outputs, report }
}
