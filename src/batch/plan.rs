use std::sync::atomic::{AtomicU64, Ordering};

use super::meta::layout;
use super::tiles::{Tile, TileSource};
use super::{Bucket, Tiling};

/// What a plan makes a kernel do, counted while planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanStats {
    /// Query tiles that hold a token.
    pub q_tiles: usize,
    /// Key tile visits that need no mask; none where query tiles have several row blocks.
    pub full_tiles: usize,
    /// Key tile visits with a mask.
    pub edge_tiles: usize,
}

/// Which plan of this process one is; clones are the same. No part of what a plan says: plans of one batch are equal.
#[derive(Clone, Copy, Debug, Eq)]
pub(super) struct PlanNumber(pub u64);

impl PlanNumber {
    /// That of no other plan.
    pub(super) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        PlanNumber(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl PartialEq for PlanNumber {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A group as a plan remembers it, in tokens: its prefix, and where it lies in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub prefix_len: usize,
    pub start: usize,
    /// Where its lead ends; its start without one.
    pub lead_end: usize,
    pub end: usize,
}

/// A validated batch in the form that kernels read. Only a [`Planner`](super::Planner) makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(super) bucket: Bucket,
    pub(super) tiling: Tiling,
    pub(super) num_tokens: usize,
    pub(super) meta: Vec<i32>,
    pub(super) stats: PlanStats,
    pub(super) groups: Vec<Span>,
    pub(super) number: PlanNumber,
    pub(super) page_size: usize,
    pub(super) pool_pages: usize,
    pub(super) sliding_window: Option<u32>,
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
    /// Tokens of a page of the pool that it was checked against.
    pub fn page_size(&self) -> usize {
        self.page_size
    }
    /// Pages of the pool that it was checked against.
    pub fn pool_pages(&self) -> usize {
        self.pool_pages
    }
    /// The sliding window that it was made for.
    pub fn sliding_window(&self) -> Option<u32> {
        self.sliding_window
    }
    /// Tile counts.
    pub fn stats(&self) -> PlanStats {
        self.stats
    }

    /// Whether a row of the bucket holds no token of a group.
    pub(super) fn is_padding(&self, row: usize) -> bool {
        self.row_section(layout::OWN_KEY)[row] < 0
    }

    /// Whether a group has a prefix in pages.
    pub(crate) fn reads_pages(&self) -> bool {
        self.groups.iter().any(|group| group.prefix_len > 0)
    }

    /// Whether one sequence has both of two rows that hold tokens, `before` the other: they are of one segment, which has a
    /// first key of its own, or `before` is of the other's lead.
    pub(super) fn same_sequence(&self, before: usize, row: usize) -> bool {
        let first_keys = self.row_section(layout::OWN_START);
        let in_lead = |Span { start, lead_end, .. }: Span| (start..lead_end).contains(&before);
        first_keys[before] == first_keys[row] || in_lead(self.groups[self.group_of(row)])
    }

    /// The group of a row that holds a token.
    pub(super) fn group_of(&self, row: usize) -> usize {
        self.groups.partition_point(|group| group.end <= row)
    }

    /// Pages that the batch reads, group by group, each with the number of its leading slots that are read.
    pub(super) fn prefix_reads(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut pages = &self.meta[self.meta[layout::PAGES] as usize..];
        self.groups.iter().flat_map(move |&Span { prefix_len: len, .. }| {
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
        let steps = self.tiling.many_blocks().then(|| self.meta[layout::STEPS] as usize);
        range.map(move |i| {
            let w = &self.meta[table + i * layout::TILE_WORDS..][..layout::TILE_WORDS];
            let source = match w[layout::TILE_KIND] {
                layout::KIND_PAGES => TileSource::Pages,
                layout::KIND_TOKENS => TileSource::Tokens,
                _ => TileSource::Slots,
            };
            let slots = source == TileSource::Slots;
            Tile {
                source,
                start: w[layout::TILE_START] as usize,
                keys: w[layout::TILE_KEYS] as usize,
                whole_rows: (w[layout::TILE_WHOLE_LO] as usize, w[layout::TILE_WHOLE_HI] as usize),
                position: if slots { 0 } else { w[layout::TILE_POSITION] as usize },
                first_row: if slots { w[layout::TILE_FIRST_ROW] as usize } else { 0 },
                row_block: steps
                    .map_or(0, |steps| (self.meta[steps + i] & (layout::STEP_FRESH - 1)) as usize),
                full: w[layout::TILE_FULL] != 0,
            }
        })
    }

    fn row_section(&self, section: usize) -> &[i32] {
        &self.meta[layout::HEADER + section * self.bucket.tokens..][..self.bucket.tokens]
    }
}
