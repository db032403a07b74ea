//! Visibility: which query may see which key. The one definition that planner, kernels and reference share.
//!
//! A token `q` of a group sees the group's paged prefix, the group's lead (causally, if `q` is in the lead
//! itself), and its own segment up to itself; a sliding window further limits how far back a position may look.
//! Nothing else: never another segment, never another group.

/// Where a key lies, seen from its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// In the paged prefix.
    Prefix,
    /// A new token of segment `segment` at `offset` within it.
    New {
        /// Segment index within the group.
        segment: usize,
        /// Token offset within the segment.
        offset: usize,
    },
}

/// A query token, seen from its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Segment index within the group.
    pub segment: usize,
    /// Token offset within the segment.
    pub offset: usize,
}

/// Whether `query` may see `key` of the same group; `has_lead` says that segment 0 is the lead.
pub fn visible(query: Query, key: Key, has_lead: bool) -> bool {
    match key {
        Key::Prefix => true,
        Key::New { segment, offset } if segment == query.segment => offset <= query.offset,
        Key::New { segment, .. } => has_lead && segment == 0,
    }
}

/// Whether a key at `key_position` is inside the sliding window of a query at `query_position`.
///
/// Positions restart after prefix and lead for every segment, so a windowed score equals that of the item alone.
pub fn in_window(query_position: i64, key_position: i64, window: Option<u32>) -> bool {
    window.is_none_or(|w| query_position.saturating_sub(key_position) < i64::from(w))
}

/// Position of a token: prefix, then lead, then the segment itself. `usize::MAX` stands for that and more.
pub fn position(prefix_len: usize, lead_len: usize, query: Query, has_lead: bool) -> usize {
    let before = if has_lead && query.segment > 0 { lead_len } else { 0 };
    prefix_len.saturating_add(before).saturating_add(query.offset)
}
