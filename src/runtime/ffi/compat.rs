//! The `pjrt` crate's topologies and ahead-of-time compilation, over a plugin of any version.
//!
//! `pjrt` passes structs of its own header's size, panics where a destroy or a getter fails, and initialises the plugin
//! once more. So it gets a table whose entries are the functions below: they call the plugin's real entry with a padded
//! struct, and keep the error of a call whose failure `pjrt` would panic on. Entries that are not needed are absent.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::c_char;
use std::mem::ManuallyDrop;
use std::ptr::{copy_nonoverlapping, null_mut};

use pjrt_sys::*;

use super::abi::{Call, Padded, Table};
use super::executable::MemoryStats;
use crate::runtime::error::RuntimeError;
use crate::runtime::plugin_error::{ErrorCode, PluginError};

thread_local! {
    /// The plugin whose entries the functions below call on this thread.
    static REAL: Cell<Option<&'static Table>> = const { Cell::new(None) };
    /// The error of a call whose failure `pjrt` would panic on.
    static KEPT: RefCell<Option<RuntimeError>> = const { RefCell::new(None) };
}

/// Runs `body`, in which `pjrt` may call `table`'s plugin; fails with the kept error, if any.
fn with_plugin<T>(table: &'static Table, body: impl FnOnce() -> T) -> Result<T, RuntimeError> {
    let before = REAL.replace(Some(table));
    let result = body();
    REAL.set(before);
    match KEPT.take() {
        None => Ok(result),
        Some(error) => Err(error),
    }
}

/// Copies `args` into a padded struct, calls the plugin's entry, and copies the out fields back.
///
/// # Safety
/// `args` is a live struct of exactly `A`'s fields, as `pjrt` fills it for this entry.
unsafe fn forward<A: Call>(args: *mut A) -> *mut PJRT_Error {
    let Some(entry) = REAL.get().and_then(|table| A::entry(&table.api)) else {
        keep(RuntimeError::MissingEntry { entry: A::NAME });
        return null_mut();
    };
    let mut padded = Padded::<A>::new();
    let words = size_of::<A>() / size_of::<u64>();
    // SAFETY: both structs have `words` words; the first is the size, which stays each one's own. The pointers in
    // `args` are what the entry demands: the caller's promise.
    unsafe {
        let (from, to) = (args.cast::<u64>(), (&raw mut padded).cast::<u64>());
        copy_nonoverlapping(from.add(1), to.add(1), words - 1);
        let error = entry(padded.as_mut_ptr());
        copy_nonoverlapping(to.add(1), from.add(1), words - 1);
        error
    }
}

/// An entry that `pjrt` handles the errors of.
unsafe extern "C" fn fallible<A: Call>(args: *mut A) -> *mut PJRT_Error {
    // SAFETY: called by `pjrt` with its struct for this entry.
    unsafe { forward(args) }
}

/// An entry whose errors `pjrt` panics on.
unsafe extern "C" fn infallible<A: Call>(args: *mut A) -> *mut PJRT_Error {
    // SAFETY: called by `pjrt` with its struct for this entry.
    let error = unsafe { forward(args) };
    if let Some(table) = REAL.get() {
        // SAFETY: the error is ours: `pjrt` is told that there is none.
        if let Some(error) = unsafe { table.take_error(A::NAME, error) } {
            keep(error.into());
        }
    }
    null_mut()
}

/// Serialization, which also needs a deleter when it failed.
unsafe extern "C" fn serialize(args: *mut PJRT_Executable_Serialize_Args) -> *mut PJRT_Error {
    unsafe extern "C" fn nothing(_: *mut PJRT_SerializedExecutable) {}
    const EMPTY: &[u8] = &[];
    // SAFETY: called by `pjrt` with its struct for this entry, which stays writable.
    unsafe {
        infallible(args);
        let args = &mut *args;
        args.serialized_executable_deleter.get_or_insert(nothing);
        if args.serialized_bytes.is_null() {
            args.serialized_bytes = EMPTY.as_ptr().cast::<c_char>();
            args.serialized_bytes_size = 0;
        }
    }
    null_mut()
}

/// Device descriptions, whose array may not be null even where there is none.
unsafe extern "C" fn descriptions(
    args: *mut PJRT_TopologyDescription_GetDeviceDescriptions_Args,
) -> *mut PJRT_Error {
    // SAFETY: called by `pjrt` with its struct for this entry, which stays writable.
    unsafe {
        infallible(args);
        let args = &mut *args;
        if args.descriptions.is_null() {
            args.descriptions = std::ptr::dangling();
            args.num_descriptions = 0;
        }
    }
    null_mut()
}

/// The plugin was initialised when it was loaded.
unsafe extern "C" fn initialized(_: *mut PJRT_Plugin_Initialize_Args) -> *mut PJRT_Error {
    null_mut()
}

fn keep(error: RuntimeError) {
    // The first error is the cause; a destroy that fails after it is not.
    KEPT.with_borrow_mut(|kept| {
        kept.get_or_insert(error);
    });
}

