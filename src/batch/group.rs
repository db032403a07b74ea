use super::BatchError;
use super::plan::Span;

/// One group as an engine describes it: a shared prefix and the new tokens that see it.
///
/// `cu_seg_lens` are CSR offsets into the batch's token stream: segment `i` is tokens
/// `cu_seg_lens[i]..cu_seg_lens[i + 1]`. The first offset equals the last one of the group before (0 for the
/// first group), the last offset of the last group equals the batch's token count; a planner
/// [with gaps](crate::batch::Planner::with_gaps) takes greater ones too. Empty segments are allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Group<'a> {
    /// Tokens whose keys and values already lie in pages; every new token of the group sees all of them.
    pub prefix_len: i32,
    /// Page ids of the prefix in order; `ceil(prefix_len / page_size)` are read, more are ignored.
    pub pages: &'a [i32],
    /// Segment offsets, one more than there are segments.
    pub cu_seg_lens: &'a [i32],
    /// Whether segment 0 is the lead: later segments see it whole.
    pub lead: bool,
}

/// Groups whose every number has been checked against its bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedGroups<'a> {
    groups: &'a [Group<'a>],
    page_size: usize,
}

impl<'a> CheckedGroups<'a> {
    /// Checks all groups of a batch of `total_tokens`.
    pub(super) fn check(
        groups: &'a [Group<'a>],
        total_tokens: usize,
        page_size: usize,
        pool_pages: usize,
        gaps: bool,
        stamps: &mut PageStamps,
    ) -> Result<Self, BatchError> {
        let mut end = 0;
        for (i, group) in groups.iter().enumerate() {
            let start = match group.cu_seg_lens {
                &[first, ..] if gaps => usize::try_from(first)
                    .ok()
                    .filter(|&start| start >= end)
                    .ok_or(BatchError::GroupOverlap { group: i, found: first, least: end })?,
                _ => end,
            };
            end = check(i, group, start, total_tokens, page_size, pool_pages, stamps)?.end();
        }
        if end != total_tokens && !gaps {
            return Err(BatchError::TotalMismatch { found: end, total_tokens });
        }
        Ok(CheckedGroups { groups, page_size })
    }

    pub(super) fn get(self, index: usize) -> Option<CheckedGroup<'a>> {
        self.groups.get(index).map(|group| CheckedGroup::view(group, self.page_size))
    }

    pub(super) fn iter(self) -> impl ExactSizeIterator<Item = CheckedGroup<'a>> + Clone {
        self.from(0)
    }

    /// Those from `first` on.
    pub(super) fn from(self, first: usize) -> impl ExactSizeIterator<Item = CheckedGroup<'a>> + Clone {
        self.groups[first..].iter().map(move |group| CheckedGroup::view(group, self.page_size))
    }
}

/// One of them, in the types that planning counts in.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedGroup<'a> {
    pub prefix_len: usize,
    pub pages: &'a [i32],
    pub offsets: &'a [i32],
    pub lead: bool,
}

impl<'a> CheckedGroup<'a> {
    fn view(group: &Group<'a>, page_size: usize) -> Self {
        let prefix_len = group.prefix_len as usize;
        let pages = &group.pages[..prefix_len.div_ceil(page_size)];
        CheckedGroup { prefix_len, pages, offsets: group.cu_seg_lens, lead: group.lead }
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = (usize, usize)> + use<'a> {
        self.offsets.windows(2).map(|w| (w[0] as usize, w[1] as usize))
    }

    pub(super) fn start(&self) -> usize {
        self.offsets[0] as usize
    }

    pub(super) fn end(&self) -> usize {
        self.offsets[self.offsets.len() - 1] as usize
    }

    /// What a plan remembers of it.
    pub(super) fn span(&self) -> Span {
        Span { prefix_len: self.prefix_len, start: self.start(), lead_end: self.lead_end(), end: self.end() }
    }

    /// End of the lead in the token stream; the group's start without one.
    pub(super) fn lead_end(&self) -> usize {
        if self.lead { self.offsets[1] as usize } else { self.start() }
    }
}

/// Checks group number `index`, which must start at token `start`; `stamps` marks pages already named by it.
fn check<'a>(
    index: usize,
    group: &Group<'a>,
    start: usize,
    total_tokens: usize,
    page_size: usize,
    pool_pages: usize,
    stamps: &mut PageStamps,
) -> Result<CheckedGroup<'a>, BatchError> {
    let g = index;
    if group.prefix_len < 0 {
        return Err(BatchError::NegativePrefix { group: g, prefix_len: group.prefix_len });
    }
    let prefix_len = group.prefix_len as usize;
    let needed = prefix_len.div_ceil(page_size);
    if group.pages.len() < needed {
        return Err(BatchError::TooFewPages {
            group: g,
            prefix_len,
            page_size,
            needed,
            given: group.pages.len(),
        });
    }
    let pages = &group.pages[..needed];
    stamps.begin(pool_pages);
    for (at, &page) in pages.iter().enumerate() {
        if page < 0 || page as usize >= pool_pages {
            return Err(BatchError::PageOutOfRange { group: g, at, page, pool_pages });
        }
        if !stamps.first_use(page as usize) {
            return Err(BatchError::RepeatedPage { group: g, at, page });
        }
    }
    let offsets = group.cu_seg_lens;
    if offsets.len() < 2 {
        return Err(BatchError::NoSegments { group: g, offsets: offsets.len() });
    }
    if offsets[0] < 0 || offsets[0] as usize != start {
        return Err(BatchError::GroupStart { group: g, found: offsets[0], expected: start });
    }
    for (at, w) in offsets.windows(2).enumerate() {
        if w[1] < w[0] {
            return Err(BatchError::DecreasingOffsets { group: g, at: at + 1, before: w[0], found: w[1] });
        }
    }
    let last = offsets[offsets.len() - 1] as usize;
    if last > total_tokens {
        return Err(BatchError::OffsetBeyondTotal { group: g, found: last, total_tokens });
    }
    let checked = CheckedGroup::view(group, page_size);
    let longest = prefix_len as u64 + (checked.end() - checked.start()) as u64;
    if longest > i32::MAX as u64 {
        return Err(BatchError::PositionOverflow { group: g, length: longest });
    }
    Ok(checked)
}

/// Marks pages as seen without clearing the marks between groups: a generation count a page.
#[derive(Debug, Default)]
pub(super) struct PageStamps {
    generation: u32,
    seen: Vec<u32>,
}

impl PageStamps {
    fn begin(&mut self, pool_pages: usize) {
        if self.seen.len() != pool_pages || self.generation == u32::MAX {
            // Zeroed by the allocator: a vast pool costs memory only where pages are named.
            self.seen = vec![0; pool_pages];
            self.generation = 0;
        }
        self.generation += 1;
    }

    fn first_use(&mut self, page: usize) -> bool {
        std::mem::replace(&mut self.seen[page], self.generation) != self.generation
    }
}
