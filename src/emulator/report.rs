use super::fault::Fault;
use super::location::Location;
#[cfg(in_library)]
use super::tensor::Tensor;
use std::collections::BTreeMap;

/// Result of a run.
#[cfg(in_library)]
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The results, in the order of [`Operands::output`](super::Operands::output). Where nothing was written,
    /// floats are NaN and integers a fixed pattern.
    pub outputs: Vec<Tensor>,
    /// What happened.
    pub report: Report,
}

/// DMA traffic in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Copies.
    pub count: u64,
    /// Bytes that they moved.
    pub bytes: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
    }
}

/// How often a loop ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopCount {
    /// Times the loop was entered.
    pub entries: u64,
    /// Times its body ran.
    pub trips: u64,
}

/// Counters of a run.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Ops executed, by name. Constants cost nothing and are not counted, nor are ops whose results nothing uses:
    /// the compiler drops both.
    pub ops: BTreeMap<String, u64>,
    /// Loops by the place of their `scf.for` or `scf.while`.
    pub loops: BTreeMap<Location, LoopCount>,
    /// Executions of the ops marked with a comment `// count: NAME` on their line, and of `tpu.trace_start`
    /// regions by message.
    pub counts: BTreeMap<String, u64>,
    /// Kernel DMAs from device memory to VMEM or SMEM.
    pub dma_in: Traffic,
    /// Kernel DMAs from VMEM or SMEM to device memory.
    pub dma_out: Traffic,
    /// Kernel DMAs within one kind of memory.
    pub dma_local: Traffic,
    /// Window fetches of the pipeline.
    pub window_in: Traffic,
    /// Window write-backs of the pipeline.
    pub window_out: Traffic,
    /// Grid steps executed.
    pub grid_steps: u64,
    /// All ops executed.
    pub steps: u64,
    /// Multiply-add pairs of all matrix products.
    pub multiply_adds: u64,
    /// Elements of each result that nothing wrote.
    pub unwritten: Vec<usize>,
    /// Faults met under [`FaultPolicy::Record`](super::FaultPolicy::Record), the first of each op and kind.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Executions of the ops marked `// count: name`; 0 if there are none.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }
}
