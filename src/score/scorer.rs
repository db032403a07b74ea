use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::job::{Job, Policy, Progress, Start, Ticket};
use super::pass::{Part, PartResult};
use super::validate::validate;
use super::{Algorithm, ForwardPass, Limits, Pass, ScoreError, ScoreRequest, ScoreResponse};
use crate::batch::Planner;
use crate::prefix_cache::{PrefixCache, PrefixStats};

/// Scores requests on an engine, one at a time or many at once.
///
/// [`score`](Self::score) answers one request. A server calls [`submit`](Self::submit) for every request that arrives
/// and [`run_pass`](Self::run_pass) as long as there is work: each pass takes parts of as many requests as its token
/// budget allows, in turn, so that small requests share a pass and a large one holds nobody up for longer than one.
#[derive(Debug)]
pub struct Scorer<E> {
    engine: E,
    limits: Limits,
    planner: Planner,
    policy: Policy,
    prefixes: PrefixCache,
    jobs: VecDeque<Job>,
    finished: Vec<Finished>,
    next_ticket: u64,
}

/// A request that came to its end.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Which one.
    pub ticket: Ticket,
    /// What it came to.
    pub result: Result<ScoreResponse, ScoreError>,
}

impl<E: ForwardPass> Scorer<E> {
    /// A scorer that packs as much into a pass as the engine takes.
    ///
    /// # Errors
    /// The engine's limits contradict each other, or are such that it could take no request, or had to refuse later what
    /// they allow. The error names the limit.
    pub fn new(engine: E) -> Result<Self, ScoreError> {
        let limits = engine.limits();
        limits.check()?;
        let planner = Planner::new(limits.page_size, limits.pool_pages, limits.tiling)?
            .with_sliding_window(limits.sliding_window)
            .with_max_tokens(limits.pass_tokens)
            .with_gaps();
        Ok(Scorer {
            engine,
            limits,
            planner,
            policy: Policy { algorithm: Algorithm::default(), budget: limits.pass_tokens, reuse: false },
            prefixes: PrefixCache::new(limits.pool_pages, limits.page_size)?,
            jobs: VecDeque::new(),
            finished: Vec::new(),
            next_ticket: 0,
        })
    }

    /// How items are spread over passes, for requests that have not begun.
    pub fn set_algorithm(&mut self, algorithm: Algorithm) {
        self.policy.algorithm = algorithm;
    }

    /// Tokens that a pass should not exceed, for requests that have not begun: a bound on the memory that a pass
    /// needs. An item, and `kv_tile` tokens of a query, are never cut and may exceed it.
    pub fn set_token_budget(&mut self, tokens: usize) {
        self.policy.budget = tokens;
    }

    /// Whether queries stay in KV pages after their request, so that a repeated query costs only its items. Off at
    /// first. Scores are the same either way: a whole query is reused, or whole tiles of `kv_tile` tokens of one
    /// that begins alike.
    pub fn set_prefix_reuse(&mut self, on: bool) {
        self.policy.reuse = on;
    }

    /// What became of prefix lookups, and the pages of the pool.
    pub fn prefix_stats(&self) -> PrefixStats {
        self.prefixes.stats()
    }

    /// The engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The engine, to change what does not change its limits.
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// What the engine can do.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Scores a request.
    pub fn score(&mut self, request: &ScoreRequest) -> Result<ScoreResponse, ScoreError> {
        self.score_with(request, |_| ())
    }

    /// Scores a request and reports after every pass. Requests that were submitted before get their turns too, and
    /// their results from the next [`run_pass`](Self::run_pass).
    pub fn score_with(
        &mut self,
        request: &ScoreRequest,
        mut on_pass: impl FnMut(Progress),
    ) -> Result<ScoreResponse, ScoreError> {
        let ticket = self.submit(request.clone())?;
        let mut others = Vec::new();
        let mut last = 0;
        loop {
            let mut progress = None;
            let finished = self.pass(|job| {
                if job.ticket == ticket {
                    progress = Some(job.progress());
                }
            });
            if let Some(progress) = progress.filter(|progress| progress.passes_done > last) {
                last = progress.passes_done;
                on_pass(progress);
            }
            for finished in finished {
                if finished.ticket == ticket {
                    self.finished = others;
                    return finished.result;
                }
                others.push(finished);
            }
        }
    }

