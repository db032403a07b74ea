//! The TPU kernels: Mosaic text, and the StableHLO function that calls it.

mod attention;
mod device;
mod kv_write;
mod label_logprobs;
mod label_softmax;

use base64::Engine as _;

use super::KernelError;
use super::function::check_symbol;

pub use attention::{attention_mosaic, attention_tpu};
pub use device::TpuKind;
pub use kv_write::{kv_write_mosaic, kv_write_tpu};
pub use label_logprobs::{
    LabelOutput, LabelTiling, label_logprobs_mosaic, label_logprobs_tpu, label_partials_tpu,
};
pub use label_softmax::{LabelSoftmaxTiling, label_softmax_mosaic, label_softmax_tpu};

/// VMEM that the compiler may give a kernel, in bytes; each device kind has at least 64 MiB.
const VMEM_LIMIT: usize = 60 << 20;

/// SMEM that a kernel's operands may take, in bytes; the rest of each device kind's is the compiler's.
const SMEM_LIMIT: usize = 960 << 10;

/// Rows that label kernels score at most: an index even where the last block, of 512 rows at most, is padded.
const MAX_ROWS: usize = (1 << 31) - 512;

/// A kernel text as a custom call carries it.
fn encoded(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The rendered text of a kernel, of which no other function may have the kernel's name.
fn text(
    kernel: &'static str,
    name: &str,
    rendered: Result<String, minijinja::Error>,
) -> Result<String, KernelError> {
    check_symbol(name)?;
    let text = rendered.map_err(|e| KernelError::Template { kernel, reason: format!("{e:#}") })?;
    if text.matches(&format!("func.func @{name}(")).count() > 1 {
        return Err(KernelError::ReservedName { name: name.to_owned(), owner: kernel });
    }
    Ok(text)
}
