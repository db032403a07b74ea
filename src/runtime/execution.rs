use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::buffer::Buffer;
use super::error::RuntimeError;
use super::ffi::handles::{RawClient, RawEvent};

/// A launch that may still be running. Its outputs may be arguments of further launches at once.
///
/// Wait for it with [`Execution::wait`], or with `.await` in any async runtime. Dropped without, it runs on, and its
/// error shows where an output is read.
#[must_use = "a failed launch shows only when it is waited for or its outputs are read"]
pub struct Execution {
    outputs: Vec<Buffer>,
    events: Vec<RawEvent>,
    client: Arc<RawClient>,
}

impl Execution {
    pub(crate) fn new(outputs: Vec<Buffer>, events: Vec<RawEvent>, client: Arc<RawClient>) -> Self {
        Self { outputs, events, client }
    }

    /// The outputs, whose contents may not be there yet.
    pub fn outputs(&self) -> &[Buffer] {
        &self.outputs
    }

    /// The outputs, without waiting.
    pub fn into_outputs(mut self) -> Vec<Buffer> {
        std::mem::take(&mut self.outputs)
    }

    /// Whether it has finished, successfully or not.
    pub fn is_ready(&self) -> bool {
        self.events.iter().all(RawEvent::is_ready)
    }

    /// Blocks until it has finished on every device.
    ///
    /// # Errors
    /// The first device's error, if any.
    pub fn wait(mut self) -> Result<Vec<Buffer>, RuntimeError> {
        wait_all(std::mem::take(&mut self.events))?;
        Ok(std::mem::take(&mut self.outputs))
    }
}

/// Waits for every event, then reports the first error.
pub(crate) fn wait_all(events: Vec<RawEvent>) -> Result<(), RuntimeError> {
    let results: Vec<_> = events.iter().map(RawEvent::wait).collect();
    results.into_iter().collect()
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.client.detach(self.events.drain(..));
    }
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execution").field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl IntoFuture for Execution {
    type Output = Result<Vec<Buffer>, RuntimeError>;
    type IntoFuture = Completion;

    fn into_future(self) -> Completion {
        Completion { execution: self, progress: None }
    }
}

/// The future of an [`Execution`]. It needs no particular async runtime; dropping it leaves the launch running.
#[must_use = "futures do nothing unless polled"]
pub struct Completion {
    execution: Execution,
    /// Present once the plugin was asked to report.
    progress: Option<Arc<Mutex<Progress>>>,
}

struct Progress {
    pending: usize,
    error: Option<RuntimeError>,
    waker: Option<Waker>,
}

impl Progress {
    fn finish(this: &Mutex<Self>, error: Option<RuntimeError>) {
        let mut progress = this.lock().unwrap_or_else(PoisonError::into_inner);
        progress.pending -= 1;
        if let Some(error) = error {
            progress.error.get_or_insert(error);
        }
        let waker = if progress.pending == 0 { progress.waker.take() } else { None };
        drop(progress);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Completion {
    type Output = Result<Vec<Buffer>, RuntimeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let events = &this.execution.events;
        let fresh = this.progress.is_none();
        let progress = this.progress.get_or_insert_with(|| {
            Arc::new(Mutex::new(Progress { pending: events.len(), error: None, waker: None }))
        });
        // The waker is there before the plugin may report.
        progress.lock().unwrap_or_else(PoisonError::into_inner).waker = Some(context.waker().clone());
        if fresh {
            for event in events {
                let shared = Arc::clone(progress);
                let report =
                    move |error: Option<_>| Progress::finish(&shared, error.map(RuntimeError::Plugin));
                if let Err(error) = event.on_ready(Box::new(report)) {
                    Progress::finish(progress, Some(error));
                }
            }
        }
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.pending > 0 {
            return Poll::Pending;
        }
        Poll::Ready(match progress.error.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut this.execution.outputs)),
        })
    }
}
