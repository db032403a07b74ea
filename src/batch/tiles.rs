/// Where a tile's keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileSource {
    /// KV pages: `kv_tile` keys behind consecutive entries of the plan's page list.
    Pages,
    /// New tokens in stream order: `kv_tile` keys of a lead or of a long segment.
    Tokens,
    /// New tokens through the slot map: `own_tile` keys of packed short segments, see [`Tiling::short_segment`](super::Tiling::short_segment).
    Slots,
}

/// One key tile that a query tile visits. Rows are counted within the query tile, keys within the key tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Where the keys come from.
    pub source: TileSource,
    /// First entry of the page list, first token, or first slot.
    pub start: usize,
    /// Keys that exist; the rest of the tile is nobody's.
    pub keys: usize,
    /// Rows that see all of the keys, up to the sliding window.
    pub whole_rows: (usize, usize),
    /// Position of key 0, for the sliding window of `whole_rows`; 0 for slots.
    pub position: usize,
    /// First row of an entry over slots, which is for the [`Tiling::slot_rows`](super::Tiling::slot_rows) rows from
    /// there; the others meet the same slots in other entries. 0 for other tiles.
    pub first_row: usize,
    /// Row block of the query tile that computes the tile; rows are counted from its first. 0 where a query tile is one.
    pub row_block: usize,
    /// Every row sees every key that exists: no row needs a mask of its own.
    pub full: bool,
}
