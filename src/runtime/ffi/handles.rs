//! Owned plugin objects. Each frees its object once, keeps alive what the object needs, and may be used from any thread.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

use pjrt_sys::*;
use smallvec::{SmallVec, smallvec};

use super::abi::{Padded, Table, slice, text};
use crate::runtime::error::{PluginError, RuntimeError};
use crate::runtime::options::OptionValue;
use crate::spec::DType;

/// A shape; none in use has more dimensions.
pub(crate) type Dims = SmallVec<[usize; 6]>;

/// A list with an entry an argument or output. Launching allocates nothing for the usual number of them.
pub(crate) type Few<T> = SmallVec<[T; 16]>;

fn non_null<T>(ptr: *mut T, call: &'static str, what: &'static str) -> Result<NonNull<T>, RuntimeError> {
    NonNull::new(ptr).ok_or(RuntimeError::NullObject { call, what })
}

fn type_code(dtype: DType) -> PJRT_Buffer_Type {
    match dtype {
        DType::F32 => PJRT_Buffer_Type_PJRT_Buffer_Type_F32,
        DType::Bf16 => PJRT_Buffer_Type_PJRT_Buffer_Type_BF16,
        DType::I32 => PJRT_Buffer_Type_PJRT_Buffer_Type_S32,
    }
}

#[allow(non_upper_case_globals)]
fn dtype_of(code: PJRT_Buffer_Type) -> Option<DType> {
    match code {
        PJRT_Buffer_Type_PJRT_Buffer_Type_F32 => Some(DType::F32),
        PJRT_Buffer_Type_PJRT_Buffer_Type_BF16 => Some(DType::Bf16),
        PJRT_Buffer_Type_PJRT_Buffer_Type_S32 => Some(DType::I32),
        _ => None,
    }
}

/// Number of elements of a shape whose byte size fits an `isize`.
pub(crate) fn element_count(dims: &[usize], dtype: DType) -> Result<usize, RuntimeError> {
    let overflow = || RuntimeError::ShapeOverflow { dims: dims.to_vec() };
    // Zero-size shapes may have other dims of any size; each must still fit the C API's i64.
    if dims.iter().any(|&dim| dim > isize::MAX as usize) {
        return Err(overflow());
    }
    let count = if dims.contains(&0) {
        Some(0)
    } else {
        dims.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim))
    };
    count
        .filter(|count| count.checked_mul(dtype.size()).is_some_and(|bytes| bytes <= isize::MAX as usize))
        .ok_or_else(overflow)
}

/// Copies the plugin's named values; types of later versions are left out.
#[allow(non_upper_case_globals)]
pub(super) fn named_values(values: &[PJRT_NamedValue]) -> Vec<(String, OptionValue)> {
    let value_of = |value: &PJRT_NamedValue| {
        let union = &value.__bindgen_anon_1;
        // SAFETY: `type_` says which member of the union was written; arrays have `value_size` elements.
        unsafe {
            Some(match value.type_ {
                PJRT_NamedValue_Type_PJRT_NamedValue_kString => {
                    OptionValue::String(text(union.string_value, value.value_size))
                }
                PJRT_NamedValue_Type_PJRT_NamedValue_kInt64 => OptionValue::Int64(union.int64_value),
                PJRT_NamedValue_Type_PJRT_NamedValue_kInt64List => {
                    OptionValue::Int64List(slice(union.int64_array_value, value.value_size).to_vec())
                }
                PJRT_NamedValue_Type_PJRT_NamedValue_kFloat => OptionValue::Float(union.float_value),
                PJRT_NamedValue_Type_PJRT_NamedValue_kBool => OptionValue::Bool(union.bool_value),
                _ => return None,
            })
        }
    };
    values
        .iter()
        // SAFETY: a named value's name has `name_size` bytes.
        .filter_map(|value| Some((unsafe { text(value.name, value.name_size) }, value_of(value)?)))
        .collect()
}

