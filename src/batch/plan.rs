use std::ops::Range;

use super::bucket::{Bucket, meta_bucket, q_tile_for, token_bucket};
use super::group::{CheckedGroup, Group, PageStamps, check};
use super::meta::{layout, table_start};
use super::tiles::{Tile, TileSource};
use super::{BatchError, Tiling};

/// Checks batches against fixed limits and turns them into [`Plan`]s. Keeps scratch space between calls.
#[derive(Debug)]
pub struct Planner {
    page_size: usize,
    pool_pages: usize,
    tiling: Tiling,
    sliding_window: Option<u32>,
    max_tokens: usize,
    max_meta_words: usize,
    stamps: PageStamps,
}

impl Planner {
    /// Largest token count that a planner can be allowed.
    pub const MAX_TOKENS: usize = 1 << 24;

    /// A planner for a pool of `pool_pages` pages of `page_size` tokens; `tiling` must suit `page_size`.
    pub fn new(page_size: usize, pool_pages: usize, tiling: Tiling) -> Result<Self, BatchError> {
        let limit = |field, value, bound| Err(BatchError::Limit { field, value, bound });
        if page_size == 0 || !tiling.kv_tile().is_multiple_of(page_size) {
            return limit("page_size", page_size, "a divisor of the tiling's kv_tile");
        }
        if pool_pages.checked_mul(page_size).is_none_or(|slots| slots > i32::MAX as usize) {
            return limit("pool_pages", pool_pages, "such that pages times page_size is at most 2147483647");
        }
        Ok(Planner {
            page_size,
            pool_pages,
            tiling,
            sliding_window: None,
            max_tokens: Self::MAX_TOKENS,
            max_meta_words: i32::MAX as usize / 4,
            stamps: PageStamps::default(),
        })
    }

    /// Leaves out key tiles that lie behind the sliding window of every row; the spec's window or a larger one.
    pub fn with_sliding_window(mut self, window: Option<u32>) -> Self {
        self.sliding_window = window;
        self
    }

    /// Refuses batches of more than `tokens` new tokens.
    pub fn with_max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens.min(Self::MAX_TOKENS);
        self
    }

    /// Refuses plans whose metadata needs more than `words` 32-bit words (a TPU keeps it in SMEM).
    pub fn with_max_meta_words(mut self, words: usize) -> Self {
        self.max_meta_words = words.min(i32::MAX as usize / 4);
        self
    }

    /// Tokens of one page.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Pages of the pool.
    pub fn pool_pages(&self) -> usize {
        self.pool_pages
    }

    /// Validates a batch of `total_tokens` new tokens and plans its key tiles. O(tokens + pages + tiles).
    pub fn plan(&mut self, total_tokens: usize, groups: &[Group<'_>]) -> Result<Plan, BatchError> {
        if groups.is_empty() {
            return Err(BatchError::NoGroups);
        }
        if total_tokens == 0 {
            return Err(BatchError::NoTokens);
        }
        if total_tokens > self.max_tokens {
            return Err(BatchError::TooManyTokens { found: total_tokens, max_tokens: self.max_tokens });
        }
        let mut checked = Vec::with_capacity(groups.len());
        let mut start = 0;
        for (i, g) in groups.iter().enumerate() {
            let c = check(i, g, start, total_tokens, self.page_size, self.pool_pages, &mut self.stamps)?;
            start = c.end();
            checked.push(c);
        }
        if start != total_tokens {
            return Err(BatchError::TotalMismatch { found: start, total_tokens });
        }
        let rows = token_bucket(total_tokens);
        let tiling = self.tiling.with_q_tile(self.choose_q_tile(rows, &checked));
        Draft::new(self, rows, total_tokens, tiling, &checked).finish()
    }

    /// Query tile with the least work: a visit computes `q_tile` rows, plus a fixed share for starting it.
    fn choose_q_tile(&self, rows: usize, groups: &[CheckedGroup<'_>]) -> usize {
        const VISIT_ROWS: usize = 48;
        let largest = q_tile_for(rows, self.tiling.q_tile());
        let cost = |q: usize| -> usize {
            groups
                .iter()
                .filter(|g| g.end() > g.start())
                .map(|g| {
                    let shared = g.prefix_len.div_ceil(self.tiling.kv_tile())
                        + (g.lead_end() - g.start()).div_ceil(self.tiling.kv_tile());
                    let q_tiles = (g.end() - 1) / q - g.start() / q + 1;
                    (shared + 1) * q_tiles * (q + VISIT_ROWS)
                })
                .sum()
        };
        let mut best = largest;
        let mut q = largest / 2;
        while q >= 16 {
            // A smaller tile must pay clearly: every variant is a program to compile.
            if cost(q) * 4 < cost(best) * 3 {
                best = q;
            }
            q /= 2;
        }
        best
    }
}

/// What a plan makes a kernel do, counted while planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanStats {
    /// Query tiles that hold a token.
    pub q_tiles: usize,
    /// Key tile visits that need no mask.
    pub full_tiles: usize,
    /// Key tile visits with a mask.
    pub edge_tiles: usize,
}

