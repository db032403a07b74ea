//! What is static about a kernel: head counts, dimensions, dtypes and page size.
//!
//! A spec is checked once, when it is built; everything downstream trusts it.

mod attention;
mod dtype;
mod error;
mod kv_write;
mod label_logprobs;

pub use attention::{AttentionSpec, AttentionSpecBuilder};
pub use dtype::DType;
pub use error::{PageRule, SpecError};
pub use kv_write::KvWriteSpec;
pub use label_logprobs::{LabelLogprobsSpec, LabelSet};
