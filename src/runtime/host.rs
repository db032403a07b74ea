use std::ops::{Deref, DerefMut};

use super::element::Element;
use super::error::RuntimeError;
use super::ffi::buffer::HostBytes;

/// The alignment from which CPU plugins use host memory in place instead of copying it.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Host elements at an address aligned to 64 bytes: [`Client::upload_owned`](super::Client::upload_owned) of one is
/// free of copies on CPU plugins.
#[derive(Clone)]
pub struct HostBuffer<T> {
    lines: Vec<Line>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Element> HostBuffer<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// The host cannot allocate as many.
    pub fn zeroed(len: usize) -> Result<Self, RuntimeError> {
        let lines = zeros(len.div_ceil(size_of::<Line>() / size_of::<T>()))
            .ok_or(RuntimeError::HostMemory { len, dtype: T::DTYPE })?;
        Ok(Self { lines, len, element: std::marker::PhantomData })
    }
}

impl<T: Element> TryFrom<&[T]> for HostBuffer<T> {
    type Error = RuntimeError;
    fn try_from(values: &[T]) -> Result<Self, RuntimeError> {
        let mut buffer = Self::zeroed(values.len())?;
        buffer.copy_from_slice(values);
        Ok(buffer)
    }
}

/// `len` zeros, if the host can allocate them.
pub(super) fn zeros<T: bytemuck::Zeroable>(len: usize) -> Option<Vec<T>> {
    bytemuck::try_zeroed_vec(len).ok()
}

impl<T: Element> Deref for HostBuffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Element> DerefMut for HostBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl<T: Element> AsRef<[T]> for HostBuffer<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

/// A caller's host memory on loan to a buffer. `as_ref` borrows from an object that is neither moved nor changed until
/// it is dropped, so what it returned stays in place.
pub(crate) struct Lent<T, H> {
    pub(crate) host: H,
    pub(crate) element: std::marker::PhantomData<fn() -> T>,
}

impl<T: Element, H: AsRef<[T]> + Send + Sync> HostBytes for Lent<T, H> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self.host.as_ref())
    }
}
