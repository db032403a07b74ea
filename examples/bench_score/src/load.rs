use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Exp};
use tokio::sync::{Mutex, Semaphore};

use crate::target::Target;
use crate::workload::Workload;

/// Which part of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    WarmUp,
    Measured,
}

/// What came of a phase.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Of the requests that were answered. With --rps from the time at which a request was due.
    pub(crate) latencies: Vec<Duration>,
    /// Failed requests by code.
    pub(crate) errors: BTreeMap<String, u64>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
}

/// Sends requests for as long as the workload says, and waits for the answers.
pub(crate) async fn run(target: &Target, workload: &Workload, phase: Phase) -> Result<Outcome> {
    let length = if phase == Phase::WarmUp { workload.warm_up } else { workload.duration };
    let run = Run {
        target,
        workload,
        warm_up: phase == Phase::WarmUp,
        start: Instant::now(),
        length,
        next: AtomicU64::new(0),
        outcome: Mutex::default(),
    };
    if run.warm_up {
        run.bursts().await;
    }
    // Bursts of slow requests are warm-up enough.
    if !run.warm_up || run.start.elapsed() < length {
        match workload.rps {
            None => run.closed().await,
            Some(rps) => run.open(rps).await?,
        }
    }
    let mut outcome = run.outcome.into_inner();
    outcome.elapsed = run.start.elapsed();
    Ok(outcome)
}

struct Run<'a> {
    target: &'a Target,
    workload: &'a Workload,
    warm_up: bool,
    start: Instant,
    length: Duration,
    next: AtomicU64,
    outcome: Mutex<Outcome>,
}

impl Run<'_> {
    /// One request, then two at once, then four and eight: batches of the sizes that the load may make, so that their
    /// programs are there before it is measured.
    async fn bursts(&self) {
        for size in [1, 2, 4, 8].into_iter().filter(|&size| size <= self.workload.concurrency) {
            join((0..size).map(|_| self.send(Instant::now()))).await;
        }
    }

    /// As many clients as the concurrency, each with one request at a time; at least one request each.
    async fn closed(&self) {
        let client = async || {
            loop {
                self.send(Instant::now()).await;
                if self.start.elapsed() >= self.length {
                    break;
                }
            }
        };
        join((0..self.workload.concurrency).map(|_| client())).await;
    }

    /// Requests at their times; one that is late because too many are under way still counts from when it was due.
    async fn open(&self, rps: f64) -> Result<()> {
        let gaps = Exp::new(rps)?;
        let mut rng = StdRng::seed_from_u64(self.workload.seed);
        let mut due = Duration::ZERO;
        let mut times = Vec::new();
        while due < self.length {
            times.push(due);
            let gap = if self.workload.poisson { gaps.sample(&mut rng) } else { 1.0 / rps };
            due += Duration::from_secs_f64(gap);
        }
        let places = Semaphore::new(self.workload.concurrency);
        let places = &places;
        join(times.into_iter().map(|due| async move {
            let due = self.start + due;
            tokio::time::sleep_until(due.into()).await;
            let _place = places.acquire().await;
            self.send(due).await;
        }))
        .await;
        Ok(())
    }

    async fn send(&self, from: Instant) {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let result = self.target.score(self.workload.request(self.warm_up, n)).await;
        let latency = from.elapsed();
        let mut outcome = self.outcome.lock().await;
        match result {
            Ok(()) => outcome.latencies.push(latency),
            Err(code) => *outcome.errors.entry(code).or_default() += 1,
        }
    }
}

async fn join(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    futures_util::future::join_all(futures).await;
}
