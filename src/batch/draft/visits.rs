//! Which key tiles the rows of every query tile see.

use std::ops::Range;

use super::super::group::{CheckedGroup, CheckedGroups};
use super::super::limits::Limits;
use super::super::meta::layout;
use super::super::{BatchError, Tiling, TpuTiling};
use super::rows::Rows;
use super::steps::Steps;
use super::table::{Entry, TileTable};

/// Lists key tiles.
pub(super) struct Visits<'a> {
    pub limits: Limits,
    pub tiling: Tiling,
    pub groups: CheckedGroups<'a>,
    pub rows: &'a Rows,
    /// Slots of short segments.
    pub short_slots: usize,
    pub table: &'a mut TileTable,
    pub steps: &'a mut Steps,
}

/// Rows of one group in one row block, counted in the token stream.
struct Visit<'a> {
    group: CheckedGroup<'a>,
    q_start: usize,
    rows: Range<usize>,
    /// Real rows of the block, all groups.
    tile_rows: Range<usize>,
    /// Least and greatest position among the rows.
    positions: (i64, i64),
}

/// Keys of a prefix or of a run that a kernel reads as one tile.
struct KeyTile {
    kind: i32,
    start: usize,
    key_base: i32,
    position: usize,
    keys: usize,
}

impl Visits<'_> {
    /// Lists those of every query tile that holds one of the stream's tokens.
    pub(super) fn list(mut self, num_tokens: usize) -> Result<(), BatchError> {
        let q = self.tiling.row_block();
        let blocks = self.tiling.q_tile() / q;
        let mut first_entry = 0;
        let groups = self.groups;
        let (mut first_group, mut segment_at) = (0, 0);
        // The TPU kernel starts with scores alone: those of little tiles leave the least of the vector unit idle.
        let slots_first = self.tiling.is_tpu();
        let mut page_base = 0;
        for t in 0..num_tokens.div_ceil(q) {
            if t % blocks == 0 {
                // Long prefixes times many query tiles: refuse before memory is gone.
                self.limits.check_words(self.table.words().len())?;
                first_entry = self.table.begin_q_tile();
            }
            let tile_rows = t * q..((t + 1) * q).min(num_tokens);
            while let Some(group) = groups.get(first_group).filter(|g| g.end() <= tile_rows.start) {
                page_base += group.pages.len();
                first_group += 1;
                segment_at = 0;
            }
            if slots_first {
                self.slot_tiles(&tile_rows);
            }
            let mut base = page_base;
            for group in groups.from(first_group) {
                if group.start() >= tile_rows.end {
                    break;
                }
                let rows = group.start().max(tile_rows.start)..group.end().min(tile_rows.end);
                if !rows.is_empty() {
                    let positions = self.position_range(&rows);
                    let visit =
                        Visit { group, q_start: t * q, rows, tile_rows: tile_rows.clone(), positions };
                    self.prefix_tiles(&visit, base);
                    self.run_tiles(&visit, &mut segment_at);
                }
                base += group.pages.len();
                if group.end() < tile_rows.end {
                    segment_at = 0;
                }
            }
            if !slots_first {
                self.slot_tiles(&tile_rows);
            }
            if blocks > 1 {
                self.steps.end_block(self.table, t % blocks);
                if (t + 1) % blocks == 0 || tile_rows.end == num_tokens {
                    self.steps.share_copies(self.table, first_entry);
                }
            }
        }
        self.table.begin_q_tile();
        if blocks > 1 {
            self.steps.number_copies(self.table);
        }
        Ok(())
    }

    fn position_range(&self, rows: &Range<usize>) -> (i64, i64) {
        if self.limits.sliding_window.is_none() {
            return (0, 0); // not looked at
        }
        let positions = self.rows.positions()[rows.clone()].iter().map(|&p| i64::from(p));
        positions.fold((i64::MAX, 0), |(lo, hi), p| (lo.min(p), hi.max(p)))
    }

    fn prefix_tiles(&mut self, visit: &Visit<'_>, page_base: usize) {
        let kv_tile = self.tiling.kv_tile();
        let prefix = visit.group.prefix_len;
        for first in (0..prefix).step_by(kv_tile) {
            let tile = KeyTile {
                kind: layout::KIND_PAGES,
                start: page_base + first / self.limits.page_size,
                key_base: layout::NO_KEY_BASE,
                position: first,
                keys: kv_tile.min(prefix - first),
            };
            self.push(visit, tile, visit.rows.clone(), false);
        }
    }

    /// Tiles over the group's lead and over its long segments, as far as rows of the query tile see them.
    /// `segment_at` is a segment that starts at or before the first row, kept between query tiles.
    fn run_tiles(&mut self, visit: &Visit<'_>, segment_at: &mut usize) {
        let g = visit.group;
        if g.lead && g.lead_end() > g.start() {
            let items = visit.rows.start.max(g.lead_end())..visit.rows.end;
            let own = visit.rows.start..visit.rows.end.min(g.lead_end());
            self.run(visit, g.start()..g.lead_end(), own, items, g.prefix_len);
        }
        let segments = g.offsets.len() - 1;
        while *segment_at + 1 < segments && g.offsets[*segment_at + 1] as usize <= visit.rows.start {
            *segment_at += 1;
        }
        let mut i = *segment_at;
        while i < segments && (g.offsets[i] as usize) < visit.rows.end {
            let (start, end) = (g.offsets[i] as usize, g.offsets[i + 1] as usize);
            if end - start > self.tiling.short_segment() && !(g.lead && i == 0) {
                let own = visit.rows.start.max(start)..visit.rows.end.min(end);
                let position = g.prefix_len + g.lead_end() - g.start();
                self.run(visit, start..end, own, 0..0, position);
            }
            i += 1;
        }
    }

    /// Tiles over the keys `run`, seen causally by `own` rows (which lie in it) and whole by `whole` rows.
    fn run(
        &mut self,
        visit: &Visit<'_>,
        run: Range<usize>,
        own: Range<usize>,
        whole: Range<usize>,
        position: usize,
    ) {
        let kv_tile = self.tiling.kv_tile();
        let first_key = self.rows.own_starts()[run.start] as usize;
        for first in run.clone().step_by(kv_tile) {
            let keys = kv_tile.min(run.end - first);
            let own_sees_some = !own.is_empty() && own.end > first;
            if whole.is_empty() && !own_sees_some {
                break;
            }
            // Below the diagonal the run's own rows see the tile whole too; they lie before the others.
            let own_sees_all = !own.is_empty() && own.start + 1 >= first + keys;
            let rows = match (own_sees_all, whole.is_empty()) {
                (true, true) => own.clone(),
                (true, false) => own.start..whole.end,
                (false, _) => whole.clone(),
            };
            let key = first_key + first - run.start;
            let tile = KeyTile {
                kind: layout::KIND_TOKENS,
                start: if self.tiling.is_tpu() { key - self.rows.len() } else { key },
                key_base: key as i32,
                position: position + first - run.start,
                keys,
            };
            self.push(visit, tile, rows, own_sees_some && !own_sees_all);
        }
    }

    /// Tiles over the slots that rows of the query tile see, all groups together. The rows of an entry lie within
    /// `slot_rows`, so that a kernel need not compute the others; no row meets a tile in two entries.
    fn slot_tiles(&mut self, tile_rows: &Range<usize>) {
        // A power of two; a division a row would be half of all planning.
        let tile_of = |slot: usize| slot & !(self.tiling.own_tile() - 1);
        let (own_tile, slot_rows) = (self.tiling.own_tile(), self.tiling.slot_rows());
        let (own_starts, own_keys) = (self.rows.own_starts(), self.rows.own_keys());
        let bucket_rows = self.rows.len();
        // Rows below `covered` have met every slot tile up to `tile`. Slots ascend with rows.
        let (mut tile, mut covered) = (0, 0);
        for row in tile_rows.clone() {
            let Some(slot) = (own_keys[row] as usize).checked_sub(bucket_rows) else { continue };
            if (tile_of(slot) <= tile && row < covered) || slot >= self.short_slots {
                continue;
            }
            covered = row + slot_rows;
            let segment = own_starts[row];
            let starts = &own_starts[row..covered.min(tile_rows.end)];
            let of_segment = starts.partition_point(|&start| start == segment);
            tile = tile_of(slot + of_segment - 1);
            for first in (tile_of(segment as usize - bucket_rows)..=tile).step_by(own_tile) {
                self.table.push(Entry {
                    kind: layout::KIND_SLOTS,
                    start: first,
                    keys: own_tile.min(self.short_slots - first),
                    whole: 0..0,
                    position: row - tile_rows.start,
                    full: false,
                    key_base: (bucket_rows + first) as i32,
                });
            }
        }
    }

    /// Adds a tile that the rows `whole` see whole, unless it lies behind the window of every row of the visit.
    fn push(&mut self, visit: &Visit<'_>, tile: KeyTile, whole: Range<usize>, causal: bool) {
        let KeyTile { kind, start, key_base, position, keys } = tile;
        let (least, greatest) = visit.positions;
        let window = self.limits.sliding_window.map(i64::from);
        if window.is_some_and(|w| least - w >= (position + keys - 1) as i64) {
            return;
        }
        let no_row_cut = window.is_none_or(|w| greatest - w < position as i64);
        let kv_tile = self.tiling.kv_tile();
        let enough = if self.tiling.is_tpu() { kv_tile.min(TpuTiling::RUN_ALIGN) } else { kv_tile };
        let full =
            !self.tiling.many_blocks() && !causal && no_row_cut && keys >= enough && whole == visit.tile_rows;
        let whole =
            if whole.is_empty() { 0..0 } else { whole.start - visit.q_start..whole.end - visit.q_start };
        self.table.push(Entry { kind, start, keys, whole, position, full, key_base });
    }
}