/// What a plugin says about a device.
#[derive(Clone, Debug)]
pub(crate) struct RawDevice {
    ptr: NonNull<PJRT_Device>,
    pub(crate) id: i32,
    pub(crate) kind: String,
}

/// A client and its devices.
pub(crate) struct RawClient {
    table: &'static Table,
    ptr: NonNull<PJRT_Client>,
    devices: Vec<RawDevice>,
    /// Launches that nobody waits for; the client must outlive them.
    detached: Mutex<Vec<RawEvent>>,
}

// SAFETY: PJRT clients and devices may be used from any thread; the rest is immutable or locked.
unsafe impl Send for RawClient {}
// SAFETY: as above.
unsafe impl Sync for RawClient {}

impl RawClient {
    pub(crate) fn create(
        table: &'static Table,
        options: &[(String, OptionValue)],
    ) -> Result<Self, RuntimeError> {
        let options: Vec<pjrt::NamedValue> = options
            .iter()
            .map(|(name, value)| match value {
                OptionValue::String(value) => pjrt::NamedValue::string(name, value),
                OptionValue::Int64(value) => pjrt::NamedValue::i64(name, *value),
                OptionValue::Int64List(value) => pjrt::NamedValue::i64_list(name, value.clone()),
                OptionValue::Float(value) => pjrt::NamedValue::f32(name, *value),
                OptionValue::Bool(value) => pjrt::NamedValue::bool(name, *value),
            })
            .collect();
        let raw: Vec<PJRT_NamedValue> = options.iter().map(Into::into).collect();
        // SAFETY: `raw` and the `options` it points into live through the call.
        let args = unsafe {
            table.call::<PJRT_Client_Create_Args>(|args| {
                args.create_options = raw.as_ptr();
                args.num_options = raw.len();
            })
        }?;
        let ptr = non_null(args.client, "PJRT_Client_Create", "client")?;
        let mut client = Self { table, ptr, devices: Vec::new(), detached: Mutex::default() };
        client.devices = client.query_devices()?;
        Ok(client)
    }

    fn query_devices(&self) -> Result<Vec<RawDevice>, RuntimeError> {
        // SAFETY: the client is alive.
        let args = unsafe {
            self.table.call::<PJRT_Client_AddressableDevices_Args>(|args| args.client = self.ptr.as_ptr())
        }?;
        // SAFETY: the client owns the array while it lives.
        unsafe { slice(args.addressable_devices, args.num_addressable_devices) }
            .iter()
            .map(|&device| {
                let ptr = non_null(device, "PJRT_Client_AddressableDevices", "device")?;
                // SAFETY: devices live as long as their client, descriptions as long as their device.
                unsafe {
                    let description = self
                        .table
                        .call::<PJRT_Device_GetDescription_Args>(|args| args.device = device)?
                        .device_description;
                    let id = self
                        .table
                        .call::<PJRT_DeviceDescription_Id_Args>(|args| args.device_description = description)?
                        .id;
                    let kind = self.table.call::<PJRT_DeviceDescription_Kind_Args>(|args| {
                        args.device_description = description
                    })?;
                    Ok(RawDevice { ptr, id, kind: text(kind.device_kind, kind.device_kind_size) })
                }
            })
            .collect()
    }

    pub(crate) fn devices(&self) -> &[RawDevice] {
        &self.devices
    }

    pub(crate) fn platform_name(&self) -> Result<String, RuntimeError> {
        // SAFETY: the client is alive and owns the text.
        unsafe {
            let args =
                self.table.call::<PJRT_Client_PlatformName_Args>(|args| args.client = self.ptr.as_ptr())?;
            Ok(text(args.platform_name, args.platform_name_size))
        }
    }

    pub(crate) fn platform_version(&self) -> Result<String, RuntimeError> {
        // SAFETY: the client is alive and owns the text.
        unsafe {
            let args = self
                .table
                .call::<PJRT_Client_PlatformVersion_Args>(|args| args.client = self.ptr.as_ptr())?;
            Ok(text(args.platform_version, args.platform_version_size))
        }
    }