/// A validated batch in the form that kernels read. Only a [`Planner`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    bucket: Bucket,
    tiling: Tiling,
    num_tokens: usize,
    meta: Vec<i32>,
    stats: PlanStats,
    prefix_lens: Vec<usize>,
    page_size: usize,
    pool_pages: usize,
}

impl Plan {
    /// The static shape it fits.
    pub fn bucket(&self) -> Bucket {
        self.bucket
    }
    /// Block sizes it was made for.
    pub fn tiling(&self) -> Tiling {
        self.tiling
    }
    /// New tokens; rows behind them up to `bucket().tokens` are padding.
    pub fn num_tokens(&self) -> usize {
        self.num_tokens
    }
    /// The metadata tensor, `[bucket().meta_words]`; see [`layout`].
    pub fn meta(&self) -> &[i32] {
        &self.meta
    }
    /// Position of every row, `[bucket().tokens]`, 0 on padding rows: prefix, then lead, then own segment.
    pub fn positions(&self) -> &[i32] {
        self.row_section(layout::POSITION)
    }
    /// Tile counts.
    pub fn stats(&self) -> PlanStats {
        self.stats
    }

    /// Page size and pages of the pool that it was checked against.
    pub(super) fn pool(&self) -> (usize, usize) {
        (self.page_size, self.pool_pages)
    }

    /// Pages that the batch reads, group by group, each with the number of its leading slots that are read.
    pub(super) fn prefix_reads(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut pages = &self.meta[self.meta[layout::PAGES] as usize..];
        self.prefix_lens.iter().flat_map(move |&len| {
            let (own, rest) = pages.split_at(len.div_ceil(self.page_size));
            pages = rest;
            let slots = (0..own.len()).map(move |i| self.page_size.min(len - i * self.page_size));
            own.iter().map(|&page| page as usize).zip(slots)
        })
    }

    /// Key tiles that query tile `q_tile` visits, in order; empty for a query tile of padding rows.
    pub fn tiles(&self, q_tile: usize) -> impl Iterator<Item = Tile> + '_ {
        let range = if q_tile < self.stats.q_tiles {
            let at = self.meta[layout::TILE_OFFSETS] as usize + q_tile;
            self.meta[at] as usize..self.meta[at + 1] as usize
        } else {
            0..0
        };
        let table = self.meta[layout::TILES] as usize;
        range.map(move |i| {
            let w = &self.meta[table + i * layout::TILE_WORDS..][..layout::TILE_WORDS];
            let source = match w[layout::TILE_KIND] {
                layout::KIND_PAGES => TileSource::Pages,
                layout::KIND_TOKENS => TileSource::Tokens,
                _ => TileSource::Slots,
            };
            Tile {
                source,
                start: w[layout::TILE_START] as usize,
                keys: w[layout::TILE_KEYS] as usize,
                whole_rows: (w[layout::TILE_WHOLE_LO] as usize, w[layout::TILE_WHOLE_HI] as usize),
                position: w[layout::TILE_POSITION] as usize,
                full: w[layout::TILE_FULL] != 0,
            }
        })
    }

    fn row_section(&self, section: usize) -> &[i32] {
        &self.meta[layout::HEADER + section * self.bucket.tokens..][..self.bucket.tokens]
    }
}

