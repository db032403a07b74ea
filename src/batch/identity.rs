use super::meta::layout;
use super::{Bucket, Tiling};

/// [`layout::IDENTITY`] of plans with this tiling and bucket: 32 bits of FNV-1a over all that decides what their words mean
/// and is not the shape of a tensor that a kernel takes beside them. Never 0, which words that nobody planned may well be.
pub(crate) fn identity(
    tiling: &Tiling,
    bucket: &Bucket,
    page_size: usize,
    sliding_window: Option<u32>,
) -> i32 {
    hash(&[
        u64::from(tiling.is_tpu()),
        // A portable plan has a query tile of its own.
        bucket.q_tile as u64,
        if tiling.is_tpu() { tiling.row_block() as u64 } else { 0 },
        tiling.kv_tile() as u64,
        tiling.own_tile() as u64,
        page_size as u64,
        sliding_window.map_or(u64::MAX, u64::from),
        bucket.tokens as u64,
        bucket.meta_words as u64,
        bucket.key_slots as u64,
        layout::HEADER as u64,
    ])
}

/// The first word of KV slots for `rows` rows, in the form of one target.
pub(crate) fn slots_identity(tpu: bool, page_size: usize, rows: usize) -> i32 {
    hash(&[2 + u64::from(tpu), page_size as u64, rows as u64])
}

fn hash(values: &[u64]) -> i32 {
    let mut hash = 0x811C_9DC5_u32;
    for byte in values.iter().flat_map(|value| value.to_le_bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    (hash | 1) as i32
}
