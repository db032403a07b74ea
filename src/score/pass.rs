use std::collections::HashMap;

use super::schedule::Step;
use super::{Limits, ScoreError, ScoreRequest};
use crate::batch::{Group, KvSlots, Plan, Planner};

/// An engine: runs the model over the tokens of one pass.
///
/// # What a failed pass leaves behind
/// A pass that returns an error may have written some of its keys and values, or none; pages that were donated to its
/// program are gone. So after an error the [`Scorer`](super::Scorer) takes every page for lost: it forgets all prefixes that
/// it could have reused, fails the requests of the pass, and those of which an earlier pass has left a part in pages, with
/// [`ScoreError::Engine`], and goes on with the others. The engine's part is to be able to run the next pass: where its pages
/// were donated, it makes new ones, of any content, for no later pass reads a slot that none after the failure has written.
pub trait ForwardPass {
    /// What can go wrong in it.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What it can do; the same at every call.
    fn limits(&self) -> Limits;

    /// Computes the pass and returns `[rows, labels]` log-probs, row-major, of all of [`Pass::rows`] and
    /// [`Pass::labels`], padding included. Keys and values of this pass's tokens go to [`Pass::kv_slots`] and
    /// must be there for the passes that follow.
    ///
    /// A value that is infinite or no number is the engine's to return: the scorer finds out which item it comes from.
    ///
    /// # Errors
    /// Whatever keeps it from that; the trait's documentation says what then becomes of requests and pages.
    fn run(&mut self, pass: &Pass) -> Result<Vec<f32>, Self::Error>;
}

/// One forward pass over parts of one or more requests, a group each, in static shapes: everything is padded to a
/// bucket, so that passes of similar size share a compiled program.
#[derive(Clone, Debug)]
pub struct Pass {
    token_ids: Vec<i32>,
    plan: Plan,
    kv_slots: KvSlots,
    prefix_tokens: usize,
    rows: Vec<i32>,
    labels: Vec<i32>,
    parts: Vec<PartResult>,
}

/// What a request takes part with in a pass.
pub(super) struct Part<'a> {
    pub request: &'a ScoreRequest,
    pub step: &'a Step,
    /// Pages of the query, all of it.
    pub pages: &'a [i32],
}

/// Where the results of a part are.
#[derive(Clone, Debug)]
pub(super) struct PartResult {
    /// Items that this pass scores: (item, index into [`Pass::rows`]).
    pub targets: Vec<(usize, usize)>,
    /// The request's labels: indices into [`Pass::labels`].
    pub labels: Vec<usize>,
}

impl Pass {
    /// Token ids, `[plan().bucket().tokens]`; padding rows hold 0.
    pub fn token_ids(&self) -> &[i32] {
        &self.token_ids
    }
    /// Groups, positions and key tiles.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// Where keys and values are kept for later passes.
    pub fn kv_slots(&self) -> &KvSlots {
        &self.kv_slots
    }
    /// Tokens of queries that earlier passes have written to pages and this one reads.
    pub fn prefix_tokens(&self) -> usize {
        self.prefix_tokens
    }
    /// Rows to score, padded by repeating row 0 to 8, 16, 24, 32, 48, 64, 96 … entries. A pass that only
    /// computes a part of the query has nothing but padding here.
    pub fn rows(&self) -> &[i32] {
        &self.rows
    }
    /// Label token ids of all requests, each once, padded to a power of two of at least 8 by repeating the first.
    pub fn labels(&self) -> &[i32] {
        &self.labels
    }
    /// Where the results of each part are.
    pub(super) fn parts(&self) -> &[PartResult] {
        &self.parts
    }

