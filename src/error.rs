/// Any error of this crate; every part has a precise one of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A spec was refused.
    #[error(transparent)]
    Spec(#[from] crate::spec::SpecError),
    /// A batch was refused.
    #[error(transparent)]
    Batch(#[from] crate::batch::BatchError),
    /// A kernel could not be made.
    #[error(transparent)]
    Kernel(#[from] crate::kernels::KernelError),
    /// A scoring request was refused, or its engine failed.
    #[error(transparent)]
    Score(#[from] crate::score::ScoreError),
    /// The device, its plugin or a program failed.
    #[cfg(feature = "runtime")]
    #[error(transparent)]
    Runtime(#[from] crate::runtime::RuntimeError),
    /// A schedule could not be made or read.
    #[cfg(feature = "schedule")]
    #[error(transparent)]
    Schedule(#[from] crate::schedule::ScheduleError),
}
