//! Bounds of the sizes that kernels take. They index with `i32`; bytes of a tensor are counted with `i64`.

use super::KernelError;
use super::tensor_type::TensorType;
use crate::batch::{Bucket, Planner, layout};
use crate::spec::DType;

/// Greatest size, and one more than the greatest index.
pub(super) const MOST: usize = i32::MAX as usize;

/// Words of metadata that a planner makes at most.
const MOST_WORDS: usize = MOST / 4;

/// Refuses a size that is 0 or no `i32`.
pub(super) fn size(field: &'static str, value: usize) -> Result<(), KernelError> {
    within(field, value, 1, MOST)
}

/// Refuses a size below `least` or above `most`.
pub(super) fn within(
    field: &'static str,
    value: usize,
    least: usize,
    most: usize,
) -> Result<(), KernelError> {
    if value < least {
        return Err(KernelError::Shape { field, value, bound: format!("at least {least}") });
    }
    if value > most {
        return Err(KernelError::Shape { field, value, bound: format!("at most {most}") });
    }
    Ok(())
}

/// Refuses a bucket that no planner makes, as one made by hand may be.
pub(super) fn bucket(bucket: &Bucket) -> Result<(), KernelError> {
    let Bucket { tokens, meta_words, q_tile, key_slots } = *bucket;
    within("bucket.tokens", tokens, 1, Planner::MAX_TOKENS)?;
    if q_tile == 0 || !tokens.is_multiple_of(q_tile) {
        let bound = format!("a positive multiple of q_tile ({q_tile})");
        return Err(KernelError::Shape { field: "bucket.tokens", value: tokens, bound });
    }
    let least = layout::HEADER + layout::ROW_SECTIONS * tokens;
    within("bucket.meta_words", meta_words, least, MOST_WORDS)?;
    // Slots are keys behind those of the rows.
    within("bucket.key_slots", key_slots, 0, MOST - tokens)
}

/// Refuses a tensor of more bytes than `i64` counts.
pub(super) fn tensor(what: &'static str, dtype: DType, dims: &[usize]) -> Result<(), KernelError> {
    let bytes = dims.iter().try_fold(dtype.size(), |bytes, &dim| bytes.checked_mul(dim));
    match bytes {
        Some(bytes) if i64::try_from(bytes).is_ok() => Ok(()),
        _ => Err(KernelError::TensorSize { what, tensor: TensorType::new(dtype, dims) }),
    }
}
