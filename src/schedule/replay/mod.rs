//! Executes the scalar program of a schedule.

mod dma;
mod machine;
mod operand;
mod record;
mod value;

pub use dma::DmaModel;
pub use record::{Copy, Direction, Event, Traffic, Trouble};

use std::collections::BTreeMap;

use super::listing::Listing;
use machine::Machine;

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
