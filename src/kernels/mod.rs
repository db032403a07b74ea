//! Kernel text: templates under `kernels/`, rendered for a spec and a bucket, verified, wrapped as functions.

mod error;
mod function;
mod mosaic;
mod params;
mod portable;
mod registry;
mod render;
mod verify;

use crate::batch::layout;

pub use error::KernelError;
pub use function::{Function, TensorType};
pub use mosaic::{
    LabelOutput, LabelSoftmaxTiling, LabelTiling, attention_mosaic, attention_tpu, kv_write_mosaic,
    kv_write_tpu, label_logprobs_mosaic, label_logprobs_tpu, label_partials_tpu, label_softmax_mosaic,
    label_softmax_tpu,
};
pub use portable::{attention, kv_write, label_logprobs, label_softmax};
pub use registry::{Variant, VariantShape, default_tiling, variants};
pub use verify::VerifyError;
