use std::collections::VecDeque;

use super::schedule::{Cut, Step, schedule};
use super::{Algorithm, Limits, NonFinite, NonFiniteItem, ScoreError, ScoreRequest, ScoreResponse, softmax};
use crate::prefix_cache::{Hold, PrefixCache};

/// Names a request that a [`Scorer`](super::Scorer) has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// How far a request has come, after each of its passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Passes done.
    pub passes_done: usize,
    /// Passes of the request; 0 before the first.
    pub passes: usize,
    /// Items scored.
    pub items_done: usize,
    /// Items of the request.
    pub items: usize,
}

/// How jobs are run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub algorithm: Algorithm,
    pub budget: usize,
    /// Queries stay in pages for later requests.
    pub reuse: bool,
}

/// A valid request on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub ticket: Ticket,
    pub request: ScoreRequest,
    /// Log-probs of the items that have some.
    logprobs: Vec<Vec<f32>>,
    /// Items that are no number even alone.
    failed: Vec<NonFiniteItem>,
    isolation: Isolation,
    /// Steps that are left, once the job has begun.
    steps: Option<VecDeque<Step>>,
    hold: Option<Hold>,
    /// The query stays in its pages for other requests.
    keep: bool,
    progress: Progress,
}

/// How much lies between items: more of it each time that a pass gives what is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isolation {
    /// Passes are shared with other requests.
    Shared,
    /// Passes are the request's own, all from its query on, which at most so many items share.
    Alone { run: usize },
}

/// Whether a job can take part in passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Begun,
    /// Its first step has too many tokens for what is left of the pass.
    NoRoom,
    /// Other jobs hold the pages that it needs.
    NoPages,
}

impl Job {
    pub fn new(ticket: Ticket, request: ScoreRequest) -> Self {
        let items = request.items.len();
        let progress = Progress { passes_done: 0, passes: 0, items_done: 0, items };
        Job {
            ticket,
            logprobs: vec![Vec::new(); items],
            failed: Vec::new(),
            isolation: Isolation::Shared,
            request,
            steps: None,
            hold: None,
            keep: false,
            progress,
        }
    }

    pub fn has_begun(&self) -> bool {
        self.steps.is_some()
    }

    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether its passes must be its own.
    pub fn is_alone(&self) -> bool {
        self.isolation != Isolation::Shared
    }

    /// The next step, of a job that has begun.
    pub fn step(&self) -> Option<&Step> {
        self.steps.as_ref()?.front()
    }

    pub fn pages(&self) -> &[i32] {
        self.hold.as_ref().map_or(&[], Hold::pages)
    }

    /// Whether its keys depend on the tokens that are in pages, or may be.
    pub fn shares_query(&self) -> bool {
        !self.request.query.is_empty() && !self.request.item_first
    }

    /// Items that have neither log-probs nor failed.
    fn open_items(&self) -> Vec<usize> {
        let mut open: Vec<bool> = self.logprobs.iter().map(Vec::is_empty).collect();
        self.failed.iter().for_each(|failed| open[failed.item] = false);
        (0..open.len()).filter(|&item| open[item]).collect()
    }

    /// Cuts the request into steps and takes the pages that they need, if `room` takes the tokens of the first.
    pub fn begin(
        &mut self,
        limits: &Limits,
        policy: &Policy,
        prefixes: &mut PrefixCache,
        room: impl Fn(usize) -> bool,
    ) -> Result<Start, ScoreError> {
        if self.has_begun() {
            return Ok(Start::Begun);
        }
        let packed = policy.algorithm == Algorithm::Packed && self.shares_query();
        let fits = self.request.query.len() <= limits.pool_pages * limits.page_size;
        let keep = policy.reuse && packed && fits && !self.is_alone();
        let cached = if keep { self.reusable(limits, prefixes) } else { 0 };
        let items = self.open_items();
        let run = match (self.isolation, policy.algorithm) {
            (Isolation::Alone { run }, _) => run,
            (Isolation::Shared, Algorithm::Serial) => 1,
            (Isolation::Shared, Algorithm::Packed) => items.len(),
        };
        let cut = Cut { run: run.max(1), budget: policy.budget, cached, keep };
        let mut steps = schedule(&self.request, &items, limits, cut)?;
        if !steps.first().is_some_and(|step| room(step.tokens)) {
            return Ok(Start::NoRoom);
        }
        let needed = cached > 0 || steps.iter().any(|step| step.keep);
        if needed {
            match prefixes.acquire(&self.request.query, cached) {
                Some(hold) => self.hold = Some(hold),
                // Pages that only later requests would gain from are no reason to wait.
                None if keep && cached == 0 => {
                    steps = schedule(&self.request, &items, limits, Cut { keep: false, ..cut })?;
                    if steps.iter().any(|step| step.keep) {
                        return Ok(Start::NoPages);
                    }
                }
                None => return Ok(Start::NoPages),
            }
        }
        self.keep = keep && self.hold.is_some();
        self.progress.passes = self.progress.passes_done + steps.len();
        self.steps = Some(steps.into());
        Ok(Start::Begun)
    }

