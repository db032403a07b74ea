//! What a plan says of every row, and the slot map: which token's keys lie in which slot.

use std::ops::Range;

use super::super::group::CheckedGroups;
use super::super::meta::{layout, table_start};
use super::super::{Tiling, TpuTiling};

/// The metadata's header, still empty, and its row sections.
pub(super) struct Rows {
    words: Vec<i32>,
    rows: usize,
}

/// Tokens by slot: short segments, then aligned runs.
#[derive(Debug, Default)]
pub(super) struct SlotMap {
    slots: Vec<i32>,
    /// Slots of short segments.
    short: usize,
    runs: Vec<Range<usize>>,
}

impl Rows {
    /// Fills the row sections and packs short segments into slots. `words` is room for the metadata.
    ///
    /// A short segment's slots start at a multiple of its length rounded up to a power of two: whatever its
    /// siblings, its keys fall into the same branch of every reduction over a tile; one of several tiles starts with
    /// a tile. Leads and long segments keep their place in the stream; aligned runs get slots behind the short ones.
    pub(super) fn fill(
        mut words: Vec<i32>,
        rows: usize,
        tiling: Tiling,
        groups: CheckedGroups<'_>,
        map: &mut SlotMap,
    ) -> Self {
        map.slots.clear();
        map.runs.clear();
        words.resize(table_start(rows), 0);
        let (own_start, rest) = words[layout::HEADER..].split_at_mut(rows);
        let (own_key, position) = rest.split_at_mut(rows);
        let mut end = 0;
        for group in groups.iter() {
            own_key[end..group.start()].fill(-1);
            end = group.end();
        }
        own_key[end..].fill(-1);
        let (own_tile, short_segment) = (tiling.own_tile(), tiling.short_segment());
        let SlotMap { slots, short, runs } = map;
        let mut place = |start: usize, end: usize, first_key: usize| {
            own_start[start..end].fill(first_key as i32);
            count_up(&mut own_key[start..end], first_key);
        };
        for group in groups.iter() {
            for (i, (start, end)) in group.segments().enumerate() {
                let len = end - start;
                let lead = group.lead && i == 0;
                if !lead && len <= short_segment {
                    let align = len.next_power_of_two().min(own_tile);
                    place(start, end, rows + take_slots(slots, start..end, align));
                } else if tiling.is_tpu() {
                    runs.push(start..end);
                } else {
                    place(start, end, start);
                }
                let first_position =
                    group.prefix_len + if lead { 0 } else { group.lead_end() - group.start() };
                count_up(&mut position[start..end], first_position);
            }
        }
        *short = slots.len();
        for run in runs.drain(..) {
            place(run.start, run.end, rows + take_slots(slots, run.clone(), TpuTiling::RUN_ALIGN));
        }
        Rows { words, rows }
    }

    /// Rows of the bucket; keys behind them are slots.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// First key of every row's own segment.
    pub(super) fn own_starts(&self) -> &[i32] {
        self.section(layout::OWN_START)
    }

    /// Every row's own key.
    pub(super) fn own_keys(&self) -> &[i32] {
        self.section(layout::OWN_KEY)
    }

    /// Every row's position.
    pub(super) fn positions(&self) -> &[i32] {
        self.section(layout::POSITION)
    }

    fn section(&self, section: usize) -> &[i32] {
        &self.words[layout::HEADER + section * self.rows..][..self.rows]
    }

    /// The metadata as far as it is made.
    pub(super) fn into_words(self) -> Vec<i32> {
        self.words
    }
}

impl SlotMap {
    pub(super) fn slots(&self) -> &[i32] {
        &self.slots
    }

    /// Slots of short segments.
    pub(super) fn short(&self) -> usize {
        self.short
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
