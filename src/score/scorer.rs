use super::schedule::schedule;
use super::validate::validate;
use super::{Algorithm, ForwardPass, Limits, Pass, ScoreError, ScoreRequest, ScoreResponse, softmax};
use crate::batch::Planner;

/// Scores requests on an engine.
#[derive(Debug)]
pub struct Scorer<E> {
    engine: E,
    limits: Limits,
    planner: Planner,
    page_ids: Vec<i32>,
    algorithm: Algorithm,
    token_budget: usize,
}

/// How far a request has come, after each of its passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Passes done.
    pub passes_done: usize,
    /// Passes of the request.
    pub passes: usize,
    /// Items scored.
    pub items_done: usize,
    /// Items of the request.
    pub items: usize,
}

impl<E: ForwardPass> Scorer<E> {
    /// A scorer that packs as much into a pass as the engine takes.
    pub fn new(engine: E) -> Result<Self, ScoreError> {
        let limits = engine.limits();
        let planner = Planner::new(limits.page_size, limits.pool_pages, limits.tiling)?
            .with_max_tokens(limits.pass_tokens);
        Ok(Scorer {
            engine,
            limits,
            planner,
            page_ids: (0..limits.pool_pages as i32).collect(),
            algorithm: Algorithm::default(),
            token_budget: limits.pass_tokens,
        })
    }

    /// How items are spread over passes from now on.
    pub fn set_algorithm(&mut self, algorithm: Algorithm) {
        self.algorithm = algorithm;
    }

    /// Tokens that a pass should not exceed from now on: a bound on the memory that a pass needs. An item, and
    /// `kv_tile` tokens of a query, are never cut and may exceed it.
    pub fn set_token_budget(&mut self, tokens: usize) {
        self.token_budget = tokens;
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

    /// Scores a request and reports after every pass.
    pub fn score_with(
        &mut self,
        request: &ScoreRequest,
        mut on_pass: impl FnMut(Progress),
    ) -> Result<ScoreResponse, ScoreError> {
        validate(request, &self.limits)?;
        let steps = schedule(request, &self.limits, self.algorithm, self.token_budget)?;
        let mut logprobs = vec![Vec::new(); request.items.len()];
        let mut items_done = 0;
        for (i, step) in steps.iter().enumerate() {
            let pass = Pass::new(&mut self.planner, request, step, &self.page_ids)?;
            let values = self.engine.run(&pass).map_err(|e| ScoreError::Engine(Box::new(e)))?;
            collect(&pass, &values, request.label_token_ids.len(), &mut logprobs)?;
            items_done += step.items.len();
            on_pass(Progress {
                passes_done: i + 1,
                passes: steps.len(),
                items_done,
                items: request.items.len(),
            });
        }
        let scores = logprobs.iter().map(|l| softmax::scores(l, request.apply_softmax)).collect();
        Ok(ScoreResponse { logprobs, scores, usage: request.usage() })
    }
}

/// Takes the values of real rows and labels out of a pass's result.
fn collect(pass: &Pass, values: &[f32], labels: usize, logprobs: &mut [Vec<f32>]) -> Result<(), ScoreError> {
    let stride = pass.labels().len();
    let expected = pass.rows().len() * stride;
    if values.len() != expected {
        return Err(ScoreError::ResultCount { found: values.len(), expected });
    }
    for &(item, row) in pass.targets() {
        let of_item = &values[row * stride..][..labels];
        if let Some(label) = of_item.iter().position(|v| !v.is_finite()) {
            return Err(ScoreError::NonFinite { item, label, value: of_item[label] });
        }
        logprobs[item] = of_item.to_vec();
    }
    Ok(())
}
