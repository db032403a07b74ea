//! The tile table: which key tiles every query tile visits.

use std::ops::Range;

use super::super::meta::layout;

/// Entries in the order in which a kernel visits them.
#[derive(Debug, Default)]
pub(super) struct TileTable {
    words: Vec<i32>,
    /// First entry of every query tile (CSR).
    offsets: Vec<i32>,
    full: usize,
}

/// One entry; rows are counted in its row block.
pub(super) struct Entry {
    pub kind: i32,
    pub start: usize,
    pub keys: usize,
    pub whole: Range<usize>,
    /// Position of key 0; of a slot tile its first row.
    pub position: usize,
    pub full: bool,
    pub key_base: i32,
}

impl TileTable {
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.offsets.clear();
        self.full = 0;
    }

    /// Begins a query tile, or ends the last one; returns its first entry.
    pub(super) fn begin_q_tile(&mut self) -> usize {
        let first = self.len();
        self.offsets.push(first as i32);
        first
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.full += usize::from(entry.full);
        self.words.extend_from_slice(&[
            entry.kind,
            entry.start as i32,
            entry.keys as i32,
            entry.whole.start as i32,
            entry.whole.end as i32,
            entry.position as i32,
            i32::from(entry.full),
            entry.key_base,
        ]);
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.words.len() / layout::TILE_WORDS
    }

    /// Entries without a mask.
    pub(super) fn full(&self) -> usize {
        self.full
    }

    pub(super) fn offsets(&self) -> &[i32] {
        &self.offsets
    }

    pub(super) fn words(&self) -> &[i32] {
        &self.words
    }

    /// The entries from `first` on.
    pub(super) fn entries_mut(&mut self, first: usize) -> &mut [[i32; layout::TILE_WORDS]] {
        self.words[first * layout::TILE_WORDS..].as_chunks_mut().0
    }

    pub(super) fn entries(&self) -> &[[i32; layout::TILE_WORDS]] {
        self.words.as_chunks().0
    }
}