    /// Keeps the events of launches that nobody waits for, so that the client is not destroyed under them.
    pub(crate) fn detach(&self, events: impl IntoIterator<Item = RawEvent>) {
        let mut detached = self.detached.lock().unwrap_or_else(PoisonError::into_inner);
        detached.retain(|event| !event.is_ready());
        detached.extend(events.into_iter().filter(|event| !event.is_ready()));
    }
}

impl Drop for RawClient {
    fn drop(&mut self) {
        for event in self.detached.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // The launch's own error has no receiver any more.
            let _ = event.wait();
        }
        // SAFETY: every buffer, executable and launch of this client holds an `Arc` to it or was waited for above.
        unsafe {
            self.table.destroy::<PJRT_Client_Destroy_Args>(|args| args.client = self.ptr.as_ptr());
        }
    }
}

/// Something that will happen, or has.
pub(crate) struct RawEvent {
    table: &'static Table,
    ptr: NonNull<PJRT_Event>,
}

// SAFETY: PJRT events may be used and freed from any thread.
unsafe impl Send for RawEvent {}
// SAFETY: as above.
unsafe impl Sync for RawEvent {}

type Callback = Box<dyn FnOnce(Option<PluginError>) + Send>;

impl RawEvent {
    /// Blocks until the event has happened; returns its error.
    pub(crate) fn wait(&self) -> Result<(), RuntimeError> {
        // SAFETY: the event is alive.
        unsafe { self.table.call::<PJRT_Event_Await_Args>(|args| args.event = self.ptr.as_ptr()) }.map(|_| ())
    }

    /// Whether the event has happened, successfully or not. A plugin that cannot tell counts as not ready.
    pub(crate) fn is_ready(&self) -> bool {
        // SAFETY: the event is alive.
        unsafe { self.table.call::<PJRT_Event_IsReady_Args>(|args| args.event = self.ptr.as_ptr()) }
            .is_ok_and(|args| args.is_ready)
    }

    /// Runs `callback` once the event has happened: at once, or later on a thread of the plugin. It must be short.
    /// If the plugin refuses, the callback is leaked and never runs.
    pub(crate) fn on_ready(&self, callback: Callback) -> Result<(), RuntimeError> {
        let user_arg = Box::into_raw(Box::new(OnReady { table: self.table, callback }));
        // SAFETY: the event is alive; the plugin calls `run` once with `user_arg`, which nothing else owns.
        unsafe {
            self.table.call::<PJRT_Event_OnReady_Args>(|args| {
                args.event = self.ptr.as_ptr();
                args.callback = Some(OnReady::run);
                args.user_arg = user_arg.cast();
            })
        }
        .map(|_| ())
    }
}

impl Drop for RawEvent {
    fn drop(&mut self) {
        // SAFETY: this is the event's only owner.
        unsafe { self.table.destroy::<PJRT_Event_Destroy_Args>(|args| args.event = self.ptr.as_ptr()) };
    }
}

struct OnReady {
    table: &'static Table,
    callback: Callback,
}

impl OnReady {
    unsafe extern "C" fn run(error: *mut PJRT_Error, user_arg: *mut c_void) {
        // SAFETY: `user_arg` came from `Box::into_raw` in `on_ready`, and this is its one call.
        let this = unsafe { Box::from_raw(user_arg.cast::<OnReady>()) };
        // SAFETY: the callback owns the error.
        let error = unsafe { this.table.take_error("PJRT_Event_OnReady", error) };
        // A waker or a destructor of the user may panic; that must not unwind into the plugin.
        let callback = std::panic::AssertUnwindSafe(this.callback);
        if std::panic::catch_unwind(move || { callback }.0(error)).is_err() {
            tracing::error!("a completion callback panicked");
        }
    }
}

/// Host memory that a buffer may alias: immutable and in place until dropped.
pub(crate) trait HostBytes: Send + Sync {
    fn bytes(&self) -> &[u8];
}

