//! The boundary to the plugin's C functions. All unsafe code of the crate is in this folder; what it hands out is safe.
//!
//! * [`abi`]: one call through the function table, with argument structs that fit any plugin's version.
//! * [`library`]: opening a plugin file and checking its table.
//! * [`handles`]: owned client, buffer, executable and event.
//! * [`profiler`]: extensions, and the profiler that one of them may offer.
//! * [`compat`]: the `pjrt` crate's topologies over a plugin of any version.
pub(super) mod abi;
pub(super) mod compat;
pub(super) mod handles;
pub(super) mod library;
pub(super) mod profiler;
