//! What a machine does with DMAs, and with the semaphores that count their bytes.

use super::dma::{Flight, Key};
use super::error::Result;
use super::fault::FaultKind;
use super::machine::Machine;
use super::memory::{Run, View, Words, overlap};
use super::options::DmaPolicy;
use super::types::Space;

impl Machine<'_> {
    /// Starts a DMA. `direction` is source and target space.
    pub(crate) fn start_dma(
        &mut self,
        source: View,
        target: View,
        semaphore: &View,
        direction: (Space, Space),
    ) -> Result<()> {
        let (source_runs, target_runs) = (source.footprint(), target.footprint());
        self.race(source.buffer, &source_runs, false, self.site)?;
        self.race(target.buffer, &target_runs, true, self.site)?;
        if source.buffer == target.buffer && overlap(&source_runs, &target_runs).is_some() {
            let name = self.buffers[source.buffer].name.clone();
            self.survivable(self.site, FaultKind::Race, || format!("source and target overlap in {name}"))?;
        }
        let bytes = target.bytes();
        let traffic = match (direction.0.is_hbm(), direction.1.is_hbm()) {
            (true, false) => &mut self.report.dma_in,
            (false, true) => &mut self.report.dma_out,
            _ => &mut self.report.dma_local,
        };
        traffic.add(bytes);
        let semaphore = (semaphore.buffer, semaphore.offset);
        *self.dma.outstanding.entry(semaphore).or_default() += bytes as i64;
        let site = self.site;
        self.dma.flights.push(Flight {
            site,
            source,
            target,
            source_runs,
            target_runs,
            semaphore,
            arrived: false,
        });
        match self.options.dma {
            DmaPolicy::Eager => self.arrive(self.dma.flights.len() - 1),
            DmaPolicy::OnWait => {}
            DmaPolicy::Random => self.tick(),
        }
        Ok(())
    }

    /// A chance for DMAs in flight to complete under the random policy.
    pub(crate) fn tick(&mut self) {
        if self.options.dma != DmaPolicy::Random || self.dma.flights.is_empty() {
            return;
        }
        let pick = self.dma.rng.below(4 * self.dma.flights.len());
        if pick < self.dma.flights.len() && !self.dma.flights[pick].arrived {
            self.arrive(pick);
        }
    }

    /// Waits until the semaphore has counted so many bytes and takes them off.
    pub(crate) fn wait_dma(&mut self, semaphore: &View, bytes: usize) -> Result<()> {
        let key = (semaphore.buffer, semaphore.offset);
        let bytes = bytes as i64;
        while self.semaphore(key) < bytes {
            let pending: Vec<usize> = self
                .dma
                .flights
                .iter()
                .enumerate()
                .filter(|(_, f)| f.semaphore == key && !f.arrived)
                .map(|(i, _)| i)
                .collect();
            if pending.is_empty() {
                let name = &self.buffers[key.0].name;
                let message = format!(
                    "waits for {bytes} bytes on {name}[{}], which has {} and no DMA in flight to add more",
                    key.1,
                    self.semaphore(key)
                );
                return Err(self.fault(FaultKind::Deadlock, message).into());
            }
            let next = match self.options.dma {
                DmaPolicy::Random => pending[self.dma.rng.below(pending.len())],
                DmaPolicy::Eager | DmaPolicy::OnWait => pending[0],
            };
            self.arrive(next);
        }
        self.add_to_semaphore(key, -bytes);
        let outstanding = self.dma.outstanding.entry(key).or_default();
        *outstanding -= bytes;
        // With bytes still outstanding, which of several DMAs have landed is unknown: none is proven complete.
        if *outstanding == 0 {
            self.dma.flights.retain(|f| f.semaphore != key);
        }
        Ok(())
    }

    fn semaphore(&self, key: Key) -> i64 {
        match &self.buffers[key.0].words {
            Words::Semaphores(s) => s[key.1],
            _ => unreachable!("verified as a semaphore"),
        }
    }

    fn add_to_semaphore(&mut self, key: Key, amount: i64) {
        if let Words::Semaphores(s) = &mut self.buffers[key.0].words {
            s[key.1] = s[key.1].saturating_add(amount);
        }
    }

    /// Adds to a counting semaphore.
    pub(crate) fn signal(&mut self, semaphore: &View, amount: i64) {
        self.add_to_semaphore((semaphore.buffer, semaphore.offset), amount);
    }

    /// Value of a semaphore.
    pub(crate) fn read_semaphore(&self, semaphore: &View) -> i64 {
        self.semaphore((semaphore.buffer, semaphore.offset))
    }

    /// Waits for a counting semaphore. Nothing else runs that could raise it later.
    pub(crate) fn wait_semaphore(&mut self, semaphore: &View, amount: i64) -> Result<()> {
        let key = (semaphore.buffer, semaphore.offset);
        let value = self.semaphore(key);
        if value < amount {
            let name = &self.buffers[key.0].name;
            let message = format!("waits for {amount} on {name}[{}], which has {value}", key.1);
            return Err(self.fault(FaultKind::Deadlock, message).into());
        }
        self.add_to_semaphore(key, -amount);
        Ok(())
    }

    /// Moves the bytes of a flight and counts them.
    fn arrive(&mut self, index: usize) {
        let flight = &mut self.dma.flights[index];
        flight.arrived = true;
        let (source, target, key) = (flight.source.clone(), flight.target.clone(), flight.semaphore);
        self.copy(&source, &target);
        self.add_to_semaphore(key, target.bytes() as i64);
    }

    /// Copies a view to another of the same shape, with the record of what was written.
    pub(crate) fn copy(&mut self, source: &View, target: &View) {
        let mut from = Vec::new();
        source.for_each_run(|run| from.push(run));
        let mut to = Vec::new();
        target.for_each_run(|run| to.push(run));
        let mut pieces = Vec::with_capacity(from.len().max(to.len()));
        let (mut i, mut j) = (0, 0);
        while let (Some(a), Some(b)) = (from.get_mut(i), to.get_mut(j)) {
            let len = a.len.min(b.len);
            pieces.push((a.start, Run { start: b.start, len }));
            for (run, at) in [(a, &mut i), (b, &mut j)] {
                run.start += len;
                run.len -= len;
                *at += usize::from(run.len == 0);
            }
        }
        let empty = Words::Semaphores(Vec::new());
        let mut words = std::mem::replace(&mut self.buffers[target.buffer].words, empty);
        if source.buffer == target.buffer {
            let old = words.clone();
            pieces.iter().for_each(|&(start, run)| words.copy(run, &old, start));
        } else {
            let old = &self.buffers[source.buffer].words;
            pieces.iter().for_each(|&(start, run)| words.copy(run, old, start));
        }
        self.buffers[target.buffer].words = words;
        if self.buffers[source.buffer].is_complete() {
            if !self.buffers[target.buffer].is_complete() {
                pieces.iter().for_each(|&(_, run)| self.buffers[target.buffer].mark_written(run));
            }
            return;
        }
        for (start, run) in pieces {
            for k in 0..run.len {
                let written =
                    self.buffers[source.buffer].first_unwritten(Run { start: start + k, len: 1 }).is_none();
                let element = Run { start: run.start + k, len: 1 };
                let target = &mut self.buffers[target.buffer];
                if written { target.mark_written(element) } else { target.mark_unwritten(element) }
            }
        }
    }

    /// At the end of the kernel everything must have been awaited and every semaphore be back at zero.
    pub(crate) fn check_exit(&mut self, main: usize) -> Result<()> {
        self.grid.clear();
        let mut open: Vec<(usize, Key, usize)> =
            self.dma.flights.iter().map(|f| (f.site, f.semaphore, f.target.bytes())).collect();
        open.dedup_by_key(|f| f.0);
        for (site, key, bytes) in &open {
            let name = self.buffers[key.0].name.clone();
            self.survivable(*site, FaultKind::DmaNotAwaited, || {
                format!(
                    "its {bytes} bytes on semaphore {name}[{}] were not awaited before the kernel ended",
                    key.1
                )
            })?;
        }
        for buffer in 0..self.buffers.len() {
            let Words::Semaphores(counts) = &self.buffers[buffer].words else { continue };
            let Some(at) = counts.iter().position(|&c| c != 0) else { continue };
            // Bytes of DMAs that were just reported are no second fault.
            if open.iter().any(|(_, key, _)| *key == (buffer, at)) {
                continue;
            }
            let (count, name) = (counts[at], self.buffers[buffer].name.clone());
            self.survivable(main, FaultKind::UnbalancedSemaphore, || {
                format!("{name}[{at}] is {count} when the kernel ends")
            })?;
        }
        Ok(())
    }
}
