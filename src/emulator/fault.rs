use super::location::Location;
use std::fmt;

/// What an executed kernel did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FaultKind {
    /// An access or a window outside its array.
    OutOfBounds,
    /// Compute and a DMA in flight, or two DMAs in flight, touch the same bytes and at least one writes.
    Race,
    /// A wait for more than all pending work can ever signal.
    Deadlock,
    /// A semaphore is not zero when the kernel ends.
    UnbalancedSemaphore,
    /// A DMA was started and never awaited.
    DmaNotAwaited,
    /// An output window was read where the kernel had not written it.
    OutputReadBeforeWrite,
    /// An integer or boolean was read from memory that nothing had written.
    UninitialisedInteger,
    /// `tpu.assume_multiple` asserted a divisor that the value does not have.
    FalseAssumption,
    /// Integer division by zero.
    DivisionByZero,
    /// A run under another DMA policy or grid order gave other bits.
    NonDeterministic,
}

impl FaultKind {
    /// Short name, as printed in messages.
    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::OutOfBounds => "out of bounds",
            FaultKind::Race => "race",
            FaultKind::Deadlock => "deadlock",
            FaultKind::UnbalancedSemaphore => "unbalanced semaphore",
            FaultKind::DmaNotAwaited => "DMA not awaited",
            FaultKind::OutputReadBeforeWrite => "output read before written",
            FaultKind::UninitialisedInteger => "uninitialised integer",
            FaultKind::FalseAssumption => "false assumption",
            FaultKind::DivisionByZero => "division by zero",
            FaultKind::NonDeterministic => "non-deterministic result",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One diagnosed fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{location}: '{op}': {kind}: {message}")]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The op that did it.
    pub location: Location,
    /// Its name.
    pub op: String,
    /// Details: the values, buffers and other ops involved, and the grid step.
    pub message: String,
}
