use super::Replay;
use super::listing::{Listing, Op};
use super::utilization::{Unit, UnitCounts, Utilization};

/// A loop: from the target of a backward branch to behind that branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    /// First slot.
    pub first: usize,
    /// Slot behind the last one, the branch's delay slots included.
    pub end: usize,
    /// Loops around it.
    pub depth: usize,
    /// Times that it was entered.
    pub entries: u64,
    /// Times that its first slot was executed.
    pub trips: u64,
}

/// Slots that are executed together: no branch leads into the middle or out of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// First slot.
    pub first: usize,
    /// Number of slots.
    pub slots: usize,
    /// First slot of the innermost loop around it.
    pub in_loop: Option<usize>,
    /// Loops around it.
    pub depth: usize,
    /// Times that it was executed.
    pub runs: u64,
    /// Cycles that waits in it took in all.
    pub stalls: f64,
    /// Slots of each unit, once through.
    pub units: UnitCounts,
    /// Base-2 exponentials of a vector register, once through.
    pub exp2: u64,
    /// Matrix multiplies issued, once through.
    pub matmuls: u64,
    capacity: UnitCounts,
}

impl Region {
    /// Slots executed in all.
    pub fn executed(&self) -> u64 {
        self.slots as u64 * self.runs
    }

    /// Share of its slots in which a unit is busy.
    pub fn busy(&self, unit: Unit) -> f64 {
        self.units.get(unit) as f64 / (self.capacity.get(unit).max(1) * self.slots as u64) as f64
    }

    /// The busiest unit. Fills are loads, and spills are stores, to the unit that does them.
    pub fn bound(&self) -> Unit {
        let units = Unit::ALL.into_iter().filter(|u| !matches!(u, Unit::Fill | Unit::Spill));
        units.max_by(|&a, &b| self.busy(a).total_cmp(&self.busy(b))).unwrap_or(Unit::Salu)
    }

    /// Score tiles of 128 × 128, counted by exponentials: a vector register holds 1024 scores in f32, and every score
    /// has one. Rescaling adds below one in a hundred.
    pub fn tiles(&self) -> f64 {
        self.exp2 as f64 * 1024.0 / (128.0 * 128.0)
    }
}

pub(super) fn loops(listing: &Listing, replay: &Replay) -> Vec<Loop> {
    let mut loops: Vec<Loop> = Vec::new();
    for (slot, target) in branches(listing).filter(|(slot, target)| target <= slot) {
        let (end, taken) = ((slot + 5).min(listing.bundles.len()), replay.taken[slot]);
        match loops.iter_mut().find(|l| l.first == target) {
            Some(known) => {
                known.end = known.end.max(end);
                known.entries -= taken;
            }
            None => {
                let trips = replay.counts[target];
                loops.push(Loop { first: target, end, depth: 0, entries: trips - taken, trips });
            }
        }
    }
    loops.sort_by_key(|l| (l.first, std::cmp::Reverse(l.end)));
    for i in 0..loops.len() {
        loops[i].depth = (0..loops.len())
            .filter(|&j| j != i && loops[j].first <= loops[i].first && loops[i].end <= loops[j].end)
            .count();
    }
    loops
}

fn branches(listing: &Listing) -> impl Iterator<Item = (usize, usize)> + '_ {
    listing.bundles.iter().enumerate().flat_map(|(slot, bundle)| {
        bundle.instructions.iter().filter_map(move |i| match i.op {
            Op::Branch(target) => Some((slot, target)),
            _ => None,
        })
    })
}

/// First slots of regions: the first of all, targets of branches, and what follows their delay slots.
pub(super) fn starts(listing: &Listing) -> Vec<usize> {
    let mut starts = vec![0];
    for (slot, target) in branches(listing) {
        starts.extend([target, slot + listing.delay_slots + 1]);
    }
    starts.retain(|&s| s < listing.bundles.len());
    starts.sort_unstable();
    starts.dedup();
    starts
}

pub(super) fn regions(listing: &Listing, utilization: &Utilization, replay: &Replay) -> Vec<Region> {
    let starts = starts(listing);
    let loops = loops(listing, replay);
    let ends = starts.iter().skip(1).copied().chain([listing.bundles.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&first, end)| {
            let around = loops.iter().filter(|l| l.first <= first && end <= l.end);
            let innermost = around.clone().max_by_key(|l| l.depth);
            let mut region = Region {
                first,
                slots: end - first,
                in_loop: innermost.map(|l| l.first),
                depth: around.count(),
                runs: replay.counts[first],
                stalls: replay.stalls[first..end].iter().sum(),
                units: UnitCounts::default(),
                exp2: 0,
                matmuls: 0,
                capacity: utilization.capacity,
            };
            for slot in first..end {
                region.units += utilization.slots[slot];
                region.exp2 += u64::from(listing.bundles[slot].vector.exp2);
                region.matmuls += u64::from(listing.bundles[slot].vector.matmul);
            }
            region
        })
        .collect()
}