    pub(super) fn new(planner: &mut Planner, parts: &[Part<'_>]) -> Result<Self, ScoreError> {
        let mut layout = Layout::default();
        let lens: Vec<_> = parts.iter().map(|part| (part.step.tokens, part.step.prefix)).collect();
        let (starts, _) = planner.starts(&lens);
        let results: Vec<PartResult> =
            parts.iter().zip(&starts).map(|(part, &start)| layout.add(part, start)).collect();
        let groups: Vec<Group<'_>> = parts
            .iter()
            .zip(&layout.offsets)
            .map(|(part, offsets)| Group {
                prefix_len: part.step.prefix as i32,
                pages: part.pages,
                cu_seg_lens: offsets,
                lead: !part.step.query.is_empty(),
            })
            .collect();
        let plan = planner.plan(layout.token_ids.len(), &groups)?;
        let kv_slots = if parts.iter().any(|part| part.step.keep) {
            KvSlots::new(planner, &plan, &kept(planner.page_size(), parts, &starts))?
        } else {
            KvSlots::none(&plan)
        };
        let Layout { mut token_ids, mut rows, mut labels, .. } = layout;
        token_ids.resize(plan.bucket().tokens, 0);
        rows.resize(row_bucket(rows.len()), 0);
        labels.resize(label_bucket(labels.len()), labels[0]);
        let prefix_tokens = parts.iter().map(|part| part.step.prefix).sum();
        Ok(Pass { token_ids, plan, kv_slots, prefix_tokens, rows, labels, parts: results })
    }
}

/// The tokens, rows and labels of the parts so far.
#[derive(Default)]
struct Layout {
    token_ids: Vec<i32>,
    /// Segment offsets of each part.
    offsets: Vec<Vec<i32>>,
    rows: Vec<i32>,
    labels: Vec<i32>,
    column: HashMap<i32, usize>,
}

impl Layout {
    /// Adds a part from token `start` on.
    fn add(&mut self, part: &Part<'_>, start: usize) -> PartResult {
        let (request, step) = (part.request, part.step);
        self.token_ids.resize(start, 0);
        let mut end = self.token_ids.len() as i32;
        let mut offsets = vec![end];
        if !step.query.is_empty() {
            self.token_ids.extend_from_slice(&request.query[step.query.clone()]);
            end = self.token_ids.len() as i32;
            offsets.push(end);
        }
        let mut targets = Vec::with_capacity(step.items.len());
        for &item in &step.items {
            self.token_ids.extend_from_slice(&request.items[item]);
            if request.item_first {
                self.token_ids.extend_from_slice(&request.query);
            }
            // An empty item ends where the query does, in the row that is the newest so far.
            if self.token_ids.len() as i32 > end {
                end = self.token_ids.len() as i32;
                offsets.push(end);
            }
            if self.rows.last() != Some(&(end - 1)) {
                self.rows.push(end - 1);
            }
            targets.push((item, self.rows.len() - 1));
        }
        self.offsets.push(offsets);
        let labels = request.label_token_ids.iter().map(|&label| {
            *self.column.entry(label).or_insert_with(|| {
                self.labels.push(label);
                self.labels.len() - 1
            })
        });
        PartResult { targets, labels: labels.collect() }
    }
}

/// The slot of every new token: those of kept queries have one.
fn kept(page_size: usize, parts: &[Part<'_>], starts: &[usize]) -> Vec<i32> {
    let mut slots = Vec::new();
    for (Part { step, pages, .. }, &start) in parts.iter().zip(starts) {
        slots.resize(start, -1);
        let slot =
            |position: usize| pages[position / page_size] * page_size as i32 + (position % page_size) as i32;
        let query = step.query.clone();
        let items = step.tokens - query.len();
        if step.keep {
            slots.extend(query.map(slot));
        } else {
            slots.resize(slots.len() + query.len(), -1);
        }
        slots.resize(slots.len() + items, -1);
    }
    slots
}

/// 8, 16, 24, 32, 48, 64, 96, 128, …: at most a half more than asked for, above 8.
fn row_bucket(rows: usize) -> usize {
    let octave = rows.max(8).next_power_of_two();
    let between = octave / 4 * 3;
    if between >= rows && between.is_multiple_of(8) { between } else { octave }
}

fn label_bucket(labels: usize) -> usize {
    labels.max(8).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::row_bucket;

    #[test]
    fn row_buckets() {
        for (rows, bucket) in
            [(0, 8), (1, 8), (8, 8), (9, 16), (17, 24), (25, 32), (33, 48), (49, 64), (64, 64), (65, 96)]
        {
            assert_eq!(row_bucket(rows), bucket, "{rows} rows");
        }
    }
}
