use std::ops::Range;

use super::bucket::{Bucket, meta_bucket, slot_bucket};
use super::group::{CheckedGroup, CheckedGroups};
use super::meta::{layout, table_start};
use super::{BatchError, Plan, PlanStats, Planner, Tiling};

/// Lists that a planner keeps from one plan to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    tiles: Vec<i32>,
    /// CSR offsets into `tiles`, an entry a query tile.
    offsets: Vec<i32>,
    slots: Vec<i32>,
    runs: Vec<Range<usize>>,
    /// With several row blocks, the block of every entry of `tiles`, and then its step word.
    steps: Vec<i32>,
    /// Entries that begin a copy.
    copies: Vec<i32>,
    /// Entries of a query tile and their blocks, for sorting.
    order: Vec<([i32; layout::TILE_WORDS], i32)>,
    /// Bucket of the plan before.
    last: Option<Bucket>,
}

impl Scratch {
    /// Puts entries of one key tile for several row blocks, from entry `first` on, behind one another: slot tiles, pages,
    /// runs, each ascending, which is the order in which every row met them before.
    fn share_copies(&mut self, first: usize) {
        let Scratch { tiles, steps, order, .. } = self;
        let words = tiles.split_at_mut(first * layout::TILE_WORDS).1;
        order.clear();
        order.extend(words.as_chunks().0.iter().copied().zip(steps[first..].iter().copied()));
        let rank = |kind: i32| (kind != layout::KIND_SLOTS, kind);
        order.sort_by_key(|(w, block)| (rank(w[layout::TILE_KIND]), w[layout::TILE_START], *block));
        for (i, (entry, block)) in order.iter().enumerate() {
            words[i * layout::TILE_WORDS..][..layout::TILE_WORDS].copy_from_slice(entry);
            steps[first + i] = *block;
        }
    }
}

/// A plan in the making.
pub(super) struct Draft<'a> {
    planner: &'a Planner,
    rows: usize,
    num_tokens: usize,
    tiling: Tiling,
    window: Option<i64>,
    groups: CheckedGroups<'a>,
    meta: Vec<i32>,
    scratch: &'a mut Scratch,
    /// Slots of short segments; aligned runs follow.
    short_slots: usize,
    stats: PlanStats,
}

