//! What a batch is like, as far as block sizes depend on it.

use std::fmt;

use crate::batch::Group;

/// What a batch mostly consists of: what block sizes depend on, besides heads and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(not(in_library), derive(serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum WorkloadClass {
    /// Many segments that share a prefix or a lead: scoring.
    Packed,
    /// Long sequences from their start, or nearly: more new tokens than cached ones.
    Prefill,
    /// Few new tokens a sequence behind long cached ones.
    Decode,
    /// Anything else.
    Mixed,
}

impl WorkloadClass {
    /// All of them.
    pub const ALL: [WorkloadClass; 4] =
        [WorkloadClass::Packed, WorkloadClass::Prefill, WorkloadClass::Decode, WorkloadClass::Mixed];

    /// The class of a batch: packed where groups have four segments or more on average; else decode where they have at
    /// most eight new tokens on average; else prefill where new tokens outnumber those of cached prefixes; else mixed.
    /// A batch without groups is mixed.
    pub fn of(groups: &[Group<'_>]) -> Self {
        let sum = |of: fn(&Group<'_>) -> usize| groups.iter().map(of).sum::<usize>();
        let segments = sum(|g| g.cu_seg_lens.len().saturating_sub(1));
        let new = sum(|g| match g.cu_seg_lens {
            [first, .., last] => last.saturating_sub(*first).max(0) as usize,
            _ => 0,
        });
        let cached = sum(|g| g.prefix_len.max(0) as usize);
        if groups.is_empty() {
            WorkloadClass::Mixed
        } else if segments >= 4 * groups.len() {
            WorkloadClass::Packed
        } else if new <= 8 * groups.len() {
            WorkloadClass::Decode
        } else if new > cached {
            WorkloadClass::Prefill
        } else {
            WorkloadClass::Mixed
        }
    }

    /// Short name: `packed`, `prefill`, `decode`, `mixed`.
    pub fn name(self) -> &'static str {
        match self {
            WorkloadClass::Packed => "packed",
            WorkloadClass::Prefill => "prefill",
            WorkloadClass::Decode => "decode",
            WorkloadClass::Mixed => "mixed",
        }
    }
}

impl fmt::Display for WorkloadClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
