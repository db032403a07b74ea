use super::meta::layout;
use super::{BatchError, TileSizes};

/// What the TPU kernel multiplies by the scale of scores. Plans are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScaleOn {
    /// Queries, once a query tile. Those of bf16 become a sum of two bf16 terms, contracted together: free where a matrix
    /// unit contracts 256 elements and heads have at most 128 (v6e, v7x), but twice the work of a unit that contracts 128
    /// (v5e).
    #[default]
    Queries,
    /// Every score.
    Scores,
}

/// Block sizes of the TPU kernel, [`Tiling::tpu`](super::Tiling::tpu). All new keys lie in the slot map, leads and long
/// segments at multiples of [`RUN_ALIGN`](Self::RUN_ALIGN), so that every tile of new keys starts where a DMA may; the query
/// tile, whose rows lie on lanes, is the same for every plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TpuTiling {
    sizes: TileSizes,
    row_block: usize,
    scale_on: ScaleOn,
}

impl TpuTiling {
    /// Slots at which runs of new keys start: what a DMA of bf16 rows needs.
    pub const RUN_ALIGN: usize = 16;

    /// Most row blocks of a query tile.
    pub const MAX_ROW_BLOCKS: usize = layout::STEP_FRESH as usize;

    pub(super) fn new(sizes: TileSizes) -> Self {
        TpuTiling { sizes, row_block: sizes.q_tile(), scale_on: ScaleOn::default() }
    }

    /// Query, key and own tile.
    pub fn sizes(&self) -> &TileSizes {
        &self.sizes
    }

    /// Query tokens that a visit of a key tile computes: the query tile, or the part that
    /// [`with_row_block`](Self::with_row_block) made of it.
    pub fn row_block(&self) -> usize {
        self.row_block
    }

    /// Splits query tiles into blocks of `tokens`. Key tiles are copied once a query tile, but only blocks with a row that
    /// sees one compute it: for batches of sequences with few new tokens each. A power of two from 8 that makes at most
    /// [`MAX_ROW_BLOCKS`](Self::MAX_ROW_BLOCKS) blocks.
    pub fn with_row_block(self, tokens: usize) -> Result<Self, BatchError> {
        let blocks = self.sizes.q_tile() / tokens.max(1);
        if !tokens.is_power_of_two() || tokens < 8 || !(1..=Self::MAX_ROW_BLOCKS).contains(&blocks) {
            let bound = "a power of two from 8 to q_tile, and at least a sixteenth of it";
            return Err(BatchError::Limit { field: "row_block", value: tokens, bound });
        }
        Ok(TpuTiling { row_block: tokens, ..self })
    }

    /// What is multiplied by the scale of scores.
    pub fn scale_on(&self) -> ScaleOn {
        self.scale_on
    }

    /// Has the kernel scale queries or scores.
    pub fn with_scale_on(self, scale_on: ScaleOn) -> Self {
        TpuTiling { scale_on, ..self }
    }
}
