//! Where query tiles have several row blocks: which block computes an entry, and which entries share a copy of their tile.

use super::super::meta::layout;
use super::table::TileTable;

/// Step words of a tile table.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// The block of every entry, and then its step word.
    words: Vec<i32>,
    /// Entries that begin a copy.
    copies: Vec<i32>,
    /// Entries of a query tile and their blocks, for sorting.
    order: Vec<([i32; layout::TILE_WORDS], i32)>,
}

impl Steps {
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.copies.clear();
    }

    /// Gives the entries behind those of the block before to `block`.
    pub(super) fn end_block(&mut self, table: &TileTable, block: usize) {
        self.words.resize(table.len(), block as i32);
    }

    /// Puts entries of one key tile for several row blocks, from entry `first` on, behind one another: slot tiles, pages,
    /// runs, each ascending, which is the order in which every row met them before.
    pub(super) fn share_copies(&mut self, table: &mut TileTable, first: usize) {
        let entries = table.entries_mut(first);
        let blocks = &mut self.words[first..];
        self.order.clear();
        self.order.extend(entries.iter().copied().zip(blocks.iter().copied()));
        let rank = |kind: i32| (kind != layout::KIND_SLOTS, kind);
        self.order.sort_by_key(|(w, block)| (rank(w[layout::TILE_KIND]), w[layout::TILE_START], *block));
        for ((entry, block), sorted) in entries.iter_mut().zip(blocks).zip(&self.order) {
            (*entry, *block) = *sorted;
        }
    }

    /// Makes step words of the blocks, and lists the entries that begin a copy.
    pub(super) fn number_copies(&mut self, table: &TileTable) {
        let mut before = None;
        for (i, (entry, step)) in table.entries().iter().zip(&mut self.words).enumerate() {
            let tile = Some((entry[layout::TILE_KIND], entry[layout::TILE_START]));
            let fresh = tile != before;
            if fresh {
                self.copies.push(i as i32);
            }
            before = tile;
            let copy = (self.copies.len() - 1) as i32;
            *step |= copy << layout::STEP_COPY_SHIFT | if fresh { layout::STEP_FRESH } else { 0 };
        }
    }

    pub(super) fn words(&self) -> &[i32] {
        &self.words
    }

    pub(super) fn copies(&self) -> &[i32] {
        &self.copies
    }
}
