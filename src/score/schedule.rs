use std::ops::Range;

use super::{Limits, ScoreError, ScoreRequest};

/// What one pass computes: a part of the query, and items whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Query tokens that lie in pages already and are read from there.
    pub prefix: usize,
    /// Query tokens computed in this pass, as the lead; starts at `prefix`.
    pub query: Range<usize>,
    /// The query tokens of this pass are written to pages for the next ones.
    pub keep: bool,
    /// Items scored in this pass.
    pub items: Vec<usize>,
    /// Tokens to compute.
    pub tokens: usize,
}

/// How a request is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Items that share a computation of the query, at most; at least 1.
    pub run: usize,
    /// Tokens that a pass should not exceed.
    pub budget: usize,
    /// Tokens of the query that lie in pages: all of them, or a multiple of `kv_tile`. 0 unless packed.
    pub cached: usize,
    /// The query is written to pages even where no later pass of the request reads it.
    pub keep: bool,
}

/// Cuts `items` of a valid request into passes of at most `budget` tokens where that is possible: an item is never cut, nor is
/// a stretch of `kv_tile` tokens of the query.
pub(super) fn schedule(
    request: &ScoreRequest,
    items: &[usize],
    limits: &Limits,
    cut: Cut,
) -> Result<Vec<Step>, ScoreError> {
    let cutter = Cutter { request, limits, cut, budget: cut.budget.min(limits.pass_tokens) };
    let mut steps = Vec::new();
    for items in items.chunks(cut.run) {
        if request.item_first || request.query.is_empty() {
            cutter.pack(items, Vec::new(), 0, &mut steps)?;
        } else {
            cutter.query_then_items(items, &mut steps)?;
        }
    }
    Ok(steps)
}

struct Cutter<'a> {
    request: &'a ScoreRequest,
    limits: &'a Limits,
    cut: Cut,
    budget: usize,
}

impl Cutter<'_> {
    /// Passes that share the query: in the pass that computes its end as lead, after that as paged prefix.
    fn query_then_items(&self, items: &[usize], steps: &mut Vec<Step>) -> Result<(), ScoreError> {
        let query = self.request.query.len();
        let first = steps.len();
        let mut start = self.cut.cached;
        if query - start > self.budget {
            // Cut where a key tile ends: as a prefix, the part is then summed in the tiles it had as a lead.
            let tile = self.limits.tiling.kv_tile();
            let part = (self.budget / tile * tile).max(tile);
            while query - start > part {
                let end = start + part;
                steps.push(Step {
                    prefix: start,
                    query: start..end,
                    keep: true,
                    items: Vec::new(),
                    tokens: part,
                });
                start = end;
            }
        }
        let (empty, rest): (Vec<usize>, Vec<usize>) =
            items.iter().partition(|&&i| self.request.items[i].is_empty());
        let tokens = query - start;
        let last_part = Step { prefix: start, query: start..query, keep: false, items: empty, tokens };
        let open = if tokens > 0 { vec![last_part] } else { Vec::new() };
        self.pack(&rest, open, query, steps)?;
        let passes = steps.len() - first;
        let capacity = self.limits.pool_pages * self.limits.page_size;
        if passes > 1 && query > capacity {
            return Err(ScoreError::QueryTooLong { found: query, capacity });
        }
        for (at, step) in steps[first..].iter_mut().enumerate() {
            step.keep = !step.query.is_empty() && (at + 1 < passes || self.cut.keep);
        }
        Ok(())
    }

    /// Fills `open`, the pass that is begun, with items in order, then passes on a prefix of `prefix` tokens.
    fn pack(
        &self,
        items: &[usize],
        mut open: Vec<Step>,
        prefix: usize,
        steps: &mut Vec<Step>,
    ) -> Result<(), ScoreError> {
        for &item in items {
            let length = self.item_tokens(item);
            if length > self.limits.pass_tokens {
                let limit = self.limits.pass_tokens;
                return Err(ScoreError::ItemTooLong { item, found: length, limit });
            }
            match open.last_mut() {
                Some(step) if step.tokens + length <= self.budget => {
                    step.items.push(item);
                    step.tokens += length;
                }
                _ => {
                    let (query, items) = (prefix..prefix, vec![item]);
                    open.push(Step { prefix, query, keep: false, items, tokens: length });
                }
            }
        }
        steps.append(&mut open);
        Ok(())
    }

    /// Tokens that an item adds to a pass.
    fn item_tokens(&self, item: usize) -> usize {
        let query = if self.request.item_first { self.request.query.len() } else { 0 };
        query + self.request.items[item].len()
    }
}