/// A device buffer.
pub(crate) struct RawBuffer {
    client: Arc<RawClient>,
    ptr: NonNull<PJRT_Buffer>,
}

// SAFETY: PJRT buffers may be used and freed from any thread.
unsafe impl Send for RawBuffer {}
// SAFETY: as above.
unsafe impl Sync for RawBuffer {}

impl RawBuffer {
    /// Copies host memory; it may change when this returns.
    pub(crate) fn upload(
        client: &Arc<RawClient>,
        device: usize,
        dtype: DType,
        dims: &[usize],
        bytes: &[u8],
    ) -> Result<Self, RuntimeError> {
        let semantics = PJRT_HostBufferSemantics_PJRT_HostBufferSemantics_kImmutableOnlyDuringCall;
        // SAFETY: the semantics end with the call, `bytes` does not.
        unsafe { Self::from_host(client, device, dtype, dims, bytes, semantics) }.map(|(buffer, _)| buffer)
    }

    /// Lends host memory to the buffer for as long as the plugin wants it, without a copy where the plugin can.
    pub(crate) fn upload_shared(
        client: &Arc<RawClient>,
        device: usize,
        dtype: DType,
        dims: &[usize],
        host: Box<dyn HostBytes>,
    ) -> Result<Self, RuntimeError> {
        let semantics = PJRT_HostBufferSemantics_PJRT_HostBufferSemantics_kImmutableZeroCopy;
        // SAFETY: `host` is boxed and immutable; below it is given to the callback of the event that ends the loan, or
        // leaked where there is no such event.
        let (buffer, done) =
            unsafe { Self::from_host(client, device, dtype, dims, host.bytes(), semantics) }?;
        let Some(done) = done.map(Arc::new) else {
            std::mem::forget(host);
            return Ok(buffer);
        };
        let event = Arc::clone(&done);
        done.on_ready(Box::new(move |_| drop((host, event))))?;
        Ok(buffer)
    }

    /// # Safety
    /// `bytes` outlives what `semantics` promises.
    unsafe fn from_host(
        client: &Arc<RawClient>,
        device: usize,
        dtype: DType,
        dims: &[usize],
        bytes: &[u8],
        semantics: PJRT_HostBufferSemantics,
    ) -> Result<(Self, Option<RawEvent>), RuntimeError> {
        let count = element_count(dims, dtype)?;
        if count * dtype.size() != bytes.len() {
            return Err(RuntimeError::ElementCount {
                what: "host slice",
                found: bytes.len() / dtype.size(),
                expected: count,
                dims: dims.to_vec(),
            });
        }
        let count = client.devices.len();
        let device = client.devices.get(device).ok_or(RuntimeError::DeviceIndex { index: device, count })?;
        let dims: SmallVec<[i64; 6]> = dims.iter().map(|&dim| dim as i64).collect();
        // SAFETY: the client and device are alive, `bytes` has the shape's size and lives long enough.
        let args = unsafe {
            client.table.call::<PJRT_Client_BufferFromHostBuffer_Args>(|args| {
                args.client = client.ptr.as_ptr();
                args.data = bytes.as_ptr().cast();
                args.type_ = type_code(dtype);
                args.dims = dims.as_ptr();
                args.num_dims = dims.len();
                args.host_buffer_semantics = semantics;
                args.device = device.ptr.as_ptr();
            })
        }?;
        let done = NonNull::new(args.done_with_host_buffer).map(|ptr| RawEvent { table: client.table, ptr });
        let ptr = non_null(args.buffer, "PJRT_Client_BufferFromHostBuffer", "buffer")?;
        Ok((Self { client: Arc::clone(client), ptr }, done))
    }

    /// Element type, or the plugin's number for one that has no name here.
    pub(crate) fn dtype(&self) -> Result<Result<DType, u32>, RuntimeError> {
        // SAFETY: the buffer is alive.
        let args = unsafe {
            self.client.table.call::<PJRT_Buffer_ElementType_Args>(|args| args.buffer = self.ptr.as_ptr())
        }?;
        Ok(dtype_of(args.type_).ok_or(args.type_))
    }