/// Rows of one group in one query tile, counted in the token stream.
struct Visit<'a> {
    group: CheckedGroup<'a>,
    q_start: usize,
    rows: Range<usize>,
    /// Real rows of the query tile, all groups.
    tile_rows: Range<usize>,
    /// Least and greatest position among the rows.
    positions: (i64, i64),
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        planner: &'a Planner,
        scratch: &'a mut Scratch,
        rows: usize,
        num_tokens: usize,
        tiling: Tiling,
        groups: CheckedGroups<'a>,
    ) -> Self {
        let tables = table_start(rows);
        // Batches of one token bucket mostly share a metadata bucket too; a wrong guess costs a reallocation.
        let words = match scratch.last {
            Some(last) if last.tokens == rows => last.meta_words,
            _ => tables + 4096.max(2 * rows),
        };
        let mut meta = Vec::with_capacity(words);
        meta.resize(tables, 0);
        scratch.tiles.clear();
        scratch.offsets.clear();
        scratch.slots.clear();
        scratch.runs.clear();
        scratch.steps.clear();
        scratch.copies.clear();
        Draft {
            planner,
            rows,
            num_tokens,
            tiling,
            window: planner.sliding_window.map(i64::from),
            groups,
            meta,
            scratch,
            short_slots: 0,
            stats: PlanStats::default(),
        }
    }

    pub(super) fn finish(mut self) -> Result<Plan, BatchError> {
        self.rows_and_slots();
        self.visit_q_tiles()?;
        if self.tiling.many_blocks() {
            self.number_copies();
        }
        let Scratch { tiles, offsets, slots, steps, copies, last, .. } = self.scratch;
        let pages: usize = self.groups.iter().map(|g| g.pages.len()).sum();
        // A kernel reads whole tiles of the page list and of the slot map: room for one past the last.
        let slack = (self.tiling.kv_tile() / self.planner.page_size()).max(self.tiling.own_tile());
        let key_slots = if self.tiling.aligned_runs() {
            slot_bucket(self.rows, slots.len() + self.tiling.kv_tile())
        } else {
            0
        };
        let words =
            self.meta.len() + offsets.len() + tiles.len() + pages + slots.len().max(key_slots) + 2 * slack;
        let words = words + steps.len() + copies.len() + 2;
        let meta_words = meta_bucket(self.rows, words);
        self.planner.check_words(meta_words)?;
        let bucket = Bucket { tokens: self.rows, meta_words, q_tile: self.tiling.q_tile(), key_slots };
        let meta = &mut self.meta;
        meta[layout::NUM_TOKENS] = self.num_tokens as i32;
        meta[layout::NUM_Q_TILES] = self.stats.q_tiles as i32;
        meta.reserve_exact(bucket.meta_words - meta.len());
        for (word, section) in [(layout::TILE_OFFSETS, offsets), (layout::TILES, tiles)] {
            meta[word] = meta.len() as i32;
            meta.extend_from_slice(section);
        }
        meta[layout::PAGES] = meta.len() as i32;
        self.groups.iter().for_each(|g| meta.extend_from_slice(g.pages));
        meta[layout::PAGE_END] = meta[meta[layout::PAGES] as usize..].iter().max().map_or(0, |page| page + 1);
        if self.tiling.many_blocks() {
            meta[layout::STEPS] = meta.len() as i32;
            meta.extend_from_slice(steps);
            meta.push(0); // a kernel looks one step ahead
            meta.push(copies.len() as i32);
            meta[layout::COPIES] = meta.len() as i32;
            meta.extend_from_slice(copies);
        }
        meta[layout::SLOTS] = meta.len() as i32;
        meta.extend_from_slice(slots);
        meta.resize(bucket.meta_words, 0);
        *last = Some(bucket);
        Ok(Plan {
            bucket,
            tiling: self.tiling,
            num_tokens: self.num_tokens,
            meta: self.meta,
            stats: self.stats,
            prefix_lens: self.groups.iter().map(|g| g.prefix_len).collect(),
            page_size: self.planner.page_size(),
            pool_pages: self.planner.pool_pages(),
        })
    }

    /// Fills the row sections and packs short segments into slots.
    ///
    /// A short segment's slots start at a multiple of its length rounded up to a power of two: whatever its
    /// siblings, its keys fall into the same branch of every reduction over a tile; one of several tiles starts with
    /// a tile. Leads and long segments keep their place in the stream; aligned runs get slots behind the short ones.
    fn rows_and_slots(&mut self) {
        let rows = self.rows;
        let (own_tile, short_segment) = (self.tiling.own_tile(), self.tiling.short_segment());
        let aligned_runs = self.tiling.aligned_runs();
        let (own_start, rest) = self.meta[layout::HEADER..].split_at_mut(rows);
        let (own_key, position) = rest.split_at_mut(rows);
        let mut end = 0;
        for group in self.groups.iter() {
            own_key[end..group.start()].fill(-1);
            end = group.end();
        }
        own_key[end..].fill(-1);
        let Scratch { slots, runs, .. } = &mut *self.scratch;
        let mut place = |start: usize, end: usize, first_key: usize| {
            own_start[start..end].fill(first_key as i32);
            count_up(&mut own_key[start..end], first_key);
        };
        for group in self.groups.iter() {
            for (i, (start, end)) in group.segments().enumerate() {
                let len = end - start;
                let lead = group.lead && i == 0;
                if !lead && len <= short_segment {
                    let align = len.next_power_of_two().min(own_tile);
                    place(start, end, rows + take_slots(slots, start..end, align));
                } else if aligned_runs {
                    runs.push(start..end);
                } else {
                    place(start, end, start);
                }
                let first_position =
                    group.prefix_len + if lead { 0 } else { group.lead_end() - group.start() };
                count_up(&mut position[start..end], first_position);
            }
        }
        self.short_slots = slots.len();
        for run in runs.drain(..) {
            place(run.start, run.end, rows + take_slots(slots, run.clone(), Tiling::RUN_ALIGN));
        }
    }

    /// Lists the key tiles of every query tile that holds a token.
    fn visit_q_tiles(&mut self) -> Result<(), BatchError> {
        let q = self.tiling.row_block();
        let blocks = self.tiling.q_tile() / q;
        let q_tiles = self.num_tokens.div_ceil(self.tiling.q_tile());
        let mut first_entry = 0;
        let groups = self.groups;
        let (mut first_group, mut segment_at) = (0, 0);
        // The TPU kernel starts with scores alone: those of little tiles leave the least of the vector unit idle.
        let slots_first = self.tiling.aligned_runs();
        let mut page_base = 0;
        for t in 0..self.num_tokens.div_ceil(q) {
            if t % blocks == 0 {
                // Long prefixes times many query tiles: refuse before memory is gone.
                self.planner.check_words(self.scratch.tiles.len())?;
                first_entry = self.scratch.tiles.len() / layout::TILE_WORDS;
                self.scratch.offsets.push(first_entry as i32);
            }
            let tile_rows = t * q..((t + 1) * q).min(self.num_tokens);
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
                let entries = self.scratch.tiles.len() / layout::TILE_WORDS;
                self.scratch.steps.resize(entries, (t % blocks) as i32);
                if (t + 1) % blocks == 0 || tile_rows.end == self.num_tokens {
                    self.scratch.share_copies(first_entry);
                }
            }
        }
        self.scratch.offsets.push((self.scratch.tiles.len() / layout::TILE_WORDS) as i32);
        self.stats.q_tiles = q_tiles;
        Ok(())
    }

    /// Makes step words of the blocks, and lists the entries that begin a copy.
    fn number_copies(&mut self) {
        let Scratch { tiles, steps, copies, .. } = &mut *self.scratch;
        let mut before = None;
        for (i, (entry, step)) in tiles.chunks_exact(layout::TILE_WORDS).zip(steps).enumerate() {
            let tile = Some((entry[layout::TILE_KIND], entry[layout::TILE_START]));
            let fresh = tile != before;
            if fresh {
                copies.push(i as i32);
            }
            before = tile;
            let copy = (copies.len() - 1) as i32;
            *step |= copy << layout::STEP_COPY_SHIFT | if fresh { layout::STEP_FRESH } else { 0 };
        }
    }

    fn position_range(&self, rows: &Range<usize>) -> (i64, i64) {
        if self.window.is_none() {
            return (0, 0); // not looked at
        }
        let at = layout::HEADER + layout::POSITION * self.rows;
        let positions = self.meta[at + rows.start..at + rows.end].iter().map(|&p| i64::from(p));
        positions.fold((i64::MAX, 0), |(lo, hi), p| (lo.min(p), hi.max(p)))
    }

    fn prefix_tiles(&mut self, visit: &Visit<'_>, page_base: usize) {
        let kv_tile = self.tiling.kv_tile();
        let prefix = visit.group.prefix_len;
        for first in (0..prefix).step_by(kv_tile) {
            self.push(
                visit,
                layout::KIND_PAGES,
                page_base + first / self.planner.page_size(),
                layout::NO_KEY_BASE,
                first,
                kv_tile.min(prefix - first),
                visit.rows.clone(),
                false,
            );
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
        let own_start = layout::HEADER + layout::OWN_START * self.rows;
        let first_key = self.meta[own_start + run.start] as usize;
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
            self.push(
                visit,
                layout::KIND_TOKENS,
                if self.tiling.aligned_runs() { key - self.rows } else { key },
                key as i32,
                position + first - run.start,
                keys,
                rows,
                own_sees_some && !own_sees_all,
            );
        }
    }

    /// Tiles over the slots that rows of the query tile see, all groups together. The rows of an entry lie within
    /// `slot_rows`, so that a kernel need not compute the others; no row meets a tile in two entries.
    fn slot_tiles(&mut self, tile_rows: &Range<usize>) {
        // A power of two; a division a row would be half of all planning.
        let tile_of = |slot: usize| slot & !(self.tiling.own_tile() - 1);
        let (own_tile, slot_rows) = (self.tiling.own_tile(), self.tiling.slot_rows());
        let row_words = |section: usize| layout::HEADER + section * self.rows;
        let (own_start, own_key) = (row_words(layout::OWN_START), row_words(layout::OWN_KEY));
        // Rows below `covered` have met every slot tile up to `tile`. Slots ascend with rows.
        let (mut tile, mut covered) = (0, 0);
        for row in tile_rows.clone() {
            let Some(slot) = (self.meta[own_key + row] as usize).checked_sub(self.rows) else { continue };
            if (tile_of(slot) <= tile && row < covered) || slot >= self.short_slots {
                continue;
            }
            covered = row + slot_rows;
            let segment = self.meta[own_start + row];
            let starts = &self.meta[own_start + row..own_start + covered.min(tile_rows.end)];
            let of_segment = starts.partition_point(|&start| start == segment);
            tile = tile_of(slot + of_segment - 1);
            for first in (tile_of(segment as usize - self.rows)..=tile).step_by(own_tile) {
                self.stats.edge_tiles += 1;
                self.scratch.tiles.extend_from_slice(&[
                    layout::KIND_SLOTS,
                    first as i32,
                    own_tile.min(self.short_slots - first) as i32,
                    0,
                    0,
                    (row - tile_rows.start) as i32,
                    0,
                    (self.rows + first) as i32,
                ]);
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // the words of one table entry
    fn push(
        &mut self,
        visit: &Visit<'_>,
        kind: i32,
        start: usize,
        key_base: i32,
        position: usize,
        keys: usize,
        whole: Range<usize>,
        causal: bool,
    ) {
        let (least, greatest) = visit.positions;
        if self.window.is_some_and(|w| least - w >= (position + keys - 1) as i64) {
            return;
        }
        let no_row_cut = self.window.is_none_or(|w| greatest - w < position as i64);
        let kv_tile = self.tiling.kv_tile();
        let enough = if self.tiling.aligned_runs() { kv_tile.min(Tiling::RUN_ALIGN) } else { kv_tile };
        let full =
            !self.tiling.many_blocks() && !causal && no_row_cut && keys >= enough && whole == visit.tile_rows;
        if full {
            self.stats.full_tiles += 1;
        } else {
            self.stats.edge_tiles += 1;
        }
        let (lo, hi) =
            if whole.is_empty() { (0, 0) } else { (whole.start - visit.q_start, whole.end - visit.q_start) };
        self.scratch.tiles.extend_from_slice(&[
            kind,
            start as i32,
            keys as i32,
            lo as i32,
            hi as i32,
            position as i32,
            i32::from(full),
            key_base,
        ]);
    }
}

/// Gives `tokens` the next slots that start at a multiple of `align`; returns the first.
fn take_slots(slots: &mut Vec<i32>, tokens: Range<usize>, align: usize) -> usize {
    let first = slots.len().next_multiple_of(align);
    slots.resize(first, 0);
    slots.extend(tokens.start as i32..tokens.end as i32);
    first
}

/// Fills `words` with `first`, `first + 1`, …
fn count_up(words: &mut [i32], first: usize) {
    for (word, value) in words.iter_mut().zip(first as i32..) {
        *word = value;
    }
}
