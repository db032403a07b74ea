//! Block sizes of attention that replayed schedules chose, `kernels/tables/<device>.toml`.

use std::fmt;

use super::blocks::Tiles;
#[cfg(in_library)]
use super::registry::TUNED;
use super::{Target, TpuKind};
use crate::batch::{BatchError, Group, Tiling};
#[cfg(not(in_library))]
use crate::registry::TUNED;
use crate::spec::{AttentionSpec, DType};

/// What a batch mostly consists of: what block sizes depend on, besides heads and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(not(in_library), derive(serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum WorkloadClass {
    /// Many segments that share a prefix or a lead: scoring.
    Packed,
    /// Long sequences from their start, or nearly: more new tokens than cached ones.
    Prefill,
    /// Few new tokens a sequence behind long cached ones.
    Decode,
    /// Anything else.
    Mixed,
}

impl WorkloadClass {
    /// All of them.
    pub const ALL: [WorkloadClass; 4] =
        [WorkloadClass::Packed, WorkloadClass::Prefill, WorkloadClass::Decode, WorkloadClass::Mixed];

    /// The class of a batch: packed where groups have four segments or more on average; else decode where they have at
    /// most eight new tokens on average; else prefill where new tokens outnumber those of cached prefixes; else mixed.
    /// A batch without groups is mixed.
    pub fn of(groups: &[Group<'_>]) -> Self {
        let sum = |of: fn(&Group<'_>) -> usize| groups.iter().map(of).sum::<usize>();
        let segments = sum(|g| g.cu_seg_lens.len().saturating_sub(1));
        let new = sum(|g| match g.cu_seg_lens {
            [first, .., last] => last.saturating_sub(*first).max(0) as usize,
            _ => 0,
        });
        let cached = sum(|g| g.prefix_len.max(0) as usize);
        if groups.is_empty() {
            WorkloadClass::Mixed
        } else if segments >= 4 * groups.len() {
            WorkloadClass::Packed
        } else if new <= 8 * groups.len() {
            WorkloadClass::Decode
        } else if new > cached {
            WorkloadClass::Prefill
        } else {
            WorkloadClass::Mixed
        }
    }

    /// Short name: `packed`, `prefill`, `decode`, `mixed`.
    pub fn name(self) -> &'static str {
        match self {
            WorkloadClass::Packed => "packed",
            WorkloadClass::Prefill => "prefill",
            WorkloadClass::Decode => "decode",
            WorkloadClass::Mixed => "mixed",
        }
    }
}

impl fmt::Display for WorkloadClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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
    fn group(&self) -> usize {
        self.q_heads / self.kv_heads
    }

    /// How unlike a shape it was measured on: octaves between the ratios of heads, the head sizes, half of those
    /// between the KV heads, a quarter of those between the page sizes.
    fn distance(&self, spec: &AttentionSpec) -> f64 {
        let octaves = |a: usize, b: usize| (a as f64 / b as f64).log2().abs();
        octaves(self.group(), spec.group_size())
            + octaves(self.head_dim, spec.head_dim())
            + octaves(self.kv_heads, spec.kv_heads()) / 2.0
            + octaves(self.page_size, spec.page_size()) / 4.0
    }
}

/// Block sizes for a shape on a device, and where they come from.
#[derive(Clone, Debug)]
pub struct TunedTiling {
    tiling: Tiling,
    entry: Option<&'static TunedEntry>,
    exact: bool,
}

impl TunedTiling {
    /// The block sizes.
    pub fn tiling(&self) -> Tiling {
        self.tiling
    }

    /// Whether a table has an entry for this very shape; else they are those of the nearest one, or the default.
    pub fn is_exact(&self) -> bool {
        self.exact
    }
}

/// Tells the tiles and the entry that they rest on.
impl fmt::Display for TunedTiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.tiling;
        write!(f, "tiles {}/{}/{}, ", t.q_tile(), t.kv_tile(), t.own_tile())?;
        if t.many_blocks() {
            write!(f, "row blocks of {}, ", t.row_block())?;
        }
        match self.entry {
            None => f.write_str("the default: no table has this device, class and dtype"),
            Some(e) => {
                f.write_str(if self.exact {
                    "tuned for "
                } else {
                    "from the nearest shape that was tuned: "
                })?;
                write!(f, "{} on {}, {}/{}x{}, ", e.class, e.device, e.q_heads, e.kv_heads, e.head_dim)?;
                write!(f, "pages of {}", e.page_size)
            }
        }
    }
}

