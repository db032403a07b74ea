use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tpu_rpa::score::{ForwardPass, ScoreError, ScoreRequest, ScoreResponse, Scorer, Ticket};

/// Hands requests of many tasks to the one thread that owns the device. Clones share the thread, which ends when the
/// last of them is dropped and every request that was taken has its result.
#[derive(Clone)]
pub struct Dispatcher {
    sender: mpsc::Sender<Work>,
    places: Arc<Semaphore>,
    capacity: usize,
}

/// Why a request has no result of its own.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// As many requests as the queue takes have no result yet.
    #[error("{capacity} requests are waiting, as many as the queue takes")]
    Full {
        /// Size of the queue.
        capacity: usize,
    },
    /// The device thread is gone.
    #[error("the device thread has ended")]
    Ended,
    /// The request was refused or failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
}

/// What a forward pass did, for metrics.
#[derive(Clone, Copy, Debug)]
pub struct PassReport {
    /// Time of planning and running it.
    pub elapsed: Duration,
    /// Requests that got their result.
    pub finished: usize,
    /// Requests that nobody waited for any more, since the last report.
    pub cancelled: usize,
}

struct Work {
    request: ScoreRequest,
    reply: oneshot::Sender<Result<ScoreResponse, ScoreError>>,
    /// Its place in the queue.
    place: OwnedSemaphorePermit,
}

impl Dispatcher {
    /// Starts the device thread. At most `capacity` requests are there at a time, in the queue and under way; `report`
    /// is called on the thread after each pass.
    pub fn start<E: ForwardPass + Send + 'static>(
        scorer: Scorer<E>,
        capacity: usize,
        report: impl FnMut(&Scorer<E>, PassReport) + Send + 'static,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let thread =
            thread::Builder::new().name("device".into()).spawn(move || run(scorer, receiver, report))?;
        let places = Arc::new(Semaphore::new(capacity));
        Ok((Dispatcher { sender, places, capacity }, thread))
    }

    /// Scores a request, in common passes with others that wait. Dropping the future cancels it.
    pub async fn score(&self, request: ScoreRequest) -> Result<ScoreResponse, DispatchError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| DispatchError::Full { capacity: self.capacity })?;
        let (reply, result) = oneshot::channel();
        self.sender.send(Work { request, reply, place }).await.map_err(|_| DispatchError::Ended)?;
        Ok(result.await.map_err(|_| DispatchError::Ended)??)
    }

    /// Requests that have no result yet.
    pub fn pending(&self) -> usize {
        self.capacity - self.places.available_permits()
    }

    /// Whether the device thread still takes requests.
    pub fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }
}

fn run<E: ForwardPass>(
    mut scorer: Scorer<E>,
    mut queue: mpsc::Receiver<Work>,
    mut report: impl FnMut(&Scorer<E>, PassReport),
) {
    let mut waiting: HashMap<Ticket, Work> = HashMap::new();
    loop {
        let mut next = if scorer.pending() == 0 {
            let Some(work) = queue.blocking_recv() else { return };
            Some(work)
        } else {
            queue.try_recv().ok()
        };
        // All that came during the last pass may share the next one.
        while let Some(mut work) = next {
            match scorer.submit(std::mem::take(&mut work.request)) {
                Ok(ticket) => {
                    waiting.insert(ticket, work);
                }
                Err(error) => answer(work, Err(error)),
            }
            next = queue.try_recv().ok();
        }
        let before = waiting.len();
        waiting.retain(|&ticket, work| {
            let gone = work.reply.is_closed();
            if gone {
                scorer.cancel(ticket);
            }
            !gone
        });
        let cancelled = before - waiting.len();
        let start = Instant::now();
        let results = scorer.run_pass();
        let pass = PassReport { elapsed: start.elapsed(), finished: results.len(), cancelled };
        // Before the replies, so that who has one finds it counted.
        report(&scorer, pass);
        for finished in results {
            if let Some(work) = waiting.remove(&finished.ticket) {
                answer(work, finished.result);
            }
        }
    }
}

fn answer(work: Work, result: Result<ScoreResponse, ScoreError>) {
    // First, so that who has the reply finds a place for the next request.
    drop(work.place);
    // Who left while the last pass ran does not take it.
    work.reply.send(result).ok();
}
