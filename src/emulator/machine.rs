//! State of a running kernel.

use super::dma::Dma;
use super::error::{EmulatorError, Result};
use super::fault::{Fault, FaultKind};
use super::lanes::Lanes;
use super::location::Location;
use super::memory::{Buffer, Role, Run, View};
use super::options::{FaultPolicy, RunOptions};
use super::report::Report;
use super::value::{Lane, Value};
use std::collections::HashSet;
use std::sync::Arc;

/// An op of the text, for counters and messages.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) op: String,
    pub(crate) location: Location,
    /// `// count: NAME`.
    pub(crate) marker: Option<String>,
}

/// Use of a slot by a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arg {
    pub(crate) slot: usize,
    /// The value is not used again: it may be moved out.
    pub(crate) last: bool,
}

/// One op, verified and ready to run.
pub(crate) type Step = Box<dyn Fn(&mut Machine<'_>) -> Result<()> + Send + Sync>;

pub(crate) struct Node {
    pub(crate) site: usize,
    pub(crate) step: Step,
}

/// Ops of a region and the operands of its terminator.
#[derive(Default)]
pub(crate) struct Code {
    pub(crate) nodes: Vec<Node>,
    pub(crate) results: Vec<Arg>,
}

/// A function's code and the frame that it runs in.
pub(crate) struct Function {
    pub(crate) code: Code,
    pub(crate) slots: usize,
    pub(crate) arguments: Vec<usize>,
    pub(crate) constants: Vec<(usize, Value)>,
}

impl Function {
    pub(crate) fn frame(&self) -> Vec<Value> {
        let mut slots = vec![Value::Empty; self.slots];
        for (slot, value) in &self.constants {
            slots[*slot] = value.clone();
        }
        slots
    }
}

pub(crate) struct Machine<'a> {
    pub(crate) slots: Vec<Value>,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) dma: Dma,
    pub(crate) options: &'a RunOptions,
    pub(crate) sites: &'a [Site],
    pub(crate) site: usize,
    pub(crate) counts: Vec<u64>,
    pub(crate) trips: Vec<u64>,
    pub(crate) grid: Vec<i64>,
    pub(crate) report: Report,
    recorded: HashSet<(usize, FaultKind)>,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(sites: &'a [Site], options: &'a RunOptions) -> Self {
        Machine {
            slots: Vec::new(),
            buffers: Vec::new(),
            dma: Dma::new(options.seed),
            options,
            sites,
            site: 0,
            counts: vec![0; sites.len()],
            trips: vec![0; sites.len()],
            grid: Vec::new(),
            report: Report::default(),
            recorded: HashSet::new(),
        }
    }

    /// Runs all ops of a block; its results stay in their slots.
    pub(crate) fn run(&mut self, code: &Code) -> Result<()> {
        for node in &code.nodes {
            self.site = node.site;
            self.counts[node.site] += 1;
            self.report.steps += 1;
            if self.report.steps > self.options.max_steps {
                let Site { op, location, .. } = self.sites[node.site].clone();
                return Err(EmulatorError::StepLimit { location, op, steps: self.options.max_steps });
            }
            (node.step)(self)?;
        }
        Ok(())
    }

    /// The value for its last or another use.
    pub(crate) fn take(&mut self, arg: Arg) -> Value {
        if arg.last { std::mem::take(&mut self.slots[arg.slot]) } else { self.slots[arg.slot].clone() }
    }

    pub(crate) fn set(&mut self, slot: usize, value: Value) {
        self.slots[slot] = value;
    }

    pub(crate) fn int(&self, arg: Arg) -> i64 {
        match &self.slots[arg.slot] {
            Value::Int(i) => *i,
            other => unreachable!("verified as an integer: {other:?}"),
        }
    }

    pub(crate) fn view(&self, arg: Arg) -> Arc<View> {
        match &self.slots[arg.slot] {
            Value::Ref(view) => Arc::clone(view),
            other => unreachable!("verified as a memref: {other:?}"),
        }
    }

    pub(crate) fn lanes<T: Lane>(&self, arg: Arg) -> &[T] {
        T::lanes(&self.slots[arg.slot]).unwrap_or_else(|| unreachable!("verified as a vector of such lanes"))
    }

    pub(crate) fn take_lanes<T: Lane>(&mut self, arg: Arg) -> Arc<Lanes<T>> {
        T::take(self.take(arg)).unwrap_or_else(|| unreachable!("verified as a vector of such lanes"))
    }

    /// A fault at the current op.
    pub(crate) fn fault(&self, kind: FaultKind, message: impl Into<String>) -> Fault {
        self.fault_at(self.site, kind, message)
    }

    pub(crate) fn fault_at(&self, site: usize, kind: FaultKind, message: impl Into<String>) -> Fault {
        let Site { op, location, .. } = &self.sites[site];
        let mut message = message.into();
        if !self.grid.is_empty() {
            message.push_str(&format!(", at grid step {:?}", self.grid));
        }
        Fault { kind, location: *location, op: op.clone(), message }
    }

    /// Ends the run with a fault, or records it and goes on.
    pub(crate) fn survivable(
        &mut self,
        site: usize,
        kind: FaultKind,
        message: impl FnOnce() -> String,
    ) -> Result<()> {
        if self.options.faults == FaultPolicy::Stop {
            return Err(self.fault_at(site, kind, message()).into());
        }
        if self.recorded.insert((site, kind)) {
            let fault = self.fault_at(site, kind, message());
            self.report.faults.push(fault);
        }
        Ok(())
    }

    pub(crate) fn describe(&self, site: usize) -> String {
        let Site { op, location, .. } = &self.sites[site];
        format!("'{op}' at {location}")
    }

    /// Checks a read by the current op: bytes that a DMA is writing, and elements that nothing has written.
    pub(crate) fn before_read(&mut self, view: &View) -> Result<()> {
        self.check_race(view, false)?;
        let buffer = &self.buffers[view.buffer];
        let traps = !buffer.elem.is_float();
        if buffer.is_complete() || !(traps || buffer.role == Role::Output) {
            return Ok(());
        }
        let Some(at) = view.footprint().into_iter().find_map(|run| buffer.first_unwritten(run)) else {
            return Ok(());
        };
        let name = buffer.name.clone();
        if traps {
            let message = format!("element {at} of {name} was never written");
            return Err(self.fault(FaultKind::UninitialisedInteger, message).into());
        }
        self.survivable(self.site, FaultKind::OutputReadBeforeWrite, || {
            format!("element {at} of the output window {name} was not written since the window was opened")
        })
    }

    /// Checks a write by the current op and remembers what it writes.
    pub(crate) fn before_write(&mut self, view: &View) -> Result<()> {
        self.check_race(view, true)?;
        let buffer = &mut self.buffers[view.buffer];
        if !buffer.is_complete() {
            for run in view.footprint() {
                buffer.mark_written(run);
            }
        }
        Ok(())
    }

    fn check_race(&mut self, view: &View, write: bool) -> Result<()> {
        if !self.dma.touches(view.buffer) {
            return Ok(());
        }
        let runs = view.footprint();
        self.race(view.buffer, &runs, write, self.site)
    }

    /// Reports an access that overlaps a DMA in flight.
    pub(crate) fn race(&mut self, buffer: usize, runs: &[Run], write: bool, site: usize) -> Result<()> {
        let Some(hit) = self.dma.conflict(buffer, runs, write) else { return Ok(()) };
        let name = self.buffers[buffer].name.clone();
        let (verb, part) = (if write { "writes" } else { "reads" }, hit.part);
        let other = self.describe(hit.site);
        self.survivable(site, FaultKind::Race, || {
            format!(
                "{verb} element {} of {name}, {part} of the DMA in flight started by {other}",
                hit.element
            )
        })
    }
}