/// VMEM that attention's Mosaic text declares with these tiles, in bytes, or a little more: a ring of key tiles (four;
/// eight where a query tile has several row blocks), scores and probabilities of all heads, a mask, results and
/// statistics, scaled queries, and two windows each of queries, results and row words. The compiler's temporaries come on
/// top. [`TpuKind::vmem_budget`] bounds it.
pub fn attention_vmem(spec: &AttentionSpec, tiling: &Tiling) -> usize {
    let (heads, dim, element) = (spec.kv_heads(), spec.head_dim(), spec.dtype().size());
    let rows = tiling.q_tile() * spec.group_size();
    let (block, kv_tile) = (tiling.row_block() * spec.group_size(), tiling.kv_tile());
    // Arrays whose last dimension is a head's are padded to 128 lanes.
    let padded = dim.next_multiple_of(128);
    let depth = if tiling.many_blocks() { 8 } else { 4 };
    let ring = depth * 2 * heads * kv_tile * padded * element;
    // Two heads of 128 that share a product have a mask side by side.
    let masks = if block == 128 && dim == 128 && element == 2 { 2 } else { 1 };
    let scores = block * kv_tile * (heads * (4 + element) + 4 * masks);
    let results = heads * rows * (4 * dim + 3 * 8 * 4);
    let queries = heads * rows * 2 * dim * element;
    let windows = 2 * rows * (2 * heads * padded * element + 8 * 4);
    ring + scores + results + queries + windows
}

/// Block sizes of attention for a shape on a kind of TPU: those of the table's entry for the device, the class, the dtype
/// and this shape, or else of the nearest one (see the source's `distance`), with the row block turned so that as
/// many rows lie on lanes, the key tile raised to a multiple of the page size, and number and size of row blocks and the key
/// tile halved until [`attention_vmem`] fits the budget or they cannot be smaller.
/// Without an entry they are [`Target::tiling`].
///
/// # Errors
/// The page size is none that tiles can be cut at.
pub fn tuned_tiling(
    device: TpuKind,
    spec: &AttentionSpec,
    class: WorkloadClass,
) -> Result<TunedTiling, BatchError> {
    let nearest = TUNED
        .iter()
        .filter(|e| e.device == device && e.class == class && e.dtype == spec.dtype())
        .min_by(|a, b| a.distance(spec).total_cmp(&b.distance(spec)));
    let Some(entry) = nearest else {
        let tiling = Target::Tpu.tiling(spec.page_size())?;
        return Ok(TunedTiling { tiling, entry: None, exact: false });
    };
    let group = spec.group_size();
    // Rows lie on 128 lanes.
    let least = (128 >> group.trailing_zeros().min(7)).max(8);
    let rows = entry.tiles.row_block.unwrap_or(entry.tiles.q_tile) * entry.group();
    let mut blocks = entry.tiles.q_tile * entry.group() / rows;
    let mut row_block = (1 << (rows / group).max(1).ilog2()).clamp(least, 1024);
    let mut kv_tile = entry.tiles.kv_tile.next_multiple_of(spec.page_size());
    let tiling = loop {
        let q_tile = (row_block * blocks).min(1024);
        let tiling = Tiling::new(q_tile, kv_tile, entry.tiles.own_tile, spec.page_size())?;
        let tiling = tiling.with_row_block(row_block)?;
        if attention_vmem(spec, &tiling) <= device.vmem_budget() {
            break tiling;
        }
        if blocks > 1 {
            blocks /= 2;
        } else if row_block > least {
            row_block /= 2;
        } else if (kv_tile / 2).is_multiple_of(spec.page_size()) && kv_tile / 2 >= entry.tiles.own_tile {
            kv_tile /= 2;
        } else {
            break tiling;
        }
    };
    let tiling = if entry.scaled_scores { tiling.with_scaled_scores() } else { tiling };
    Ok(TunedTiling { tiling, entry: Some(entry), exact: entry.distance(spec) == 0.0 })
}