    /// Query tokens that can be read from pages without a change of any bit of the scores: keys are summed in tiles of
    /// `kv_tile`, so a part of the query can only end where a tile does. An empty item is scored in the row of the
    /// query's last token, which has to be computed then.
    fn reusable(&self, limits: &Limits, prefixes: &PrefixCache) -> usize {
        let query = &self.request.query;
        let found = prefixes.find(query);
        if found == query.len() && self.request.items.iter().all(|item| !item.is_empty()) {
            return found;
        }
        let tile = limits.tiling.kv_tile();
        found.min(query.len() - 1) / tile * tile
    }

    /// Ends the step that was just run, with what its items came to. `spoiled` says whether the pass gave anyone a value that
    /// is no number.
    pub fn end_step(&mut self, results: Vec<(usize, Vec<f32>)>, spoiled: bool) {
        let Some(step) = self.steps.as_mut().and_then(VecDeque::pop_front) else { return };
        self.progress.passes_done += 1;
        // A part of a query shows nothing of what came of it.
        let mut doubtful = spoiled && results.is_empty();
        for (item, logprobs) in results {
            match logprobs.iter().position(|x| !x.is_finite()) {
                None => {
                    self.logprobs[item] = logprobs;
                    self.progress.items_done += 1;
                }
                Some(label) if self.isolation == (Isolation::Alone { run: 1 }) => {
                    self.failed.push(NonFiniteItem { item, label, value: logprobs[label] });
                    self.progress.items_done += 1;
                }
                Some(_) => doubtful = true,
            }
        }
        let open = self.progress.items - self.progress.items_done;
        let is_over = self.steps.as_ref().is_some_and(VecDeque::is_empty);
        match self.isolation {
            Isolation::Shared if doubtful => self.begin_anew(open),
            Isolation::Alone { run } if is_over && open > 0 => {
                self.begin_anew(run.div_ceil(2).min(open));
            }
            _ => {
                let whole = step.query.end == self.request.query.len() && !step.query.is_empty();
                if let (true, Some(hold)) = (self.keep && whole, &mut self.hold) {
                    hold.commit();
                }
            }
        }
    }

    /// Has what is open run again from the query on, alone, so many items at a time.
    fn begin_anew(&mut self, run: usize) {
        tracing::debug!(request = self.ticket.0, run, "runs again alone");
        self.isolation = Isolation::Alone { run };
        (self.steps, self.hold, self.keep) = (None, None, false);
    }

    /// Whether no step is left.
    pub fn is_done(&self) -> bool {
        self.steps.as_ref().is_some_and(VecDeque::is_empty)
    }

    /// What a job that is done came to.
    pub fn result(&mut self) -> Result<ScoreResponse, ScoreError> {
        let logprobs = std::mem::take(&mut self.logprobs);
        let over_labels = self.request.apply_softmax;
        let of_item = |l: &Vec<f32>| if l.is_empty() { Vec::new() } else { softmax::scores(l, over_labels) };
        let scores = logprobs.iter().map(of_item).collect();
        let response = ScoreResponse { logprobs, scores, usage: self.request.usage() };
        if self.failed.is_empty() {
            return Ok(response);
        }
        let mut items = std::mem::take(&mut self.failed);
        items.sort_by_key(|failed| failed.item);
        Err(ScoreError::NonFinite(Box::new(NonFinite { items, others: response })))
    }
}
