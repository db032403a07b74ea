use std::fmt;
use std::sync::Arc;

use super::element::Element;
use super::error::RuntimeError;
use super::ffi::buffer::RawBuffer;
use super::ffi::types::{Dims, element_count};
use super::host::zeros;
use crate::spec::DType;

/// An array on a device. Clones name the same memory, which is freed with the last of them.
///
/// Contents are immutable, except that a launch may take them over: see [`Arg::Donate`](super::Arg::Donate).
#[derive(Clone)]
pub struct Buffer {
    inner: Arc<Inner>,
}

struct Inner {
    raw: RawBuffer,
    dtype: DType,
    dims: Dims,
    /// Checked when the buffer was made: `dims` multiplied.
    len: usize,
}

impl Buffer {
    /// Takes over a buffer whose type and shape are known.
    pub(crate) fn new(raw: RawBuffer, dtype: DType, dims: &[usize]) -> Result<Self, RuntimeError> {
        let len = element_count(dims, dtype)?;
        Ok(Self { inner: Arc::new(Inner { raw, dtype, dims: dims.into(), len }) })
    }

    /// Takes over an output of a program.
    pub(crate) fn output(raw: RawBuffer, index: usize) -> Result<Self, RuntimeError> {
        let dtype = raw.dtype()?.map_err(|code| RuntimeError::OutputElementType { index, code })?;
        let dims = raw.dims()?;
        Self::new(raw, dtype, &dims)
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.inner.dtype
    }

    /// Shape, slowest dimension first; empty for a scalar.
    pub fn dims(&self) -> &[usize] {
        &self.inner.dims
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.inner.len == 0
    }

    /// Size of the elements in bytes, without a device's padding.
    pub fn size_bytes(&self) -> usize {
        self.inner.len * self.inner.dtype.size()
    }

    /// Index of its device in [`Client::devices`](super::Client::devices).
    ///
    /// # Errors
    /// The plugin cannot tell.
    pub fn device_index(&self) -> Result<usize, RuntimeError> {
        self.inner.raw.device_index()
    }

    /// Whether its memory was donated to a launch.
    pub fn is_deleted(&self) -> bool {
        self.inner.raw.is_deleted()
    }

    /// Blocks until the contents are there.
    ///
    /// # Errors
    /// The upload or the launch that should have made them failed.
    pub fn wait(&self) -> Result<(), RuntimeError> {
        self.inner.raw.wait()
    }

    /// Copies the contents to the host, in row-major order, once they are there.
    ///
    /// # Errors
    /// `T` is not the buffer's element type, the host cannot allocate the elements, the buffer was donated, or what should
    /// have made the contents failed.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, RuntimeError> {
        self.check_dtype::<T>()?;
        let len = self.inner.len;
        let mut values = zeros(len).ok_or(RuntimeError::HostMemory { len, dtype: T::DTYPE })?;
        self.inner.raw.download(&self.inner.dims, bytemuck::cast_slice_mut::<T, u8>(&mut values))?;
        Ok(values)
    }

    /// [`Buffer::to_vec`] into memory of the caller.
    ///
    /// # Errors
    /// As for [`Buffer::to_vec`], and if `values` does not have the buffer's number of elements. After an error the
    /// contents of `values` are not to be used.
    pub fn read_into<T: Element>(&self, values: &mut [T]) -> Result<(), RuntimeError> {
        self.check_dtype::<T>()?;
        if values.len() != self.inner.len {
            return Err(RuntimeError::ElementCount {
                what: "host slice",
                found: values.len(),
                expected: self.inner.len,
                dims: self.inner.dims.to_vec(),
            });
        }
        self.inner.raw.download(&self.inner.dims, bytemuck::cast_slice_mut(values))
    }

    fn check_dtype<T: Element>(&self) -> Result<(), RuntimeError> {
        if T::DTYPE == self.inner.dtype {
            return Ok(());
        }
        Err(RuntimeError::BufferDType { found: self.inner.dtype, requested: T::DTYPE })
    }

    pub(crate) fn raw(&self) -> &RawBuffer {
        &self.inner.raw
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("dtype", &self.dtype())
            .field("dims", &self.dims())
            .finish_non_exhaustive()
    }
}
