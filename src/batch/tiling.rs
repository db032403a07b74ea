use super::BatchError;
use super::bucket::token_bucket;
use super::meta::layout;

/// Block sizes of the attention kernel, in tokens.
///
/// `kv_tile` and `own_tile` decide how sums are grouped, so a result depends on them in its last bits; `q_tile` only
/// decides which rows are computed together, and plans take a smaller one for small batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiling {
    q_tile: usize,
    kv_tile: usize,
    own_tile: usize,
    row_block: usize,
    aligned_runs: bool,
    scaled_scores: bool,
}

impl Tiling {
    /// Slots at which runs of new keys start under [`with_aligned_runs`](Self::with_aligned_runs): what a DMA of
    /// bf16 rows needs.
    pub const RUN_ALIGN: usize = 16;

    /// Checks the sizes: `q_tile` and `own_tile` powers of two in 8..=1024 and 8..=256; `kv_tile` a multiple
    /// of `page_size` and of 8, at least `own_tile`.
    pub fn new(q_tile: usize, kv_tile: usize, own_tile: usize, page_size: usize) -> Result<Self, BatchError> {
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
        Ok(Tiling { q_tile, kv_tile, own_tile, row_block: q_tile, aligned_runs: false, scaled_scores: false })
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

    /// Most rows that an entry over slots covers: as many as a tile has slots, or the query tile where rows lie on lanes.
    pub fn slot_rows(&self) -> usize {
        if self.aligned_runs { self.q_tile } else { self.own_tile.min(self.q_tile) }
    }

    /// Longest segment that is packed into slots; a longer one is read in tiles of `kv_tile`, mostly empty for one
    /// that is little longer than `own_tile`.
    pub fn short_segment(&self) -> usize {
        if self.aligned_runs { self.own_tile } else { (4 * self.own_tile).min(self.kv_tile) }
    }

    /// Most row blocks of a query tile.
    pub const MAX_ROW_BLOCKS: usize = layout::STEP_FRESH as usize;

    /// Query tokens that a visit of a key tile computes: the query tile, or the part that
    /// [`with_row_block`](Self::with_row_block) made of it.
    pub fn row_block(&self) -> usize {
        self.row_block
    }

    /// Splits query tiles of aligned runs into blocks of `tokens`. Key tiles are copied once a query tile, but only blocks
    /// with a row that sees one compute it: for batches of sequences with few new tokens each. A power of two from 8
    /// that makes at most [`MAX_ROW_BLOCKS`](Self::MAX_ROW_BLOCKS) blocks.
    pub fn with_row_block(self, tokens: usize) -> Result<Self, BatchError> {
        let blocks = self.q_tile / tokens.max(1);
        if !tokens.is_power_of_two() || tokens < 8 || !(1..=Self::MAX_ROW_BLOCKS).contains(&blocks) {
            let bound = "a power of two from 8 to q_tile, and at least a sixteenth of it";
            return Err(BatchError::Limit { field: "row_block", value: tokens, bound });
        }
        Ok(Tiling { row_block: tokens, ..self }.with_aligned_runs())
    }

    /// Whether a query tile has several row blocks.
    pub(crate) fn many_blocks(&self) -> bool {
        self.row_block < self.q_tile
    }

    /// Whether leads and long segments lie in the slot map too.
    pub fn aligned_runs(&self) -> bool {
        self.aligned_runs
    }

    /// Puts leads and long segments into the slot map too, at multiples of [`RUN_ALIGN`](Self::RUN_ALIGN), so
    /// that every tile of new keys starts where a DMA may; and fixes the query tile, whose rows lie on lanes.
    pub fn with_aligned_runs(self) -> Self {
        Tiling { aligned_runs: true, ..self }
    }

    /// Whether the TPU kernel multiplies scores by their scale, see [`with_scaled_scores`](Self::with_scaled_scores).
    pub fn scaled_scores(&self) -> bool {
        self.scaled_scores
    }

    /// Has the TPU kernel scale every score instead of the queries. Queries of bf16 are otherwise scaled as a sum of two
    /// bf16 terms, contracted together: free where a matrix unit contracts 256 elements and heads have at most 128 (v6e,
    /// v7x), but twice the work of a unit that contracts 128 (v5e). Plans are the same.
    pub fn with_scaled_scores(self) -> Self {
        Tiling { scaled_scores: true, ..self }
    }

    /// Rows of the bucket of aligned runs that holds `tokens`.
    pub(super) fn rows(&self, tokens: usize) -> usize {
        token_bucket(tokens).next_multiple_of(self.q_tile)
    }

    pub(super) fn with_q_tile(self, q_tile: usize) -> Self {
        Tiling { q_tile, row_block: q_tile, ..self }
    }
}
