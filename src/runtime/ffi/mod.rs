//! The boundary to the plugin's C functions. All unsafe code of the crate is in this folder; what it hands out is safe.
//!
//! * [`abi`]: one call through the function table, with argument structs that fit any plugin's version.
//! * [`library`]: opening a plugin file and checking its table.
//! * [`client`], [`event`], [`buffer`], [`executable`]: owned plugin objects. Each frees its object once, keeps alive what
//!   the object needs, and may be used from any thread.
//! * [`types`], [`named_values`]: what is passed by value.
//! * [`profiler`]: extensions, and the profiler that one of them may offer.
//! * `custom_call`: custom calls of CPU programs that this process answers.
//! * [`compat`]: the `pjrt` crate's topologies over a plugin of any version.
pub(super) mod abi;
pub(super) mod buffer;
pub(super) mod client;
pub(super) mod compat;
#[cfg(feature = "emulator")]
pub(super) mod custom_call;
pub(super) mod event;
pub(super) mod executable;
pub(super) mod library;
mod named_values;
pub(super) mod profiler;
pub(super) mod types;