/// A plan in the making.
struct Draft<'a> {
    planner: &'a Planner,
    rows: usize,
    num_tokens: usize,
    tiling: Tiling,
    window: Option<i64>,
    groups: &'a [CheckedGroup<'a>],
    meta: Vec<i32>,
    tiles: Vec<i32>,
    slots: Vec<i32>,
    stats: PlanStats,
}

/// Rows of one group in one query tile, counted in the token stream.
struct Visit<'a> {
    group: &'a CheckedGroup<'a>,
    q_start: usize,
    rows: Range<usize>,
    /// Real rows of the query tile, all groups.
    tile_rows: Range<usize>,
    /// Least and greatest position among the rows.
    positions: (i64, i64),
}

impl<'a> Draft<'a> {
    fn new(
        planner: &'a Planner,
        rows: usize,
        num_tokens: usize,
        tiling: Tiling,
        groups: &'a [CheckedGroup<'a>],
    ) -> Self {
        let tables = table_start(rows);
        let mut meta = Vec::with_capacity(tables + 4096.max(2 * rows));
        meta.resize(tables, 0);
        Draft {
            planner,
            rows,
            num_tokens,
            tiling,
            window: planner.sliding_window.map(i64::from),
            groups,
            meta,
            tiles: Vec::new(),
            slots: Vec::new(),
            stats: PlanStats::default(),
        }
    }

    fn finish(mut self) -> Result<Plan, BatchError> {
        self.rows_and_slots();
        let offsets = self.visit_q_tiles()?;

        let mut prefix_pages = Vec::with_capacity(self.groups.iter().map(|g| g.pages.len()).sum());
        for g in self.groups {
            prefix_pages.extend_from_slice(g.pages);
        }
        // A kernel reads whole tiles of the page list and of the slot map: room for one past the last.
        let slack = (self.tiling.kv_tile() / self.planner.page_size).max(self.tiling.own_tile());
        let words = self.meta.len()
            + offsets.len()
            + self.tiles.len()
            + prefix_pages.len()
            + self.slots.len()
            + 2 * slack;
        let meta_words = meta_bucket(self.rows, words);
        self.check_words(meta_words)?;
        let bucket = Bucket { tokens: self.rows, meta_words, q_tile: self.tiling.q_tile() };
        let meta = &mut self.meta;
        meta[layout::NUM_TOKENS] = self.num_tokens as i32;
        meta[layout::NUM_Q_TILES] = self.stats.q_tiles as i32;
        meta.reserve_exact(bucket.meta_words - meta.len());
        for (word, section) in [
            (layout::TILE_OFFSETS, &offsets),
            (layout::TILES, &self.tiles),
            (layout::PAGES, &prefix_pages),
            (layout::SLOTS, &self.slots),
        ] {
            meta[word] = meta.len() as i32;
            meta.extend_from_slice(section);
        }
        meta.resize(bucket.meta_words, 0);
        Ok(Plan {
            bucket,
            tiling: self.tiling,
            num_tokens: self.num_tokens,
            meta: self.meta,
            stats: self.stats,
            prefix_lens: self.groups.iter().map(|g| g.prefix_len).collect(),
            page_size: self.planner.page_size,
            pool_pages: self.planner.pool_pages,
        })
    }

    fn check_words(&self, words: usize) -> Result<(), BatchError> {
        let max_words = self.planner.max_meta_words;
        if words > max_words { Err(BatchError::TooMuchMetadata { words, max_words }) } else { Ok(()) }
    }

    /// Fills the row sections and packs short segments into slots.
    ///
    /// A segment's slots start at a multiple of its length rounded up to a power of two: whatever its
    /// siblings, its keys fall into the same branch of every reduction over a tile.
    fn rows_and_slots(&mut self) {
        let rows = self.rows;
        let own_tile = self.tiling.own_tile();
        let (own_start, rest) = self.meta[layout::HEADER..].split_at_mut(rows);
        let (own_key, position) = rest.split_at_mut(rows);
        own_key[self.num_tokens..].fill(-1);
        for group in self.groups {
            for (i, (start, end)) in group.segments().enumerate() {
                let len = end - start;
                let lead = group.lead && i == 0;
                let first_key = if lead || len > own_tile {
                    start
                } else {
                    let slot = self.slots.len().next_multiple_of(len.next_power_of_two());
                    self.slots.resize(slot, 0);
                    self.slots.extend(start as i32..end as i32);
                    rows + slot
                };
                let first_position =
                    group.prefix_len + if lead { 0 } else { group.lead_end() - group.start() };
                own_start[start..end].fill(first_key as i32);
                count_up(&mut own_key[start..end], first_key);
                count_up(&mut position[start..end], first_position);
            }
        }
    }

    /// Lists the key tiles of every query tile that holds a token; returns the CSR offsets into the list.
    fn visit_q_tiles(&mut self) -> Result<Vec<i32>, BatchError> {
        let q = self.tiling.q_tile();
        let q_tiles = self.num_tokens.div_ceil(q);
        let mut offsets = Vec::with_capacity(q_tiles + 1);
        let groups = self.groups;
        let (mut first_group, mut segment_at) = (0, 0);
        let mut page_base = 0;
        for t in 0..q_tiles {
            // Long prefixes times many query tiles: refuse before memory is gone.
            self.check_words(self.tiles.len())?;
            offsets.push((self.tiles.len() / layout::TILE_WORDS) as i32);
            let tile_rows = t * q..((t + 1) * q).min(self.num_tokens);
            while groups[first_group].end() <= tile_rows.start {
                page_base += groups[first_group].pages.len();
                first_group += 1;
                segment_at = 0;
            }
            let mut base = page_base;
            for group in &groups[first_group..] {
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
            self.slot_tiles(&tile_rows);
        }
        offsets.push((self.tiles.len() / layout::TILE_WORDS) as i32);
        self.stats.q_tiles = q_tiles;
        Ok(offsets)
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
                page_base + first / self.planner.page_size,
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
            if end - start > self.tiling.own_tile() && !(g.lead && i == 0) {
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
            self.push(
                visit,
                layout::KIND_TOKENS,
                first,
                first as i32,
                position + first - run.start,
                keys,
                rows,
                own_sees_some && !own_sees_all,
            );
        }
    }

    /// Tiles over the slots that rows of the query tile own, all groups together.
    fn slot_tiles(&mut self, tile_rows: &Range<usize>) {
        let own_tile = self.tiling.own_tile();
        let own_key = layout::HEADER + layout::OWN_KEY * self.rows;
        let mut last = None;
        for row in tile_rows.clone() {
            let Some(slot) = (self.meta[own_key + row] as usize).checked_sub(self.rows) else { continue };
            let first = slot & !(own_tile - 1); // a power of two; a division a row would be half of all planning
            if last == Some(first) {
                continue;
            }
            last = Some(first);
            let keys = own_tile.min(self.slots.len() - first);
            self.stats.edge_tiles += 1;
            self.tiles.extend_from_slice(&[
                layout::KIND_SLOTS,
                first as i32,
                keys as i32,
                0,
                0,
                0,
                0,
                (self.rows + first) as i32,
            ]);
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
        let full = !causal && no_row_cut && keys == self.tiling.kv_tile() && whole == visit.tile_rows;
        if full {
            self.stats.full_tiles += 1;
        } else {
            self.stats.edge_tiles += 1;
        }
        let (lo, hi) =
            if whole.is_empty() { (0, 0) } else { (whole.start - visit.q_start, whole.end - visit.q_start) };
        self.tiles.extend_from_slice(&[
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

/// Fills `words` with `first`, `first + 1`, …
fn count_up(words: &mut [i32], first: usize) {
    for (word, value) in words.iter_mut().zip(first as i32..) {
        *word = value;
    }
}
