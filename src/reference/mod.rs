//! What every kernel result is compared with: plain CPU evaluation on `ndarray`, slow and obviously right.
//!
//! Nothing here shares code with the planner or the kernels except [`mask`](crate::mask), the definition of
//! visibility. Inputs are trusted: a shape or an index that does not fit panics.
//!
//! Two evaluations exist of every kernel. The `f64` one is the truth. The same-precision one is what an
//! honest, unclever implementation reaches in the kernel's own precision; its error sets the scale for the
//! error that a kernel may have, measured with [`relative_error`].

mod attention;
mod difference;
mod kv_write;
mod label_logprobs;
mod real;
mod rounding;

pub use attention::{AttentionInputs, attention, attention_rounded};
pub use difference::{absolute_error, relative_error};
pub use kv_write::kv_write;
pub use label_logprobs::{Labels, label_logprobs, label_logprobs_f32, label_softmax, label_softmax_f32};
pub use rounding::Rounding;
