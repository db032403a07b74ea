use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;

use super::buffer::Buffer;
use super::error::RuntimeError;
use super::ffi::client::RawClient;
use super::ffi::event::RawEvent;

/// A launch that may still be running. Its outputs may be arguments of further launches at once.
///
/// Wait for it with [`Execution::wait`], or with `.await` in any async runtime. Dropped without, it runs on, and its
/// error shows where an output is read.
///
/// `O` is the list of outputs, or for [`Executable::launch_sharded`](super::Executable::launch_sharded) one list a device.
#[must_use = "a failed launch shows only when it is waited for or its outputs are read"]
pub struct Execution<O = Vec<Buffer>> {
    outputs: O,
    events: SmallVec<[RawEvent; 1]>,
    client: Arc<RawClient>,
}

impl<O: Default> Execution<O> {
    pub(crate) fn new(outputs: O, events: SmallVec<[RawEvent; 1]>, client: Arc<RawClient>) -> Self {
        Self { outputs, events, client }
    }

    /// The outputs, whose contents may not be there yet.
    pub fn outputs(&self) -> &O {
        &self.outputs
    }

    /// The outputs, without waiting.
    pub fn into_outputs(mut self) -> O {
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
    pub fn wait(mut self) -> Result<O, RuntimeError> {
        // All are waited for, also after one has failed.
        let mut outcome = Ok(());
        for event in self.events.drain(..) {
            outcome = outcome.and(event.wait());
        }
        outcome?;
        Ok(std::mem::take(&mut self.outputs))
    }
}

impl<O> Drop for Execution<O> {
    fn drop(&mut self) {
        self.client.detach(self.events.drain(..));
    }
}

impl<O: fmt::Debug> fmt::Debug for Execution<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execution").field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl<O: Default + Unpin> IntoFuture for Execution<O> {
    type Output = Result<O, RuntimeError>;
    type IntoFuture = Completion<O>;

    fn into_future(self) -> Completion<O> {
        Completion { execution: self, progress: None }
    }
}

/// The future of an [`Execution`]. It needs no particular async runtime; dropping it leaves the launch running.
#[must_use = "futures do nothing unless polled"]
pub struct Completion<O = Vec<Buffer>> {
    execution: Execution<O>,
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

impl<O: Default + Unpin> Future for Completion<O> {
    type Output = Result<O, RuntimeError>;

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
