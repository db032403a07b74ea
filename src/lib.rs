//! tpu-rpa: shared-prefix ragged paged attention, KV-page writes and label log-probs for scoring engines.
#![deny(unsafe_code)]

#[cfg(feature = "emulator")]
pub mod emulator;
pub mod spec;
