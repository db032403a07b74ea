//! A TPU that is interpreted: programs run on a CPU plugin, their Mosaic kernels in the emulator.

mod install;
mod kernels;
mod text;
mod tpu;

pub(super) use install::{install, program};
pub use tpu::InterpretedTpu;
