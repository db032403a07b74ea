#![cfg_attr(feature = "runtime", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "runtime"),
    doc = "Specs, batch plans, kernel text and the CPU reference of tpu-rpa; the `runtime` feature is off."
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
/// The version whose arrays [`reference`] takes and gives.
pub use ndarray;
