use super::bucket::{q_tile_for, token_bucket};
use super::draft::{Scratch, Stream, draft};
use super::group::{CheckedGroups, Group, PageStamps};
use super::limits::Limits;
use super::{BatchError, Plan, Tiling};

/// Checks batches against fixed limits and turns them into [`Plan`]s. Keeps scratch space between calls.
#[derive(Debug)]
pub struct Planner {
    limits: Limits,
    tiling: Tiling,
    max_tokens: usize,
    gaps: bool,
    stamps: PageStamps,
    scratch: Scratch,
}

impl Planner {
    /// Largest token count that a planner can be allowed.
    pub const MAX_TOKENS: usize = 1 << 24;

    /// A planner for a pool of `pool_pages` pages of `page_size` tokens; `tiling` must suit `page_size`.
    pub fn new(page_size: usize, pool_pages: usize, tiling: impl Into<Tiling>) -> Result<Self, BatchError> {
        let tiling = tiling.into();
        let limit = |field, value, bound| Err(BatchError::Limit { field, value, bound });
        if page_size == 0 || !tiling.kv_tile().is_multiple_of(page_size) {
            return limit("page_size", page_size, "a divisor of the tiling's kv_tile");
        }
        if pool_pages.checked_mul(page_size).is_none_or(|slots| slots > i32::MAX as usize) {
            return limit("pool_pages", pool_pages, "such that pages times page_size is at most 2147483647");
        }
        Ok(Planner {
            limits: Limits {
                page_size,
                pool_pages,
                sliding_window: None,
                max_meta_words: i32::MAX as usize / 4,
            },
            tiling,
            max_tokens: Self::MAX_TOKENS,
            gaps: false,
            stamps: PageStamps::default(),
            scratch: Scratch::default(),
        })
    }

    /// Plans for a kernel with this sliding window: key tiles that lie behind it for every row are left out.
    pub fn with_sliding_window(mut self, window: Option<u32>) -> Self {
        self.limits.sliding_window = window;
        self
    }

    /// Refuses batches of more than `tokens` new tokens.
    pub fn with_max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens.min(Self::MAX_TOKENS);
        self
    }

    /// Refuses plans whose metadata needs more than `words` 32-bit words (a TPU keeps it in SMEM).
    pub fn with_max_meta_words(mut self, words: usize) -> Self {
        self.limits.max_meta_words = words.min(i32::MAX as usize / 4);
        self
    }

    /// Takes groups that start behind the end of the one before. Tokens between groups and behind the last are padding:
    /// they see nothing, nobody sees them, and their results are 0. See [`starts`](Self::starts).
    pub fn with_gaps(mut self) -> Self {
        self.gaps = true;
        self
    }

    /// Where groups should start in the token stream, given the new tokens and the prefix length of each in order, and the
    /// tokens of the stream then.
    ///
    /// A planner with gaps for the TPU kernel has a group that would lie in two row blocks, though it fits into one, start
    /// with the next one if that saves more visits to its prefix than the padding could cost, as long as the bucket has
    /// room: rows that are computed whether they hold a token or not. Others leave no gaps.
    pub fn starts(&self, groups: &[(usize, usize)]) -> (Vec<usize>, usize) {
        /// Key tiles that sequences with few new tokens visit a row block, about: what padding of a block costs.
        const VISITS_A_BLOCK: usize = 3;
        let tokens = groups.iter().fold(0usize, |sum, (new, _)| sum.saturating_add(*new));
        let mut room = match self.tiling {
            Tiling::Tpu(_) if self.gaps && tokens <= self.max_tokens => {
                self.rows(tokens).min(self.max_tokens) - tokens
            }
            _ => 0,
        };
        let (block, mut at) = (self.tiling.row_block(), 0usize);
        let starts = groups
            .iter()
            .map(|&(new, prefix)| {
                let gap = (block - at % block) % block;
                let straddles = gap > 0 && new > gap && new <= block;
                let visits = prefix.div_ceil(self.tiling.kv_tile());
                if straddles && gap <= room && visits > gap * VISITS_A_BLOCK / block {
                    room -= gap;
                    at += gap;
                }
                let start = at;
                at = at.saturating_add(new);
                start
            })
            .collect();
        (starts, at)
    }

    /// Tokens of one page.
    pub fn page_size(&self) -> usize {
        self.limits.page_size
    }

    /// Pages of the pool.
    pub fn pool_pages(&self) -> usize {
        self.limits.pool_pages
    }

    /// Validates a batch of `total_tokens` new tokens and plans its key tiles. O(tokens + pages + tiles). After a batch
    /// of the same bucket that was no smaller, it allocates nothing but the plan.
    pub fn plan(&mut self, total_tokens: usize, groups: &[Group<'_>]) -> Result<Plan, BatchError> {
        if groups.is_empty() {
            return Err(BatchError::NoGroups);
        }
        if total_tokens == 0 {
            return Err(BatchError::NoTokens);
        }
        if total_tokens > self.max_tokens {
            return Err(BatchError::TooManyTokens { found: total_tokens, max_tokens: self.max_tokens });
        }
        let Limits { page_size, pool_pages, .. } = self.limits;
        let groups =
            CheckedGroups::check(groups, total_tokens, page_size, pool_pages, self.gaps, &mut self.stamps)?;
        let rows = self.rows(total_tokens);
        let tiling = match self.tiling {
            Tiling::Portable(sizes) => Tiling::Portable(sizes.with_q_tile(self.choose_q_tile(rows, groups))),
            Tiling::Tpu(_) => self.tiling,
        };
        let stream = Stream { rows, num_tokens: total_tokens, tiling };
        draft(self.limits, stream, groups, &mut self.scratch)
    }

    /// Rows of the bucket that holds `tokens`: whole query tiles where those are the same for every plan.
    fn rows(&self, tokens: usize) -> usize {
        let rows = token_bucket(tokens);
        if self.tiling.is_tpu() { rows.next_multiple_of(self.tiling.q_tile()) } else { rows }
    }

    /// Query tile with the least work: a visit computes `q_tile` rows, plus a fixed share for starting it.
    fn choose_q_tile(&self, rows: usize, groups: CheckedGroups<'_>) -> usize {
        const VISIT_ROWS: usize = 48;
        let largest = q_tile_for(rows, self.tiling.q_tile());
        let cost = |q: usize| -> usize {
            groups
                .iter()
                .filter(|g| g.end() > g.start())
                .map(|g| {
                    let shared = g.prefix_len.div_ceil(self.tiling.kv_tile())
                        + (g.lead_end() - g.start()).div_ceil(self.tiling.kv_tile());
                    let q_tiles = (g.end() - 1) / q - g.start() / q + 1;
                    (shared + 1) * q_tiles * (q + VISIT_ROWS)
                })
                .sum()
        };
        let mut best = largest;
        let mut q = largest / 2;
        while q >= 16 {
            // A smaller tile must pay clearly: every variant is a program to compile.
            if cost(q) * 4 < cost(best) * 3 {
                best = q;
            }
            q /= 2;
        }
        best
    }
}
