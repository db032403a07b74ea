//! Runs kernels through any PJRT plugin: TPU, GPU or CPU.
//!
//! A [`Plugin`] is a loaded shared object, a [`Client`] owns its devices, a [`Buffer`] is memory on a device, an
//! [`Executable`] is a compiled program. All of them may be shared between threads, and each keeps alive what it needs,
//! so they may be dropped in any order.
//!
//! ```no_run
//! use tpu_rpa::runtime::{Client, ClientOptions, CompileOptions, DiscoveryOptions, Plugin};
//!
//! let plugin = Plugin::discover(&DiscoveryOptions::from_env())?;
//! let client = Client::new(&plugin, ClientOptions::new().device_count(1))?;
//! let program = "func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
//!   %y = stablehlo.add %x, %x : tensor<4xf32>
//!   return %y : tensor<4xf32>
//! }";
//! let double = client.compile(program, &CompileOptions::new())?;
//! let x = client.upload(&[1.0f32, 2.0, 3.0, 4.0], &[4])?;
//! let y = double.run(&[&x])?;
//! assert_eq!(y[0].to_vec::<f32>()?, [2.0, 4.0, 6.0, 8.0]);
//! # Ok::<(), tpu_rpa::runtime::RuntimeError>(())
//! ```
//!
//! | I want … | |
//! | --- | --- |
//! | to find a plugin | [`Plugin::discover`], [`DiscoveryOptions`] |
//! | one of the library's kernels, in the form for my device | [`Client::kernel`], with block sizes from [`Client::tiling`] |
//! | a program of mine | [`Client::compile`], [`Executable::run`], [`Executable::launch`] with donated arguments ([`Arg`]) |
//! | compiled programs kept on disk | [`ClientOptions::disk_cache`], [`Client::cache_stats`] |
//! | to compile for devices that are not here | [`Plugin::topology`], [`Topology::compile_aot`] |
//! | to know what memory a program needs | [`Executable::memory_stats`] |
//! | to run programs for TPU without one (feature `emulator`) | `ClientOptions::interpreted_tpu` |
//!
//! Plugins of C API versions from 0.54 on are supported. All unsafe code is in the `ffi` folder of this module.

#[allow(unsafe_code)]
mod ffi;

mod buffer;
mod cache;
mod client;
mod compile_options;
mod discovery;
mod element;
mod error;
mod executable;
mod execution;
mod extension;
mod host;
#[cfg(feature = "emulator")]
mod interpreted;
mod options;
mod platform;
mod plugin;
mod plugin_error;
mod precompiled;
mod profiler;
mod signature;
mod source;
mod topology;

pub use buffer::Buffer;
pub use cache::CacheStats;
pub use client::{Client, Device};
pub use compile_options::CompileOptions;
pub use discovery::DiscoveryOptions;
pub use element::Element;
pub use error::{Candidate, DiscoveryReport, Outcome, RuntimeError};
pub use executable::{Arg, Executable};
pub use execution::{Completion, Execution};
pub use extension::Extension;
pub use ffi::executable::MemoryStats;
pub use host::HostBuffer;
#[cfg(feature = "emulator")]
pub use interpreted::InterpretedTpu;
pub use options::{ClientOptions, OptionValue};
pub use plugin::Plugin;
pub use plugin_error::{ErrorCode, PluginError};
pub use precompiled::Precompiled;
pub use profiler::Profiler;
pub use signature::{Parameter, Signature};
pub use source::Source;
pub use topology::{AotExecutable, Topology};
