use super::ScoreError;
use super::ScoreRequest;
use super::schedule::Step;
use crate::batch::{Group, KvSlots, Plan, Planner, Tiling};

/// What an engine can do. Fixed for its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Token ids are below it.
    pub vocabulary: usize,
    /// Tokens of the longest prompt.
    pub context: usize,
    /// New tokens of the largest pass.
    pub pass_tokens: usize,
    /// Tokens of the largest request, counted as packed passes compute them.
    pub max_request_tokens: usize,
    /// Items of the largest request.
    pub max_items: usize,
    /// Labels of the largest request.
    pub max_labels: usize,
    /// Tokens of one KV page.
    pub page_size: usize,
    /// Pages of the pool; a query is kept in the first ones between the passes of its request.
    pub pool_pages: usize,
    /// Block sizes of the attention kernel.
    pub tiling: Tiling,
}

/// An engine: runs the model over the tokens of one pass.
pub trait ForwardPass {
    /// What can go wrong in it.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What it can do; the same at every call.
    fn limits(&self) -> Limits;

    /// Computes the pass and returns `[rows, labels]` log-probs, row-major, of all of [`Pass::rows`] and
    /// [`Pass::labels`], padding included. Keys and values of this pass's tokens go to [`Pass::kv_slots`] and
    /// must be there for the passes that follow.
    fn run(&mut self, pass: &Pass) -> Result<Vec<f32>, Self::Error>;
}

/// One forward pass, in static shapes: everything is padded to a bucket, so that requests of similar size share
/// a compiled program.
#[derive(Clone, Debug)]
pub struct Pass {
    token_ids: Vec<i32>,
    plan: Plan,
    kv_slots: KvSlots,
    prefix_tokens: usize,
    rows: Vec<i32>,
    labels: Vec<i32>,
    targets: Vec<(usize, usize)>,
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
    /// Tokens of the query that earlier passes of the request have written to pages and this one reads.
    pub fn prefix_tokens(&self) -> usize {
        self.prefix_tokens
    }
    /// Rows to score, padded by repeating row 0 to 8, 16, 24, 32, 48, 64, 96 … entries. A pass that only
    /// computes a part of the query has nothing but padding here.
    pub fn rows(&self) -> &[i32] {
        &self.rows
    }
    /// Label token ids, padded to a power of two of at least 8 by repeating the first.
    pub fn labels(&self) -> &[i32] {
        &self.labels
    }
    /// Items that this pass scores: (item, index into [`rows`](Self::rows)).
    pub(super) fn targets(&self) -> &[(usize, usize)] {
        &self.targets
    }

    pub(super) fn new(
        planner: &mut Planner,
        request: &ScoreRequest,
        step: &Step,
        page_ids: &[i32],
    ) -> Result<Self, ScoreError> {
        let lead = !step.query.is_empty();
        let mut token_ids = request.query[step.query.clone()].to_vec();
        let mut offsets = vec![0];
        if lead {
            offsets.push(token_ids.len() as i32);
        }
        let mut rows = Vec::with_capacity(step.items.len());
        let mut targets = Vec::with_capacity(step.items.len());
        for &item in &step.items {
            token_ids.extend_from_slice(&request.items[item]);
            if request.item_first {
                token_ids.extend_from_slice(&request.query);
            }
            // An empty item ends where the query does, in the row that is the newest so far.
            let last = token_ids.len() as i32 - 1;
            if last + 1 > offsets[offsets.len() - 1] {
                offsets.push(last + 1);
            }
            if rows.last() != Some(&last) {
                rows.push(last);
            }
            targets.push((item, rows.len() - 1));
        }
        let group = Group { prefix_len: step.prefix as i32, pages: page_ids, cu_seg_lens: &offsets, lead };
        let plan = planner.plan(token_ids.len(), &[group])?;
        let kv_slots = if step.keep {
            let end = step.query.end;
            let slots: Vec<i32> = (step.query.start..step.query.start + token_ids.len())
                .map(|position| if position < end { position as i32 } else { -1 })
                .collect();
            KvSlots::new(planner, &plan, &slots)?
        } else {
            KvSlots::none(&plan)
        };
        token_ids.resize(plan.bucket().tokens, 0);
        rows.resize(row_bucket(rows.len()), 0);
        let mut labels = request.label_token_ids.clone();
        labels.resize(label_bucket(labels.len()), labels[0]);
        Ok(Pass { token_ids, plan, kv_slots, prefix_tokens: step.prefix, rows, labels, targets })
    }
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
