//! What a replay notes on the way.

use std::fmt;

/// Why a replay is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Trouble {
    /// A branch, wait or copy depends on a value that nothing wrote.
    Undefined {
        /// Issue slot.
        slot: usize,
    },
    /// A branch, wait or copy depends on the result of an op that is not executed.
    DependsOn {
        /// Issue slot.
        slot: usize,
        /// The op.
        op: String,
    },
    /// A copy whose operands were not understood.
    CopyForm {
        /// Issue slot.
        slot: usize,
    },
    /// The compiler spilled scalars to HBM; each such copy costs a full latency.
    SpillToHbm {
        /// Issue slot.
        slot: usize,
    },
    /// A branch in another one's delay slots.
    BranchInDelaySlot {
        /// Issue slot.
        slot: usize,
    },
    /// A check of the program failed.
    Halt {
        /// Issue slot.
        slot: usize,
    },
    /// A wait for more than was ever started.
    Deadlock {
        /// Issue slot.
        slot: usize,
    },
    /// Copies were in flight at the end.
    Unawaited,
    /// More slots than the limit.
    Endless,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Undefined { slot } => write!(f, "slot {slot:#x} depends on a value that nothing wrote"),
            Trouble::DependsOn { slot, op } => {
                write!(f, "slot {slot:#x} depends on {op}, which is not executed")
            }
            Trouble::CopyForm { slot } => write!(f, "slot {slot:#x}: copy not understood"),
            Trouble::SpillToHbm { slot } => write!(f, "slot {slot:#x}: scalars spilled to HBM"),
            Trouble::BranchInDelaySlot { slot } => write!(f, "slot {slot:#x}: branch in a delay slot"),
            Trouble::Halt { slot } => write!(f, "slot {slot:#x}: a check of the program failed"),
            Trouble::Deadlock { slot } => write!(f, "slot {slot:#x}: a wait that cannot end"),
            Trouble::Unawaited => write!(f, "copies were in flight at the end"),
            Trouble::Endless => write!(f, "the program did not end within the limit of slots"),
        }
    }
}

/// Copies in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// Copies.
    pub copies: u64,
    /// Bytes that they moved.
    pub bytes: u64,
}

/// Copies by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From HBM into VMEM or SMEM.
    pub into_core: Direction,
    /// From VMEM or SMEM to HBM.
    pub to_hbm: Direction,
    /// Within the core.
    pub local: Direction,
}

/// One copy; times in cycles from the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copy {
    /// Issue slot that started it.
    pub slot: usize,
    /// When it was issued.
    pub issued: f64,
    /// When its first byte moved.
    pub begin: f64,
    /// When its last byte had moved.
    pub end: f64,
    /// When its semaphore counted.
    pub done: f64,
    /// Bytes.
    pub bytes: u64,
    /// From HBM.
    pub into_core: bool,
    /// To HBM.
    pub to_hbm: bool,
}

/// A wait that took time, or the start of a region; times in cycles from the start.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Execution came to the first slot of a region.
    Region {
        /// First slot.
        slot: usize,
        /// When.
        at: f64,
    },
    /// A wait for a copy.
    Wait {
        /// Issue slot.
        slot: usize,
        /// From when.
        from: f64,
        /// Until when.
        until: f64,
    },
}
