#![cfg_attr(feature = "runtime", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "runtime"),
    doc = "Specs, batch plans, kernel text and the CPU reference of tpu-rpa; the `runtime` feature is off."
)]
//!
//! # From question to function
//!
//! | I want to … | |
//! | --- | --- |
//! | say what my model's attention is | [`spec::AttentionSpec::builder`] |
//! | say what a batch is, and have it checked | [`batch::Group`], [`batch::Planner::plan`] |
//! | know where new keys and values are written | [`batch::KvSlots`] |
//! | get a kernel for a spec and a plan | [`kernels::Kernel::attention`] and its siblings |
//! | put it into a program of mine | [`kernels::stablehlo_function`], [`kernels::Function::call`], [`kernels::positions`] |
//! | check such a program | [`kernels::verify()`] |
//! | know which block sizes suit a TPU | [`kernels::tuned_tiling`] |
//! | know whether a row may see a key | [`mask::visible`] |
//! | keep queries in KV pages | [`prefix_cache::PrefixCache`] |
//! | score requests with an engine of mine | [`score::ForwardPass`], [`score::Scorer`] |
//! | know what is right | [`reference::attention`], [`reference::label_logprobs`], [`reference::kv_write`] |
#![cfg_attr(
    feature = "runtime",
    doc = "| load a plugin, upload, compile, run | [`runtime::Plugin::discover`], [`runtime::Client`] |\n\
           | run one kernel alone, in the form for my device | [`runtime::Client::kernel`] |\n\
           | compile for a TPU without one | [`runtime::Topology::compile_aot`] |"
)]
#![cfg_attr(feature = "emulator", doc = "| execute a Mosaic text on the CPU | [`emulator::Emulator`] |")]
#![cfg_attr(
    feature = "schedule",
    doc = "| time a kernel on a TPU without one | [`schedule::Compiler::schedule`], [`schedule::Schedule::replay`] |"
)]
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod batch;
#[cfg(feature = "emulator")]
pub mod emulator;
mod error;
pub mod kernels;
pub mod mask;
pub mod prefix_cache;
pub mod reference;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "schedule")]
pub mod schedule;
pub mod score;
pub mod spec;

pub use error::Error;
/// The version whose element types public functions take.
pub use half;
/// The version whose arrays [`mod@reference`] takes and gives.
pub use ndarray;
