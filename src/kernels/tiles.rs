//! Block sizes as manifests and tables declare them: what generated data is made of.

use super::class::WorkloadClass;
use super::mosaic::TpuKind;
use crate::spec::{AttentionSpec, DType};

/// Block sizes as the manifests declare them.
pub(crate) struct Blocks {
    pub attention: Tiles,
    pub attention_tpu: Tiles,
    /// Rows of the LM head that the portable label kernels multiply at a time.
    pub vocab_block: usize,
}

/// Query, key and own tile of attention, and row blocks of a query tile where it has several, in tokens.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tiles {
    pub q_tile: usize,
    pub kv_tile: usize,
    pub own_tile: usize,
    #[serde(default)]
    pub row_block: Option<usize>,
}

/// A line of a table: for this shape on this device, these block sizes took the fewest cycles.
#[derive(Clone, Debug)]
pub(crate) struct TunedEntry {
    pub device: TpuKind,
    pub class: WorkloadClass,
    pub q_heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub dtype: DType,
    pub page_size: usize,
    pub tiles: Tiles,
    pub scaled_scores: bool,
}

impl TunedEntry {
    pub(super) fn group(&self) -> usize {
        self.q_heads / self.kv_heads
    }

    /// How unlike a shape it was measured on: octaves between the ratios of heads, the head sizes, half of those
    /// between the KV heads, a quarter of those between the page sizes.
    pub(super) fn distance(&self, spec: &AttentionSpec) -> f64 {
        let octaves = |a: usize, b: usize| (a as f64 / b as f64).log2().abs();
        octaves(self.group(), spec.group_size())
            + octaves(self.head_dim, spec.head_dim())
            + octaves(self.kv_heads, spec.kv_heads()) / 2.0
            + octaves(self.page_size, spec.page_size()) / 4.0
    }
}
