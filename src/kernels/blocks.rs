//! Block sizes of the manifests: for a target and a page size, and nothing else, so that a sum is grouped the same way
//! whatever the batch.

use super::tables::BLOCKS;
use super::target::Target;
use super::tiles::Tiles;
use crate::batch::{BatchError, Tiling};

impl Target {
    /// Attention's block sizes for a page size, from `kernels/attention/manifest.toml`: plans for this target are made
    /// with them.
    ///
    /// # Errors
    /// The page size is none that tiles can be cut at.
    pub fn tiling(self, page_size: usize) -> Result<Tiling, BatchError> {
        match self {
            Target::Portable => {
                let Tiles { q_tile, kv_tile, own_tile, .. } = BLOCKS.attention;
                Tiling::portable(q_tile, kv_tile.max(page_size), own_tile, page_size)
            }
            Target::Tpu => {
                let Tiles { q_tile, kv_tile, own_tile, row_block } = BLOCKS.attention_tpu;
                let tiling = Tiling::tpu(q_tile, kv_tile.max(page_size), own_tile, page_size)?;
                Ok(tiling.with_row_block(row_block.unwrap_or(q_tile))?.into())
            }
        }
    }
}

/// [`Target::tiling`] of the portable kernels.
pub fn default_tiling(page_size: usize) -> Result<Tiling, BatchError> {
    Target::Portable.tiling(page_size)
}
