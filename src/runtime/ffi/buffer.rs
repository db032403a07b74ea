//! Device buffers, and the way to and from host memory.

use std::ptr::NonNull;
use std::sync::Arc;

use pjrt_sys::*;
use smallvec::SmallVec;

use super::abi::{Padded, slice};
use super::client::RawClient;
use super::event::RawEvent;
use super::types::{Dims, dtype_of, element_count, non_null, type_code};
use crate::runtime::error::RuntimeError;
use crate::spec::DType;

/// Host memory that a buffer may alias: immutable and in place until dropped.
pub(crate) trait HostBytes: Send + Sync {
    fn bytes(&self) -> &[u8];
}

/// A device buffer.
pub(crate) struct RawBuffer {
    pub(super) client: Arc<RawClient>,
    pub(super) ptr: NonNull<PJRT_Buffer>,
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
