//! Shapes, element types and lists, as the C API and as Rust.

use std::ptr::NonNull;

use pjrt_sys::*;
use smallvec::SmallVec;

use crate::runtime::error::RuntimeError;
use crate::spec::DType;

/// A shape; none in use has more dimensions.
pub(crate) type Dims = SmallVec<[usize; 6]>;

/// A list with an entry an argument or output. Launching allocates nothing for the usual number of them.
pub(crate) type Few<T> = SmallVec<[T; 16]>;

/// An object that a call has returned.
pub(super) fn non_null<T>(
    ptr: *mut T,
    call: &'static str,
    what: &'static str,
) -> Result<NonNull<T>, RuntimeError> {
    NonNull::new(ptr).ok_or(RuntimeError::NullObject { call, what })
}

pub(super) fn type_code(dtype: DType) -> PJRT_Buffer_Type {
    match dtype {
        DType::F32 => PJRT_Buffer_Type_PJRT_Buffer_Type_F32,
        DType::Bf16 => PJRT_Buffer_Type_PJRT_Buffer_Type_BF16,
        DType::I32 => PJRT_Buffer_Type_PJRT_Buffer_Type_S32,
    }
}

#[allow(non_upper_case_globals)]
pub(super) fn dtype_of(code: PJRT_Buffer_Type) -> Option<DType> {
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
