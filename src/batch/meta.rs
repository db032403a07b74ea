//! The planner's wire format: one `i32` vector that a kernel reads.
//!
//! ```text
//! header | own_start[T] | own_key[T] | position[T] | tile_offsets | tiles | page list | steps | copies | slot map | slack
//! ```
//! Sections behind the three row sections start where the header says, so their sizes are no part of a shape.

/// Word offsets and sizes of the metadata tensor. Kernels are rendered with these numbers.
pub mod layout {
    /// Words of the header.
    pub const HEADER: usize = 16;
    /// Header word: new tokens of the batch.
    pub const NUM_TOKENS: usize = 0;
    /// Header word: query tiles that hold a token.
    pub const NUM_Q_TILES: usize = 1;
    /// Header word: start of the tile offsets (CSR over query tiles).
    pub const TILE_OFFSETS: usize = 2;
    /// Header word: start of the tile table: the entries of one query tile behind those of the one before. In TPU
    /// plans the slot tiles of a query tile come first, else last.
    pub const TILES: usize = 3;
    /// Header word: start of the page list.
    pub const PAGES: usize = 4;
    /// Header word: start of the slot map.
    pub const SLOTS: usize = 5;
    /// Header word: start of the step words, one a tile table entry; only of plans with several row blocks a query tile.
    pub const STEPS: usize = 6;
    /// Header word: start of the list of copies, behind a word that is their number; of the same plans. Copy `i` is
    /// of the tile of table entry `copies[i]`.
    pub const COPIES: usize = 7;
    /// Header word: pages of the pool that the batch was checked against; 0 where it names none. A kernel whose pool has
    /// fewer pages from its first one on gives NaN.
    pub const POOL_PAGES: usize = 8;
    /// Header word: a hash of all that decides the words and is the shape of no other tensor: target, block sizes, page
    /// size, sliding window, bucket. A kernel that was rendered for another gives NaN and reads nothing else.
    pub const IDENTITY: usize = 9;

    /// Row section, first of `T` words each: first key of the row's own segment, in key numbering.
    pub const OWN_START: usize = 0;
    /// Row section: the row's own key, in key numbering; below `own_start` for padding rows, which see nothing.
    pub const OWN_KEY: usize = 1;
    /// Row section: the row's position.
    pub const POSITION: usize = 2;
    /// Row sections in all.
    pub const ROW_SECTIONS: usize = 3;

    /// Words of a tile table entry.
    pub const TILE_WORDS: usize = 8;
    /// Tile word: what the tile is, see `KIND_*`.
    pub const TILE_KIND: usize = 0;
    /// Tile word: first page list entry, first token or first slot.
    pub const TILE_START: usize = 1;
    /// Tile word: keys that exist.
    pub const TILE_KEYS: usize = 2;
    /// Tile word: first row that sees all keys.
    pub const TILE_WHOLE_LO: usize = 3;
    /// Tile word: end of the rows that see all keys.
    pub const TILE_WHOLE_HI: usize = 4;
    /// Tile word: position of key 0.
    pub const TILE_POSITION: usize = 5;
    /// Tile word of a slot tile, in place of the position: first row of the entry. The rows that it is for lie within
    /// [`Tiling::slot_rows`](crate::batch::Tiling::slot_rows) rows from there; others meet the tile in other entries.
    pub const TILE_FIRST_ROW: usize = TILE_POSITION;
    /// Tile word: 1 when no row needs a mask. In TPU plans such a tile may be short, of
    /// [`TpuTiling::RUN_ALIGN`](crate::batch::TpuTiling::RUN_ALIGN) keys at least: every row sees the keys that exist.
    pub const TILE_FULL: usize = 6;
    /// Tile word: key number of key 0; keys of pages have none (a number below every row's own keys).
    pub const TILE_KEY_BASE: usize = 7;

    /// Step word: its row block, in the bits below this one; this bit where the entry's tile is not that of the entry
    /// before, so that a copy begins.
    pub const STEP_FRESH: i32 = 1 << 4;
    /// Step word: the number of its copy, in the bits from this one on.
    pub const STEP_COPY_SHIFT: i32 = 5;

    /// `TILE_KIND` of a tile read from pages.
    pub const KIND_PAGES: i32 = 0;
    /// `TILE_KIND` of a tile of consecutive new tokens.
    pub const KIND_TOKENS: i32 = 1;
    /// `TILE_KIND` of a tile read through the slot map.
    pub const KIND_SLOTS: i32 = 2;

    /// `TILE_KEY_BASE` of page tiles.
    pub const NO_KEY_BASE: i32 = i32::MIN / 2;
}

/// Where the tables start in a bucket of `token_rows`.
pub(super) fn table_start(token_rows: usize) -> usize {
    layout::HEADER + layout::ROW_SECTIONS * token_rows
}