    pub(crate) fn dims(&self) -> Result<Dims, RuntimeError> {
        // SAFETY: the buffer is alive and owns the array.
        let dims = unsafe {
            let args = self
                .client
                .table
                .call::<PJRT_Buffer_Dimensions_Args>(|args| args.buffer = self.ptr.as_ptr())?;
            slice(args.dims, args.num_dims)
        };
        // Dimensions are bounds, also where a program has dynamic ones: never negative.
        Ok(dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect())
    }

    /// Index of the buffer's device among the client's addressable devices.
    pub(crate) fn device_index(&self) -> Result<usize, RuntimeError> {
        // SAFETY: the buffer is alive.
        let args = unsafe {
            self.client.table.call::<PJRT_Buffer_Device_Args>(|args| args.buffer = self.ptr.as_ptr())
        }?;
        let devices = &self.client.devices;
        devices
            .iter()
            .position(|device| device.ptr.as_ptr() == args.device)
            .ok_or(RuntimeError::NullObject { call: "PJRT_Buffer_Device", what: "addressable device" })
    }

    pub(crate) fn is_deleted(&self) -> bool {
        // SAFETY: the buffer is alive.
        unsafe {
            self.client.table.call::<PJRT_Buffer_IsDeleted_Args>(|args| args.buffer = self.ptr.as_ptr())
        }
        .is_ok_and(|args| args.is_deleted)
    }

    /// Blocks until the contents are there; returns the error of whatever should have made them.
    pub(crate) fn wait(&self) -> Result<(), RuntimeError> {
        // SAFETY: the buffer is alive.
        let args = unsafe {
            self.client.table.call::<PJRT_Buffer_ReadyEvent_Args>(|args| args.buffer = self.ptr.as_ptr())
        }?;
        let ptr = non_null(args.event, "PJRT_Buffer_ReadyEvent", "event")?;
        RawEvent { table: self.client.table, ptr }.wait()
    }

    /// Copies the contents, row-major, into `bytes`, which must have exactly their size.
    pub(crate) fn download(&self, dims: &[usize], bytes: &mut [u8]) -> Result<(), RuntimeError> {
        if bytes.is_empty() {
            return self.wait();
        }
        let table = self.client.table;
        let minor_to_major: SmallVec<[i64; 6]> = (0..dims.len() as i64).rev().collect();
        let mut layout = Padded::<PJRT_Buffer_MemoryLayout>::new();
        layout.head.type_ = PJRT_Buffer_MemoryLayout_Type_PJRT_Buffer_MemoryLayout_Type_Tiled;
        layout.head.__bindgen_anon_1.tiled = PJRT_Buffer_MemoryLayout_Tiled {
            minor_to_major: minor_to_major.as_ptr(),
            minor_to_major_size: minor_to_major.len(),
            ..PJRT_Buffer_MemoryLayout_Tiled::new()
        };
        // SAFETY: the buffer and the layout are alive; `dst` is writable for `dst_size` bytes until the event below, and
        // the plugin refuses a `dst_size` that is too small.
        let args = unsafe {
            table.call::<PJRT_Buffer_ToHostBuffer_Args>(|args| {
                args.src = self.ptr.as_ptr();
                args.host_layout = layout.as_mut_ptr();
                args.dst = bytes.as_mut_ptr().cast();
                args.dst_size = bytes.len();
            })
        }?;
        let ptr = non_null(args.event, "PJRT_Buffer_ToHostBuffer", "event")?;
        RawEvent { table, ptr }.wait()
    }
}

impl Drop for RawBuffer {
    fn drop(&mut self) {
        // SAFETY: this is the buffer's only owner; launches that use it hold their own reference inside the plugin.
        unsafe {
            self.client.table.destroy::<PJRT_Buffer_Destroy_Args>(|args| args.buffer = self.ptr.as_ptr());
        }
    }
}

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
