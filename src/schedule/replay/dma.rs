use std::collections::{HashMap, VecDeque};

/// How copies take time: one queue to and from HBM in issue order at full bandwidth, and a latency after a copy's
/// last byte before its semaphore counts. Latencies of queued copies overlap. A copy within the core's memories takes
/// the latency alone. Descriptors and strides cost nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DmaModel {
    /// HBM bandwidth in bytes a cycle.
    pub bytes_per_cycle: f64,
    /// Latency in cycles.
    pub latency: f64,
}

/// Semaphores, and copies that will count on them.
#[derive(Debug, Default)]
pub(super) struct Flags {
    flags: HashMap<u32, Flag>,
    /// When HBM has carried everything issued so far.
    hbm_free: f64,
}

#[derive(Debug, Default)]
struct Flag {
    count: i64,
    /// Completion time and amount, by time.
    pending: VecDeque<(f64, i64)>,
}

impl Flags {
    /// Starts a copy at `now`; returns when its bytes start and end to move and when its semaphore counts.
    pub(super) fn start(
        &mut self,
        model: &DmaModel,
        now: f64,
        flag: u32,
        granules: u32,
        hbm: bool,
    ) -> (f64, f64, f64) {
        let (begin, end) = if hbm {
            let begin = now.max(self.hbm_free);
            let end = begin + f64::from(granules) * GRANULE as f64 / model.bytes_per_cycle;
            self.hbm_free = end;
            (begin, end)
        } else {
            (now, now)
        };
        let done = end + model.latency;
        let pending = &mut self.flags.entry(flag).or_default().pending;
        let at = pending.partition_point(|&(time, _)| time <= done);
        pending.insert(at, (done, i64::from(granules)));
        (begin, end, done)
    }

    /// When the semaphore has reached `least`; `None` if it never will.
    pub(super) fn wait(&mut self, now: f64, flag: u32, least: i64) -> Option<f64> {
        let flag = self.flags.entry(flag).or_default();
        flag.settle(now);
        let mut until = now;
        while flag.count < least {
            let (time, amount) = flag.pending.pop_front()?;
            until = time;
            flag.count += amount;
        }
        Some(until)
    }

    pub(super) fn add(&mut self, now: f64, flag: u32, amount: i64) {
        let flag = self.flags.entry(flag).or_default();
        flag.settle(now);
        flag.count += amount;
    }

    pub(super) fn set(&mut self, now: f64, flag: u32, count: i64) {
        let flag = self.flags.entry(flag).or_default();
        flag.settle(now);
        flag.count = count;
    }

    pub(super) fn read(&mut self, now: f64, flag: u32) -> i64 {
        let flag = self.flags.entry(flag).or_default();
        flag.settle(now);
        flag.count
    }

    /// Copies that nobody awaited, and when the last of them is complete.
    pub(super) fn outstanding(&self, now: f64) -> (usize, f64) {
        let late = self.flags.values().flat_map(|f| &f.pending).filter(|(time, _)| *time > now);
        late.fold((0, now), |(n, last), &(time, _)| (n + 1, time.max(last)))
    }
}

impl Flag {
    fn settle(&mut self, now: f64) {
        while let Some(&(time, amount)) = self.pending.front()
            && time <= now
        {
            self.count += amount;
            self.pending.pop_front();
        }
    }
}

/// Bytes of the unit that copies are counted in.
pub(super) const GRANULE: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_queue_for_bandwidth_and_overlap_their_latencies() {
        let model = DmaModel { bytes_per_cycle: 32.0, latency: 100.0 };
        let mut flags = Flags::default();
        assert_eq!(flags.start(&model, 0.0, 1, 10, true), (0.0, 10.0, 110.0));
        assert_eq!(flags.start(&model, 5.0, 2, 10, true), (10.0, 20.0, 120.0));
        assert_eq!(flags.start(&model, 5.0, 3, 10, false).2, 105.0);
        assert_eq!(flags.wait(50.0, 2, 10), Some(120.0));
        assert_eq!(flags.wait(130.0, 1, 10), Some(130.0));
        assert_eq!(flags.wait(130.0, 1, 11), None);
        flags.add(130.0, 1, -10);
        assert_eq!(flags.read(130.0, 1), 0);
        assert_eq!(flags.outstanding(104.0), (1, 105.0));
    }
}
