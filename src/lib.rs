//! tpu-rpa: shared-prefix ragged paged attention, KV-page writes and label log-probs for scoring engines.
#![deny(unsafe_code)]

pub mod batch;
pub mod kernels;
pub mod mask;
pub mod reference;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod score;
pub mod spec;
