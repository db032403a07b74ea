//! DMAs in flight.

use super::memory::{Run, View, overlap};
use super::rng::Rng;
use std::collections::BTreeMap;

/// A semaphore: its buffer and place.
pub(super) type Key = (usize, usize);

/// A DMA from its start until a wait proves that it is complete.
pub(super) struct Flight {
    pub(super) site: usize,
    pub(super) source: View,
    pub(super) target: View,
    pub(super) source_runs: Vec<Run>,
    pub(super) target_runs: Vec<Run>,
    pub(super) semaphore: Key,
    /// The bytes have moved. The kernel cannot know, so races count all the same.
    pub(super) arrived: bool,
}

/// An access that overlaps a DMA in flight.
pub(crate) struct Conflict {
    pub(crate) site: usize,
    pub(crate) element: usize,
    pub(crate) part: &'static str,
}

pub(crate) struct Dma {
    pub(super) flights: Vec<Flight>,
    /// Bytes started and not yet awaited, by semaphore.
    pub(super) outstanding: BTreeMap<Key, i64>,
    pub(super) rng: Rng,
}

impl Dma {
    pub(crate) fn new(seed: u64) -> Self {
        Dma { flights: Vec::new(), outstanding: BTreeMap::new(), rng: Rng::new(seed) }
    }

    /// Whether any DMA in flight reads or writes the buffer.
    pub(crate) fn touches(&self, buffer: usize) -> bool {
        self.flights.iter().any(|f| f.source.buffer == buffer || f.target.buffer == buffer)
    }

    pub(crate) fn conflict(&self, buffer: usize, runs: &[Run], write: bool) -> Option<Conflict> {
        self.flights.iter().find_map(|f| {
            let target = (f.target.buffer == buffer).then(|| overlap(runs, &f.target_runs)).flatten();
            let source =
                (write && f.source.buffer == buffer).then(|| overlap(runs, &f.source_runs)).flatten();
            let (element, part) = target.map(|e| (e, "the target")).or(source.map(|e| (e, "the source")))?;
            Some(Conflict { site: f.site, element, part })
        })
    }
}
