//! Executes the scalar program of a schedule.

mod dma;
mod machine;

pub use dma::DmaModel;

use std::collections::BTreeMap;
use std::fmt;

use super::listing::Listing;
use machine::Machine;

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

/// What executing a schedule's scalar program on given operands does. One slot takes one cycle.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replay {
    /// Issue slots executed.
    pub slots: u64,
    /// Cycles in all: slots, and stalls on waits.
    pub cycles: f64,
    /// Times that each slot of the schedule was executed.
    pub counts: Vec<u64>,
    /// Times that the branch of each slot was taken.
    pub taken: Vec<u64>,
    /// Cycles that each slot of the schedule waited for copies.
    pub stalls: Vec<f64>,
    /// Copies by direction.
    pub traffic: Traffic,
    /// Every copy, in order of issue.
    pub copies: Vec<Copy>,
    /// Regions and waits in order of time.
    pub events: Vec<Event>,
    /// Ops that are not executed, with times met; harmless where no trouble names them.
    pub unknown: BTreeMap<String, u64>,
    /// Why the figures are not to be trusted, with times met; empty if they are.
    pub trouble: BTreeMap<Trouble, u64>,
}

impl Replay {
    /// Whether nothing stands against the figures.
    pub fn trusted(&self) -> bool {
        self.trouble.is_empty()
    }

    /// Cycles waited for copies.
    pub fn stall_cycles(&self) -> f64 {
        self.stalls.iter().sum()
    }
}

/// Slots after which a program is taken for endless: seconds of device time.
const LIMIT: u64 = 10_000_000_000;

/// `starts` are the first slots of regions.
pub(super) fn run(listing: &Listing, starts: &[usize], prefetch: &[Vec<i32>], model: DmaModel) -> Replay {
    let mut machine = Machine::new(listing, starts, prefetch, model);
    machine.run(LIMIT);
    Replay {
        slots: machine.slots,
        cycles: machine.now(),
        counts: machine.counts,
        taken: machine.taken,
        stalls: machine.stalls,
        traffic: machine.traffic,
        copies: machine.copies,
        events: machine.events,
        unknown: machine.unknown,
        trouble: machine.trouble,
    }
}
