//! Compiled programs and their launches.

use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use pjrt_sys::*;
use smallvec::{SmallVec, smallvec};

use super::abi::{Padded, slice};
use super::buffer::RawBuffer;
use super::client::RawClient;
use super::event::RawEvent;
use super::types::{Few, dtype_of, non_null};
use crate::runtime::error::RuntimeError;
use crate::spec::DType;

/// Memory that a compiled program needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Machine code.
    pub generated_code: u64,
    /// All arguments.
    pub argument: u64,
    /// All outputs.
    pub output: u64,
    /// Arguments that are reused as outputs.
    pub alias: u64,
    /// Temporaries.
    pub temp: u64,
    /// Most memory in use at once, where the plugin tells.
    pub peak: Option<u64>,
}

/// A program that is ready to run.
pub(crate) struct RawExecutable {
    client: Arc<RawClient>,
    loaded: NonNull<PJRT_LoadedExecutable>,
    /// The part that knows about sizes and serialization.
    program: NonNull<PJRT_Executable>,
    outputs: usize,
}

// SAFETY: PJRT executables may be used and freed from any thread.
unsafe impl Send for RawExecutable {}
// SAFETY: as above.
unsafe impl Sync for RawExecutable {}

/// What a launch returns before it has finished.
pub(crate) struct Launched {
    /// Outputs, all of a device together.
    pub(crate) outputs: Few<RawBuffer>,
    /// Completion by device.
    pub(crate) events: SmallVec<[RawEvent; 1]>,
}

impl RawExecutable {
    /// Compiles MLIR text with an encoded `CompileOptionsProto`.
    pub(crate) fn compile(client: &Arc<RawClient>, mlir: &str, options: &[u8]) -> Result<Self, RuntimeError> {
        const FORMAT: &[u8] = b"mlir";
        let mut program = Padded::<PJRT_Program>::new();
        program.head.code = mlir.as_ptr().cast_mut().cast();
        program.head.code_size = mlir.len();
        program.head.format = FORMAT.as_ptr().cast();
        program.head.format_size = FORMAT.len();
        // SAFETY: the client is alive; text and options are read during the call only.
        let args = unsafe {
            client.table.call::<PJRT_Client_Compile_Args>(|args| {
                args.client = client.ptr.as_ptr();
                args.program = program.as_mut_ptr();
                args.compile_options = options.as_ptr().cast();
                args.compile_options_size = options.len();
            })
        }?;
        Self::own(client, args.executable, "PJRT_Client_Compile")
    }

    /// Loads what [`RawExecutable::serialize`] of the same plugin wrote.
    pub(crate) fn deserialize(client: &Arc<RawClient>, bytes: &[u8]) -> Result<Self, RuntimeError> {
        // SAFETY: the client is alive; the bytes are read during the call only.
        let args = unsafe {
            client.table.call::<PJRT_Executable_DeserializeAndLoad_Args>(|args| {
                args.client = client.ptr.as_ptr();
                args.serialized_executable = bytes.as_ptr().cast();
                args.serialized_executable_size = bytes.len();
            })
        }?;
        Self::own(client, args.loaded_executable, "PJRT_Executable_DeserializeAndLoad")
    }

    fn own(
        client: &Arc<RawClient>,
        loaded: *mut PJRT_LoadedExecutable,
        call: &'static str,
    ) -> Result<Self, RuntimeError> {
        let table = client.table;
        let loaded = non_null(loaded, call, "executable")?;
        // SAFETY: `loaded` is alive.
        let program = unsafe {
            table.call::<PJRT_LoadedExecutable_GetExecutable_Args>(|args| {
                args.loaded_executable = loaded.as_ptr()
            })
        }
        .and_then(|args| non_null(args.executable, "PJRT_LoadedExecutable_GetExecutable", "executable"));
        let program = match program {
            Ok(program) => program,
            Err(error) => {
                // SAFETY: `loaded` is ours alone.
                unsafe {
                    table.destroy::<PJRT_LoadedExecutable_Destroy_Args>(|args| {
                        args.executable = loaded.as_ptr()
                    });
                }
                return Err(error);
            }
        };
        let mut this = Self { client: Arc::clone(client), loaded, program, outputs: 0 };
        // SAFETY: `program` is alive.
        this.outputs = unsafe {
            table.call::<PJRT_Executable_NumOutputs_Args>(|args| args.executable = program.as_ptr())
        }?
        .num_outputs;
        Ok(this)
    }

    pub(crate) fn client(&self) -> &Arc<RawClient> {
        &self.client
    }

    /// Outputs of the program on each device.
    pub(crate) fn num_outputs(&self) -> usize {
        self.outputs
    }

    /// Replicas and partitions.
    pub(crate) fn grid(&self) -> Result<(usize, usize), RuntimeError> {
        let (table, program) = (self.client.table, self.program.as_ptr());
        // SAFETY: `program` is alive.
        unsafe {
            let replicas =
                table.call::<PJRT_Executable_NumReplicas_Args>(|args| args.executable = program)?;
            let partitions =
                table.call::<PJRT_Executable_NumPartitions_Args>(|args| args.executable = program)?;
            Ok((replicas.num_replicas, partitions.num_partitions))
        }
    }

    /// Element types of the outputs, or the plugin's number for one that has no name here.
    pub(crate) fn output_dtypes(&self) -> Result<Vec<Result<DType, u32>>, RuntimeError> {
        // SAFETY: `program` is alive and owns the array.
        let codes = unsafe {
            let args = self.client.table.call::<PJRT_Executable_OutputElementTypes_Args>(|args| {
                args.executable = self.program.as_ptr();
            })?;
            slice(args.output_types, args.num_output_types)
        };
        Ok(codes.iter().map(|&code| dtype_of(code).ok_or(code)).collect())
    }

