use super::BatchError;

/// Query, key and own tile, in tokens; see [`Tiling`](super::Tiling), whose constructors check them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TileSizes {
    q_tile: usize,
    kv_tile: usize,
    own_tile: usize,
}

impl TileSizes {
    pub(super) fn new(
        q_tile: usize,
        kv_tile: usize,
        own_tile: usize,
        page_size: usize,
    ) -> Result<Self, BatchError> {
        let limit = |field, value, bound| Err(BatchError::Limit { field, value, bound });
        if !q_tile.is_power_of_two() || !(8..=1024).contains(&q_tile) {
            return limit("q_tile", q_tile, "a power of two from 8 to 1024");
        }
        if !own_tile.is_power_of_two() || !(8..=256).contains(&own_tile) {
            return limit("own_tile", own_tile, "a power of two from 8 to 256");
        }
        if page_size == 0
            || !kv_tile.is_multiple_of(page_size)
            || !kv_tile.is_multiple_of(8)
            || kv_tile > 1 << 16
        {
            return limit("kv_tile", kv_tile, "a multiple of page_size and of 8, at most 65536");
        }
        if kv_tile < own_tile {
            return limit("kv_tile", kv_tile, "at least own_tile");
        }
        Ok(TileSizes { q_tile, kv_tile, own_tile })
    }

    /// Query tokens of a tile.
    pub fn q_tile(&self) -> usize {
        self.q_tile
    }
    /// Keys of a tile over a prefix, a lead or a long segment; tiles start at its first key.
    pub fn kv_tile(&self) -> usize {
        self.kv_tile
    }
    /// Keys of a tile over packed short segments; a segment lies in as few of these tiles as its length allows.
    pub fn own_tile(&self) -> usize {
        self.own_tile
    }

    pub(super) fn with_q_tile(self, q_tile: usize) -> Self {
        TileSizes { q_tile, ..self }
    }
}
