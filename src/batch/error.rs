/// Why a batch was refused. Every message names the field, the value and the bound; nothing was planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what each field is
pub enum BatchError {
    #[error("the batch has no groups")]
    NoGroups,
    #[error("total_tokens is 0; a batch has at least one new token")]
    NoTokens,
    #[error("total_tokens is {found}; this planner takes at most {max_tokens}")]
    TooManyTokens { found: usize, max_tokens: usize },
    #[error("groups[{group}].prefix_len is {prefix_len}; it must not be negative")]
    NegativePrefix { group: usize, prefix_len: i32 },
    #[error(
        "groups[{group}].pages has {given} pages; a prefix of {prefix_len} tokens in pages of {page_size} needs {needed}"
    )]
    TooFewPages { group: usize, prefix_len: usize, page_size: usize, needed: usize, given: usize },
    #[error("groups[{group}].pages[{at}] is {page}; it must be in 0..{pool_pages}")]
    PageOutOfRange { group: usize, at: usize, page: i32, pool_pages: usize },
    #[error("groups[{group}].pages[{at}] names page {page} a second time; a page holds one part of a prefix")]
    RepeatedPage { group: usize, at: usize, page: i32 },
    #[error("groups[{group}].cu_seg_lens has {offsets} offsets; it needs at least 2")]
    NoSegments { group: usize, offsets: usize },
    #[error("groups[{group}].cu_seg_lens[0] is {found}; it must be {expected}, where the group before ends")]
    GroupStart { group: usize, found: i32, expected: usize },
    #[error(
        "groups[{group}].cu_seg_lens[0] is {found}; it must be at least {least}, where the group before ends"
    )]
    GroupOverlap { group: usize, found: i32, least: usize },
    #[error(
        "groups[{group}].cu_seg_lens[{at}] is {found}, below {before} before it; offsets must not decrease"
    )]
    DecreasingOffsets { group: usize, at: usize, before: i32, found: i32 },
    #[error("groups[{group}].cu_seg_lens ends at {found}; the batch has {total_tokens} tokens")]
    OffsetBeyondTotal { group: usize, found: usize, total_tokens: usize },
    #[error("the groups hold {found} tokens; total_tokens is {total_tokens}")]
    TotalMismatch { found: usize, total_tokens: usize },
    #[error("groups[{group}] reaches {length} tokens with its prefix; positions end at 2147483647")]
    PositionOverflow { group: usize, length: u64 },
    #[error("the plan needs {words} metadata words or more; the limit is {max_words}")]
    TooMuchMetadata { words: usize, max_words: usize },
    #[error("{field} is {value}; it must be {bound}")]
    Limit { field: &'static str, value: usize, bound: &'static str },
    #[error(
        "the plan is for {plan_pool_pages} pages of {plan_page_size} tokens; the planner has {pool_pages} of {page_size}"
    )]
    OtherPool { page_size: usize, pool_pages: usize, plan_page_size: usize, plan_pool_pages: usize },
    #[error("slots has {found} entries; the plan has {tokens} tokens")]
    SlotCount { found: usize, tokens: usize },
    #[error("slots[{at}] is {slot}; it must be -1 (no write) or in 0..{capacity}")]
    SlotOutOfRange { at: usize, slot: i32, capacity: usize },
    #[error(
        "slots are of plan {found}; they are asked for with plan {plan}, and fit the plan they were made for alone"
    )]
    OtherPlan { found: u64, plan: u64 },
    #[error(
        "slots[{at}] of groups[{group}] is {slot}, in page {page}: slots[{first}] of groups[{first_group}] writes it too"
    )]
    RepeatedSlot { at: usize, group: usize, first: usize, first_group: usize, slot: i32, page: usize },
    #[error(
        "slots[{at}] of groups[{group}] is {slot}, in page {page}, where slots[{first}] of groups[{first_group}] writes \
         for another sequence; a page holds one sequence"
    )]
    SharedPage { at: usize, group: usize, first: usize, first_group: usize, slot: i32, page: usize },
    #[error("slots[{at}] is {slot}, but token {at} is padding between groups; it must be -1")]
    WriteOfPadding { at: usize, slot: i32 },
    #[error("slots[{at}] is {slot}, in page {page}: a prefix of the same pass reads it")]
    WriteToPrefix { at: usize, slot: i32, page: usize },
}
