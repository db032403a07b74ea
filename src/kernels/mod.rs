//! Kernel text: templates under `kernels/`, rendered for a spec and a bucket, verified, wrapped as functions.
//!
//! | I want … | |
//! | --- | --- |
//! | a kernel for a spec and a plan | [`Kernel::attention`], [`Kernel::attention_write`], [`Kernel::kv_write`], [`Kernel::label_logprobs`], [`Kernel::label_softmax`] |
//! | to know whether a plan may run on a kernel that I keep | [`Kernel::takes`] |
//! | its function for a target, to put into a program | [`stablehlo_function`], [`Function::text`], [`Function::call`] |
//! | a module of it alone | [`Function::module`] |
//! | the positions of a plan's rows on the device | [`positions`] |
//! | to check a module of mine that has such functions in it | [`verify()`] |
//! | block sizes | [`Target::tiling`], [`tuned_tiling`] for a kind of TPU and a [`WorkloadClass`] |
//! | its Mosaic text, for the emulator | [`Kernel::mosaic_text`] |
//! | what the manifests declare | [`variants`](fn@variants) |

mod attention_write;
mod blocks;
mod call;
mod class;
mod error;
mod function;
mod kernel;
mod mosaic;
pub(crate) mod params;
mod planned;
mod portable;
#[cfg(in_library)]
mod registry;
mod render;
mod sizes;
mod tables;
mod target;
mod tensor_type;
pub(crate) mod tiles;
mod tuned;
mod variant;
mod verify;

pub use attention_write::positions;
pub use blocks::default_tiling;
pub use class::WorkloadClass;
pub use error::KernelError;
pub use function::Function;
pub use kernel::{Kernel, stablehlo_function};
pub use mosaic::{
    LabelOutput, LabelSoftmaxTiling, LabelTiling, TpuKind, attention_mosaic, attention_tpu, kv_write_mosaic,
    kv_write_tpu, label_logprobs_mosaic, label_logprobs_tpu, label_partials_tpu, label_softmax_mosaic,
    label_softmax_tpu,
};
pub use portable::{attention, kv_write, label_logprobs, label_softmax};
#[cfg(in_library)]
pub use registry::variants;
pub use target::Target;
pub use tensor_type::TensorType;
pub use tuned::{TunedTiling, attention_vmem, tuned_tiling};
pub use variant::{Variant, VariantShape, Workload};
pub use verify::{VerifyError, verify};
