//! Plans in the making: rows and slots first, then the key tiles that rows see, then all of it as one tensor.

mod rows;
mod steps;
mod table;
mod visits;

use super::bucket::{Bucket, meta_bucket, slot_bucket};
use super::group::CheckedGroups;
use super::identity::identity;
use super::limits::Limits;
use super::meta::{layout, table_start};
use super::plan::{Plan, PlanNumber, PlanStats};
use super::{BatchError, Tiling};
use rows::{Rows, SlotMap};
use steps::Steps;
use table::TileTable;
use visits::Visits;

/// Lists that a planner keeps from one plan to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    map: SlotMap,
    table: TileTable,
    steps: Steps,
    /// Bucket of the plan before.
    last: Option<Bucket>,
}

/// Rows of the bucket, those that hold a token, and how they are cut.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    pub rows: usize,
    pub num_tokens: usize,
    pub tiling: Tiling,
}

/// The plan of checked groups.
pub(super) fn draft(
    limits: Limits,
    stream: Stream,
    groups: CheckedGroups<'_>,
    scratch: &mut Scratch,
) -> Result<Plan, BatchError> {
    let Stream { rows, num_tokens, tiling } = stream;
    // Batches of one token bucket mostly share a metadata bucket too; a wrong guess costs a reallocation.
    let words = match scratch.last {
        Some(last) if last.tokens == rows => last.meta_words,
        _ => table_start(rows) + 4096.max(2 * rows),
    };
    let rows = Rows::fill(Vec::with_capacity(words), rows, tiling, groups, &mut scratch.map);
    let Scratch { map, table, steps, .. } = &mut *scratch;
    table.clear();
    steps.clear();
    let short_slots = map.short();
    Visits { limits, tiling, groups, rows: &rows, short_slots, table, steps }.list(num_tokens)?;
    let bucket = bucket(limits, stream, groups, scratch);
    limits.check_words(bucket.meta_words)?;
    scratch.last = Some(bucket);
    let table = &scratch.table;
    let stats = PlanStats {
        q_tiles: num_tokens.div_ceil(tiling.q_tile()),
        full_tiles: table.full(),
        edge_tiles: table.len() - table.full(),
    };
    let mut meta = rows.into_words();
    meta[layout::NUM_TOKENS] = num_tokens as i32;
    meta[layout::NUM_Q_TILES] = stats.q_tiles as i32;
    meta[layout::IDENTITY] = identity(&tiling, &bucket, limits.page_size, limits.sliding_window);
    if groups.iter().any(|g| !g.pages.is_empty()) {
        meta[layout::POOL_PAGES] = limits.pool_pages as i32;
    }
    write_tables(&mut meta, bucket, tiling, groups, scratch);
    Ok(Plan {
        bucket,
        tiling,
        num_tokens,
        meta,
        stats,
        groups: groups.iter().map(|g| g.span()).collect(),
        number: PlanNumber::fresh(),
        page_size: limits.page_size,
        pool_pages: limits.pool_pages,
        sliding_window: limits.sliding_window,
    })
}

/// The bucket that holds what was made.
fn bucket(limits: Limits, stream: Stream, groups: CheckedGroups<'_>, scratch: &Scratch) -> Bucket {
    let Stream { rows, tiling, .. } = stream;
    let Scratch { map, table, steps, .. } = scratch;
    let slots = map.slots().len();
    let key_slots = if tiling.is_tpu() { slot_bucket(rows, slots + tiling.kv_tile()) } else { 0 };
    let pages: usize = groups.iter().map(|g| g.pages.len()).sum();
    // A kernel reads whole tiles of the page list and of the slot map: room for one past the last.
    let slack = (tiling.kv_tile() / limits.page_size).max(tiling.own_tile());
    let tiles = table.offsets().len() + table.words().len();
    let words = table_start(rows) + tiles + pages + slots.max(key_slots) + 2 * slack;
    let words = words + steps.words().len() + steps.copies().len() + 2;
    Bucket { tokens: rows, meta_words: meta_bucket(rows, words), q_tile: tiling.q_tile(), key_slots }
}

/// Appends the sections behind the rows, and says in the header where they start.
fn write_tables(
    meta: &mut Vec<i32>,
    bucket: Bucket,
    tiling: Tiling,
    groups: CheckedGroups<'_>,
    scratch: &Scratch,
) {
    let Scratch { map, table, steps, .. } = scratch;
    meta.reserve_exact(bucket.meta_words - meta.len());
    for (word, section) in [(layout::TILE_OFFSETS, table.offsets()), (layout::TILES, table.words())] {
        meta[word] = meta.len() as i32;
        meta.extend_from_slice(section);
    }
    meta[layout::PAGES] = meta.len() as i32;
    groups.iter().for_each(|g| meta.extend_from_slice(g.pages));
    if tiling.many_blocks() {
        meta[layout::STEPS] = meta.len() as i32;
        meta.extend_from_slice(steps.words());
        meta.push(0); // a kernel looks one step ahead
        meta.push(steps.copies().len() as i32);
        meta[layout::COPIES] = meta.len() as i32;
        meta.extend_from_slice(steps.copies());
    }
    meta[layout::SLOTS] = meta.len() as i32;
    meta.extend_from_slice(map.slots());
    meta.resize(bucket.meta_words, 0);
}