    /// Takes a request; [`run_pass`](Self::run_pass) returns its result under the ticket.
    ///
    /// # Errors
    /// The request is not valid for this engine. Nothing was taken.
    pub fn submit(&mut self, request: ScoreRequest) -> Result<Ticket, ScoreError> {
        validate(&request, &self.limits)?;
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        tracing::debug!(request = ticket.0, items = request.items.len(), "submitted");
        self.jobs.push_back(Job::new(ticket, request));
        Ok(ticket)
    }

    /// Forgets a request: it takes no part in further passes and gets no result. Whether there was one.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(at) = self.jobs.iter().position(|job| job.ticket == ticket) else { return false };
        self.jobs.remove(at);
        tracing::debug!(request = ticket.0, "cancelled");
        true
    }

    /// Requests that have no result yet.
    pub fn pending(&self) -> usize {
        self.jobs.len()
    }

    /// Runs one forward pass over parts of the pending requests, and returns those that are finished with it.
    ///
    /// A failure of the engine is the result of every request that has begun: its pages may be lost. The others are
    /// not affected. Where values are no numbers, their requests run again alone and in parts, until it is known whose they
    /// are; see [Isolation](super#isolation).
    pub fn run_pass(&mut self) -> Vec<Finished> {
        self.pass(|_| ())
    }

    fn pass(&mut self, mut on_part: impl FnMut(&Job)) -> Vec<Finished> {
        let mut finished = std::mem::take(&mut self.finished);
        let chosen = self.choose(&mut finished);
        if chosen.is_empty() {
            return finished;
        }
        let parts: Vec<Part<'_>> = chosen
            .iter()
            .filter_map(|&at| {
                let job = &self.jobs[at];
                Some(Part { request: &job.request, step: job.step()?, pages: job.pages() })
            })
            .collect();
        let tokens: usize = parts.iter().map(|part| part.step.tokens).sum();
        let tickets = || chosen.iter().map(|&at| self.jobs[at].ticket.0).collect::<Vec<_>>();
        let span = tracing::debug_span!("pass", requests = ?tickets(), tokens).entered();
        let planned = tracing::debug_span!("plan").in_scope(|| Pass::new(&mut self.planner, &parts));
        let outcome = planned.and_then(|pass| {
            let run = tracing::debug_span!("run", bucket = pass.plan().bucket().tokens).entered();
            let values = self.engine.run(&pass).map_err(|e| ScoreError::Engine(Arc::new(e)))?;
            drop(run);
            let expected = pass.rows().len() * pass.labels().len();
            if values.len() != expected {
                return Err(ScoreError::ResultCount { found: values.len(), expected });
            }
            Ok((pass, values))
        });
        let mut done = HashSet::new();
        match outcome {
            Ok((pass, values)) => {
                let results: Vec<_> = pass.parts().iter().map(|part| collect(part, &values, &pass)).collect();
                let is_finite = |(_, logprobs): &(usize, Vec<f32>)| logprobs.iter().all(|x| x.is_finite());
                let spoiled = !results.iter().flatten().all(is_finite);
                for (&at, results) in chosen.iter().zip(results) {
                    let job = &mut self.jobs[at];
                    job.end_step(results, spoiled);
                    on_part(job);
                    if job.is_done() {
                        done.insert(job.ticket);
                        finished.push(Finished { ticket: job.ticket, result: job.result() });
                    }
                }
                if spoiled {
                    // Queries that were found in pages may hold it, and nobody has looked at those that are kept there.
                    self.prefixes.forget();
                }
            }
            Err(error) => {
                let lost = matches!(error, ScoreError::Engine(_));
                for (at, job) in self.jobs.iter().enumerate() {
                    if chosen.contains(&at) || (lost && job.has_begun()) {
                        done.insert(job.ticket);
                        finished.push(Finished { ticket: job.ticket, result: Err(error.clone()) });
                    }
                }
                if lost {
                    self.prefixes.clear();
                }
            }
        }
        drop(span);
        // Who took part goes behind who waited.
        let served: HashSet<Ticket> = chosen.iter().map(|&at| self.jobs[at].ticket).collect();
        let (mut waiting, mut again) = (VecDeque::new(), VecDeque::new());
        for job in std::mem::take(&mut self.jobs) {
            if done.contains(&job.ticket) {
                let passes = job.progress().passes_done;
                tracing::debug!(request = job.ticket.0, passes, "finished");
            } else if served.contains(&job.ticket) {
                again.push_back(job);
            } else {
                waiting.push_back(job);
            }
        }
        waiting.append(&mut again);
        self.jobs = waiting;
        finished
    }

    /// Jobs of the next pass, in order. Those that cannot be cut into passes are finished at once.
    fn choose(&mut self, finished: &mut Vec<Finished>) -> Vec<usize> {
        let budget = self.policy.budget.min(self.limits.pass_tokens);
        let mut chosen: Vec<usize> = Vec::new();
        let mut tokens = 0;
        let mut labels: HashSet<i32> = HashSet::new();
        let mut no_pages = false;
        let mut at = 0;
        while at < self.jobs.len() && (chosen.is_empty() || tokens < budget) {
            // Pages are taken in turn, and a query that this pass writes is read in the next.
            if !self.jobs[at].has_begun() && (no_pages || self.repeats_query(at, &chosen)) {
                at += 1;
                continue;
            }
            if self.jobs[at].is_alone() && !chosen.is_empty() {
                at += 1;
                continue;
            }
            let job = &mut self.jobs[at];
            let wanted = &job.request.label_token_ids;
            let fresh = wanted.iter().filter(|id| !labels.contains(id)).count();
            let first = chosen.is_empty();
            let room = |more: usize| {
                first || (tokens + more <= budget && labels.len() + fresh <= self.limits.max_labels)
            };
            match job.begin(&self.limits, &self.policy, &mut self.prefixes, room) {
                Ok(Start::Begun) => {}
                Ok(wait) => {
                    no_pages |= wait == Start::NoPages;
                    at += 1;
                    continue;
                }
                Err(error) => {
                    tracing::debug!(request = job.ticket.0, %error, "finished");
                    finished.push(Finished { ticket: job.ticket, result: Err(error) });
                    self.jobs.remove(at);
                    continue;
                }
            }
            let more = job.step().map_or(0, |step| step.tokens);
            if room(more) {
                tokens += more;
                labels.extend(&job.request.label_token_ids);
                chosen.push(at);
            }
            if chosen.last().is_some_and(|&last| self.jobs[last].is_alone()) {
                break;
            }
            at += 1;
        }
        chosen
    }

    fn repeats_query(&self, at: usize, chosen: &[usize]) -> bool {
        let job = &self.jobs[at];
        self.policy.reuse
            && job.shares_query()
            && chosen.iter().any(|&other| {
                let other = &self.jobs[other];
                other.step().is_some_and(|step| step.keep) && other.request.query == job.request.query
            })
    }
}

/// The log-probs of a part's items, out of a pass's result.
fn collect(part: &PartResult, values: &[f32], pass: &Pass) -> Vec<(usize, Vec<f32>)> {
    let stride = pass.labels().len();
    let of_row = |row: usize| part.labels.iter().map(|&label| values[row * stride + label]).collect();
    part.targets.iter().map(|&(item, row)| (item, of_row(row))).collect()
}
