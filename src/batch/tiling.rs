use super::{BatchError, ScaleOn, TileSizes, TpuTiling};

/// Block sizes of the attention kernel, in tokens, and the target whose kernel takes plans of them.
///
/// `kv_tile` and `own_tile` decide how sums are grouped, so a result depends on them in its last bits; `q_tile` only
/// decides which rows are computed together, and portable plans take a smaller one for small batches.
///
/// What only the TPU kernel knows, a portable tiling cannot be asked for:
///
/// ```compile_fail,E0599
/// # use tpu_rpa::batch::Tiling;
/// let blocks = Tiling::portable(64, 64, 32, 16)?.with_row_block(16)?;
/// # Ok::<_, tpu_rpa::batch::BatchError>(())
/// ```
/// ```
/// # use tpu_rpa::batch::Tiling;
/// let blocks: Tiling = Tiling::tpu(64, 64, 32, 16)?.with_row_block(16)?.into();
/// # Ok::<_, tpu_rpa::batch::BatchError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tiling {
    /// For the portable kernel, which reads leads and long segments where they lie among the new keys.
    Portable(TileSizes),
    /// For the TPU kernel, which reads all new keys from slots.
    Tpu(TpuTiling),
}

impl From<TpuTiling> for Tiling {
    fn from(tiling: TpuTiling) -> Self {
        Tiling::Tpu(tiling)
    }
}

impl Tiling {
    /// Block sizes of the portable kernel.
    ///
    /// # Errors
    /// `q_tile` and `own_tile` must be powers of two in 8..=1024 and 8..=256; `kv_tile` a multiple of `page_size` and
    /// of 8, at least `own_tile`.
    pub fn portable(
        q_tile: usize,
        kv_tile: usize,
        own_tile: usize,
        page_size: usize,
    ) -> Result<Self, BatchError> {
        Ok(Tiling::Portable(TileSizes::new(q_tile, kv_tile, own_tile, page_size)?))
    }

    /// Block sizes of the TPU kernel, of one row block and with scaled queries: a builder that becomes a `Tiling`.
    ///
    /// # Errors
    /// As for [`Tiling::portable`].
    pub fn tpu(
        q_tile: usize,
        kv_tile: usize,
        own_tile: usize,
        page_size: usize,
    ) -> Result<TpuTiling, BatchError> {
        Ok(TpuTiling::new(TileSizes::new(q_tile, kv_tile, own_tile, page_size)?))
    }

    fn sizes(&self) -> &TileSizes {
        match self {
            Tiling::Portable(sizes) => sizes,
            Tiling::Tpu(tiling) => tiling.sizes(),
        }
    }

    /// Query tokens of a tile.
    pub fn q_tile(&self) -> usize {
        self.sizes().q_tile()
    }
    /// Keys of a tile over a prefix, a lead or a long segment; tiles start at its first key.
    pub fn kv_tile(&self) -> usize {
        self.sizes().kv_tile()
    }
    /// Keys of a tile over packed short segments; a segment lies in as few of these tiles as its length allows.
    pub fn own_tile(&self) -> usize {
        self.sizes().own_tile()
    }

    /// Most rows that an entry over slots covers: as many as a tile has slots, or the query tile where rows lie on lanes.
    pub fn slot_rows(&self) -> usize {
        match self {
            Tiling::Portable(sizes) => sizes.own_tile().min(sizes.q_tile()),
            Tiling::Tpu(_) => self.q_tile(),
        }
    }

    /// Longest segment that is packed into slots; a longer one is read in tiles of `kv_tile`, mostly empty for one
    /// that is little longer than `own_tile`.
    pub fn short_segment(&self) -> usize {
        match self {
            Tiling::Portable(sizes) => (4 * sizes.own_tile()).min(sizes.kv_tile()),
            Tiling::Tpu(_) => self.own_tile(),
        }
    }

    /// Query tokens that a visit of a key tile computes: the query tile, or a [`TpuTiling`]'s part of it.
    pub fn row_block(&self) -> usize {
        match self {
            Tiling::Portable(sizes) => sizes.q_tile(),
            Tiling::Tpu(tiling) => tiling.row_block(),
        }
    }

    /// Whether a query tile has several row blocks.
    pub(crate) fn many_blocks(&self) -> bool {
        self.row_block() < self.q_tile()
    }

    /// Whether leads and long segments lie in the slot map too.
    pub(crate) fn is_tpu(&self) -> bool {
        matches!(self, Tiling::Tpu(_))
    }

    /// Whether the kernel multiplies scores, and not queries, by their scale.
    pub(crate) fn scales_scores(&self) -> bool {
        matches!(self, Tiling::Tpu(tiling) if tiling.scale_on() == ScaleOn::Scores)
    }
}