    pub(crate) fn serialize(&self) -> Result<Vec<u8>, RuntimeError> {
        // SAFETY: `program` is alive.
        let args = unsafe {
            self.client
                .table
                .call::<PJRT_Executable_Serialize_Args>(|args| args.executable = self.program.as_ptr())
        }?;
        // SAFETY: the bytes live until the deleter below.
        let bytes = unsafe { slice(args.serialized_bytes.cast::<u8>(), args.serialized_bytes_size) }.to_vec();
        if let Some(deleter) = args.serialized_executable_deleter {
            // SAFETY: called once; the bytes were copied.
            unsafe { deleter(args.serialized_executable) };
        }
        Ok(bytes)
    }

    pub(crate) fn memory_stats(&self) -> Result<MemoryStats, RuntimeError> {
        // SAFETY: `program` is alive. Some plugins write `peak` without checking that the struct has room for it.
        let args = unsafe {
            self.client.table.call_padded::<PJRT_Executable_GetCompiledMemoryStats_Args>(|args| {
                args.executable = self.program.as_ptr();
            })
        }?;
        let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
        Ok(MemoryStats {
            generated_code: bytes(args.head.generated_code_size_in_bytes),
            argument: bytes(args.head.argument_size_in_bytes),
            output: bytes(args.head.output_size_in_bytes),
            alias: bytes(args.head.alias_size_in_bytes),
            temp: bytes(args.head.temp_size_in_bytes),
            // The field after the last one of the header that `pjrt-sys` was made from.
            peak: Some(args.tail[0]).filter(|&peak| peak > 0),
        })
    }

    /// Starts the program on its devices. `arguments` has `width` for each device, one device after the other; those at
    /// the indices `keep` of a device are not donated.
    pub(crate) fn execute(
        &self,
        devices: usize,
        width: usize,
        arguments: &[&RawBuffer],
        keep: &[i64],
    ) -> Result<Launched, RuntimeError> {
        let table = self.client.table;
        if arguments.len() != devices * width {
            return Err(RuntimeError::ArgumentCount {
                expected: devices * width,
                found: arguments.len(),
                device: 0,
            });
        }
        // Another plugin would read its own object layout into the buffer.
        if let Some(at) = arguments.iter().position(|buffer| !Arc::ptr_eq(&buffer.client, &self.client)) {
            return Err(RuntimeError::ForeignArgument { index: at % width });
        }
        let arguments: Few<*mut PJRT_Buffer> = arguments.iter().map(|buffer| buffer.ptr.as_ptr()).collect();
        let mut outputs: Few<*mut PJRT_Buffer> = smallvec![null_mut(); self.outputs * devices];
        let mut events: SmallVec<[*mut PJRT_Event; 1]> = smallvec![null_mut(); devices];
        let (from, to) = (arguments.as_ptr(), outputs.as_mut_ptr());
        let argument_rows: SmallVec<[*const *mut PJRT_Buffer; 1]> =
            (0..devices).map(|device| from.wrapping_add(device * width)).collect();
        let output_rows: SmallVec<[*mut *mut PJRT_Buffer; 1]> =
            (0..devices).map(|device| to.wrapping_add(device * self.outputs)).collect();
        let mut options = Padded::<PJRT_ExecuteOptions>::new();
        options.head.non_donatable_input_indices = keep.as_ptr();
        options.head.num_non_donatable_input_indices = keep.len();
        // SAFETY: the executable and all buffers are alive and of this client; every list has the length stated, and
        // is used during the call only. The plugin checks the number of devices and arguments.
        let result = unsafe {
            table.call::<PJRT_LoadedExecutable_Execute_Args>(|args| {
                args.executable = self.loaded.as_ptr();
                args.options = options.as_mut_ptr();
                args.argument_lists = argument_rows.as_ptr();
                args.num_devices = devices;
                args.num_args = width;
                args.output_lists = output_rows.as_ptr();
                args.device_complete_events = events.as_mut_ptr();
            })
        };
        // Everything that the plugin did hand out is owned before any error is returned.
        let own = |ptr| RawBuffer { client: Arc::clone(&self.client), ptr };
        let outputs: Few<RawBuffer> = outputs.iter().filter_map(|&ptr| NonNull::new(ptr).map(own)).collect();
        let events: SmallVec<[RawEvent; 1]> =
            events.iter().filter_map(|&ptr| NonNull::new(ptr).map(|ptr| RawEvent { table, ptr })).collect();
        let launched = Launched { outputs, events };
        if let Err(error) = result {
            self.client.detach(launched.events);
            return Err(error);
        }
        let missing = |what| RuntimeError::NullObject { call: "PJRT_LoadedExecutable_Execute", what };
        let complete = launched.events.len() == devices;
        let filled = launched.outputs.len() == devices * self.outputs;
        if !(complete && filled) {
            self.client.detach(launched.events);
            return Err(missing(if complete { "output" } else { "completion event" }));
        }
        Ok(launched)
    }
}

impl Drop for RawExecutable {
    fn drop(&mut self) {
        let table = self.client.table;
        // SAFETY: this is the only owner of both; the plugin keeps what running launches need.
        unsafe {
            table.destroy::<PJRT_Executable_Destroy_Args>(|args| args.executable = self.program.as_ptr());
            table
                .destroy::<PJRT_LoadedExecutable_Destroy_Args>(|args| args.executable = self.loaded.as_ptr());
        }
    }
}