fn api(table: &'static Table) -> pjrt::Api {
    // SAFETY: null entries are `None`.
    let mut patched: PJRT_Api = unsafe { std::mem::zeroed() };
    patched.struct_size = size_of::<PJRT_Api>();
    patched.pjrt_api_version = table.api.pjrt_api_version;
    patched.PJRT_Error_Message = table.api.PJRT_Error_Message;
    patched.PJRT_Error_GetCode = table.api.PJRT_Error_GetCode;
    patched.PJRT_Error_Destroy = table.api.PJRT_Error_Destroy;
    patched.PJRT_Plugin_Initialize = Some(initialized);
    // Absent entries stay absent: `pjrt` reports those.
    let real = &table.api;
    patched.PJRT_TopologyDescription_Create = real.PJRT_TopologyDescription_Create.and(Some(fallible));
    patched.PJRT_TopologyDescription_Destroy = Some(infallible);
    patched.PJRT_TopologyDescription_PlatformName = Some(infallible);
    patched.PJRT_TopologyDescription_PlatformVersion = Some(infallible);
    patched.PJRT_TopologyDescription_GetDeviceDescriptions = Some(descriptions);
    patched.PJRT_DeviceDescription_Kind = Some(infallible);
    patched.PJRT_Compile = real.PJRT_Compile.and(Some(fallible));
    patched.PJRT_Executable_Destroy = Some(infallible);
    patched.PJRT_Executable_Serialize = Some(serialize);
    patched.PJRT_Executable_GetCompiledMemoryStats =
        real.PJRT_Executable_GetCompiledMemoryStats.and(Some(infallible));
    // `wrap` copies the table.
    pjrt::Api::wrap(&patched)
}

fn error_of(call: &'static str, error: pjrt::Error) -> RuntimeError {
    match error {
        pjrt::Error::PjrtError { msg, code, .. } => {
            PluginError::new(call, ErrorCode::from_raw(code as u32), msg).into()
        }
        pjrt::Error::NullFunctionPointer(entry) => RuntimeError::MissingEntry { entry },
        other => PluginError::new(call, ErrorCode::Unknown, other.to_string()).into(),
    }
}

/// A topology to compile for, with or without its devices.
pub(crate) struct RawTopology {
    table: &'static Table,
    api: pjrt::Api,
    inner: ManuallyDrop<pjrt::TopologyDescription>,
}

// SAFETY: PJRT topologies are immutable and may be used from any thread.
unsafe impl Send for RawTopology {}
// SAFETY: as above.
unsafe impl Sync for RawTopology {}

impl RawTopology {
    pub(crate) fn create(table: &'static Table, name: &str) -> Result<Self, RuntimeError> {
        let api = with_plugin(table, || api(table))?;
        let inner = with_plugin(table, || api.create_topology(name, Vec::new()))?
            .map_err(|error| error_of("PJRT_TopologyDescription_Create", error))?;
        Ok(Self { table, api, inner: ManuallyDrop::new(inner) })
    }

    pub(crate) fn platform_name(&self) -> Result<String, RuntimeError> {
        with_plugin(self.table, || self.inner.platform_name().into_owned())
    }

    pub(crate) fn platform_version(&self) -> Result<String, RuntimeError> {
        with_plugin(self.table, || self.inner.platform_version().into_owned())
    }

    /// Number of its devices.
    pub(crate) fn device_count(&self) -> Result<usize, RuntimeError> {
        with_plugin(self.table, || self.inner.device_descriptions().len())
    }

    /// Kinds of its devices, each once.
    pub(crate) fn device_kinds(&self) -> Result<BTreeSet<String>, RuntimeError> {
        with_plugin(self.table, || {
            self.inner.device_descriptions().iter().map(|device| device.kind().into_owned()).collect()
        })
    }

    /// Compiles MLIR text and returns the serialized executable, and its memory where the plugin can tell.
    pub(crate) fn compile(
        &self,
        mlir: &str,
        options: pjrt::CompileOptions,
    ) -> Result<(Vec<u8>, Option<MemoryStats>), RuntimeError> {
        let program = pjrt::Program::new(pjrt::ProgramFormat::MLIR, mlir);
        let (executable, bytes) = with_plugin(self.table, || {
            let executable = self.api.compile(&program, &self.inner, options, None)?;
            let bytes = executable.serialize().bytes().to_vec();
            Ok((executable, bytes))
        })?
        .map_err(|error| error_of("PJRT_Compile", error))?;
        let memory = self.memory_stats(&executable);
        with_plugin(self.table, || drop(executable))?;
        Ok((bytes, memory))
    }

    fn memory_stats(&self, executable: &pjrt::Executable) -> Option<MemoryStats> {
        self.table.api.PJRT_Executable_GetCompiledMemoryStats?;
        let stats = with_plugin(self.table, || executable.compiled_memory_stats());
        let stats = stats.inspect_err(|error| tracing::debug!(%error, "no memory statistics")).ok()?;
        let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
        Some(MemoryStats {
            generated_code: bytes(stats.generated_code_size_in_bytes),
            argument: bytes(stats.argument_size_in_bytes),
            output: bytes(stats.output_size_in_bytes),
            alias: bytes(stats.alias_size_in_bytes),
            temp: bytes(stats.temp_size_in_bytes),
            peak: None,
        })
    }
}

impl Drop for RawTopology {
    fn drop(&mut self) {
        // SAFETY: dropped once, here. A failing destroy leaks and has no receiver.
        let _ = with_plugin(self.table, || unsafe { ManuallyDrop::drop(&mut self.inner) });
    }
}
