//! What libtpu makes of a kernel, without a TPU: the schedule that the compiler prints, how busy it keeps each unit, and
//! an exact execution of its scalar program on a plan's metadata.
//!
//! ```no_run
//! use tpu_rpa::schedule::{Compiler, DeviceKind, Kernel, ScheduleError};
//!
//! fn microseconds(kernel: &Kernel, program: std::path::PathBuf) -> Result<f64, ScheduleError> {
//!     // `program` calls `compile_child` where it is started with the argument `compile`.
//!     let compiler = Compiler::new(program, &["compile"], "libtpu.so");
//!     let device = DeviceKind::V6e;
//!     let schedule = compiler.schedule(kernel, device, "target/schedule".as_ref())?;
//!     let replay = schedule.replay(kernel.prefetch(), &device.dma_model(1000.0));
//!     Ok(1e6 * replay.cycles / device.clock())
//! }
//! ```
//!
//! # What is modelled
//! One issue slot takes one cycle; the listing has one line a slot, empty stall slots included. Branches have four delay
//! slots, six on v7x. Copies follow [`DmaModel`]. Not modelled: instruction fetch, descriptor and stride costs of copies, bank
//! conflicts. These figures are a replayed schedule, not hardware.
//!
//! Vector instructions are opaque: a scalar that comes from one is unknown, and so is what an unknown op gives.
//! [`Replay::trouble`] names every branch, wait and copy that depends on such a value; without any, a replay is exact.

mod compiler;
mod device;
mod error;
mod kernel;
mod listing;
mod memory;
mod region;
mod replay;
mod roofs;
mod utilization;

use std::path::Path;

pub use compiler::{Compiler, compile_child};
pub use device::DeviceKind;
pub use error::ScheduleError;
pub use kernel::Kernel;
pub use memory::MemoryUse;
pub use region::{Loop, Region};
pub use replay::{Copy, Direction, DmaModel, Event, Replay, Traffic, Trouble};
pub use roofs::{Roofs, Work};
pub use utilization::{UNITS, Unit, UnitCounts};

use listing::Listing;
use utilization::Utilization;

/// A kernel's schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    listing: Listing,
    utilization: Utilization,
    memory: MemoryUse,
}

impl Schedule {
    /// Reads the compiler's listings: `*-packed-bundles-post-ra.txt`,
    /// `*-pre-delay_hlo-static-per-bundle-utilization.txt`, and the lines of `*-post-ra.txt` that declare allocations.
    ///
    /// # Errors
    /// A line that is not understood, or listings of different length.
    pub fn parse(
        device: DeviceKind,
        bundles: &str,
        utilization: &str,
        allocations: &str,
    ) -> Result<Self, ScheduleError> {
        let listing = Listing::parse(bundles, device.delay_slots())?;
        let utilization = Utilization::parse(utilization)?;
        if listing.bundles.len() != utilization.slots.len() {
            return Err(ScheduleError::Listing {
                file: utilization::FILE,
                line: utilization.slots.len(),
                reason: format!(
                    "{} slots; the schedule has {}",
                    utilization.slots.len(),
                    listing.bundles.len()
                ),
                text: String::new(),
            });
        }
        Ok(Schedule { listing, utilization, memory: MemoryUse::parse(allocations)? })
    }

    /// Reads the listings from files, as [`Compiler::schedule`] leaves them.
    fn read(
        device: DeviceKind,
        bundles: &Path,
        utilization: &Path,
        allocations: &Path,
    ) -> Result<Self, ScheduleError> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(error::file_error(path));
        Schedule::parse(device, &read(bundles)?, &read(utilization)?, &read(allocations)?)
    }

    /// Issue slots of the program.
    pub fn slots(&self) -> usize {
        self.listing.bundles.len()
    }

    /// Memory that the kernel allocates.
    pub fn memory(&self) -> MemoryUse {
        self.memory
    }

    /// What each unit can take in one slot.
    pub fn capacity(&self) -> UnitCounts {
        self.utilization.capacity
    }

    /// Executes the scalar program on scalar-prefetch operands.
    pub fn replay(&self, prefetch: &[Vec<i32>], model: &DmaModel) -> Replay {
        replay::run(&self.listing, &region::starts(&self.listing), prefetch, *model)
    }

    /// Loops of the program, outermost first, with their trips in `replay`.
    pub fn loops(&self, replay: &Replay) -> Vec<Loop> {
        region::loops(&self.listing, replay)
    }

    /// The program as straight-line regions, in order, with what they cost in `replay`.
    pub fn regions(&self, replay: &Replay) -> Vec<Region> {
        region::regions(&self.listing, &self.utilization, replay)
    }

    /// Slots that `replay` took of each unit.
    pub fn executed(&self, replay: &Replay) -> UnitCounts {
        let mut sum = UnitCounts::default();
        for (slot, &count) in self.utilization.slots.iter().zip(&replay.counts) {
            sum += slot.times(count);
        }
        sum
    }
}
