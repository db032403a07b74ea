//! Block sizes of attention that replayed schedules chose, `kernels/tables/<device>.toml`.

use std::fmt;

use super::class::WorkloadClass;
use super::mosaic::TpuKind;
use super::tables::TUNED;
use super::target::Target;
use super::tiles::TunedEntry;
use crate::batch::{BatchError, ScaleOn, Tiling};
use crate::spec::AttentionSpec;

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
/// top. [`TpuKind::vmem_budget`] bounds it. `usize::MAX` stands for that and more.
pub fn attention_vmem(spec: &AttentionSpec, tiling: &Tiling) -> usize {
    let (heads, dim, element) = (spec.kv_heads(), spec.head_dim(), spec.dtype().size());
    let (group, kv_tile) = (spec.group_size(), tiling.kv_tile());
    // Arrays whose last dimension is a head's are padded to 128 lanes.
    let padded = dim.next_multiple_of(128);
    let depth = if tiling.many_blocks() { 8 } else { 4 };
    // Two heads of 128 that share a product have a mask side by side.
    let masks = if tiling.row_block() * group == 128 && dim == 128 && element == 2 { 2 } else { 1 };
    let product = |factors: &[usize]| factors.iter().fold(1, |n: usize, &factor| n.saturating_mul(factor));
    let rows = tiling.q_tile() * group;
    let ring = product(&[depth, 2, heads, kv_tile, padded, element]);
    let scores = product(&[tiling.row_block() * group, kv_tile, heads * (4 + element) + 4 * masks]);
    let results = product(&[heads, rows, 4 * dim + 3 * 8 * 4]);
    let queries = product(&[heads, rows, 2 * dim * element]);
    let windows = product(&[2, rows, 2 * heads * padded * element + 8 * 4]);
    [ring, scores, results, queries, windows].into_iter().fold(0, usize::saturating_add)
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
    let scale_on = if entry.scaled_scores { ScaleOn::Scores } else { ScaleOn::Queries };
    let tiling = loop {
        let q_tile = (row_block * blocks).min(1024);
        let tiling = Tiling::tpu(q_tile, kv_tile, entry.tiles.own_tile, spec.page_size())?;
        let tiling = tiling.with_row_block(row_block)?.with_scale_on(scale_on).into();
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
    Ok(TunedTiling { tiling, entry: Some(entry), exact: entry.distance(spec) == 0.0 })
}
