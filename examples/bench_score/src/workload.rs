use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use tpu_rpa::score::ScoreRequest;

/// What is sent, and how fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) query_tokens: usize,
    pub(crate) items: usize,
    pub(crate) item_tokens: usize,
    pub(crate) labels: usize,
    pub(crate) concurrency: usize,
    /// Requests a second; none: the next is sent when one is answered.
    pub(crate) rps: Option<f64>,
    pub(crate) poisson: bool,
    pub(crate) same_query: bool,
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) seed: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Workload {
            name: "custom".into(),
            query_tokens: 500,
            items: 64,
            item_tokens: 20,
            labels: 2,
            concurrency: 1,
            rps: None,
            poisson: false,
            same_query: false,
            duration: Duration::from_secs(30),
            warm_up: Duration::from_secs(10),
            seed: 1,
        }
    }
}

impl Workload {
    pub(crate) fn smoke() -> Vec<Workload> {
        let base = Workload {
            query_tokens: 64,
            items: 8,
            item_tokens: 8,
            duration: Duration::from_secs(5),
            warm_up: Duration::from_secs(4),
            ..Workload::default()
        };
        let name = |name: &str| name.to_owned();
        vec![
            Workload { name: name("new-query"), ..base.clone() },
            Workload { name: name("same-query"), same_query: true, concurrency: 2, ..base },
        ]
    }

    pub(crate) fn standard() -> Vec<Workload> {
        let base = Workload {
            duration: Duration::from_secs(15),
            warm_up: Duration::from_secs(5),
            ..Workload::default()
        };
        let name = |name: &str| name.to_owned();
        vec![
            Workload { name: name("new-query"), ..base.clone() },
            Workload { name: name("same-query"), same_query: true, ..base.clone() },
            Workload { name: name("new-query-4"), items: 16, concurrency: 4, ..base.clone() },
            Workload { name: name("small-16"), query_tokens: 50, items: 8, concurrency: 16, ..base },
        ]
    }

    pub(crate) fn full() -> Vec<Workload> {
        let mut cases = Workload::standard();
        let base = Workload {
            duration: Duration::from_secs(30),
            warm_up: Duration::from_secs(5),
            ..Workload::default()
        };
        let name = |name: &str| name.to_owned();
        cases.extend([
            Workload { name: name("large"), query_tokens: 2000, items: 100, ..base.clone() },
            Workload { name: name("many-items"), query_tokens: 2000, items: 500, ..base.clone() },
            Workload { name: name("many-labels"), labels: 100, ..base.clone() },
            Workload {
                name: name("poisson"),
                query_tokens: 50,
                items: 8,
                rps: Some(1.0),
                poisson: true,
                concurrency: 64,
                ..base
            },
        ]);
        cases
    }

    /// Tokens of a request: the query counts once.
    pub(crate) fn tokens(&self) -> usize {
        self.query_tokens + self.items * self.item_tokens
    }

    /// Request number `n`; a warm-up draws others than what is measured.
    pub(crate) fn request(&self, warm_up: bool, n: u64) -> ScoreRequest {
        // Ids that any vocabulary of a real model has and that are words, not control tokens.
        let ids = |rng: &mut StdRng, count: usize| -> Vec<i32> {
            (0..count).map(|_| rng.random_range(1000..30_000)).collect()
        };
        let rng = &mut StdRng::seed_from_u64(self.seed ^ (n << 1 | u64::from(warm_up)) << 20);
        let query = if self.same_query {
            ids(&mut StdRng::seed_from_u64(self.seed), self.query_tokens)
        } else {
            ids(rng, self.query_tokens)
        };
        ScoreRequest {
            query,
            items: (0..self.items).map(|_| ids(rng, self.item_tokens)).collect(),
            label_token_ids: ids(rng, self.labels),
            apply_softmax: true,
            item_first: false,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.same_query { "the same query" } else { "new queries" };
        write!(
            f,
            "{query} of {} tokens, {} items of {}, {} labels, ",
            self.query_tokens, self.items, self.item_tokens, self.labels
        )?;
        match self.rps {
            None => write!(f, "{} at a time", self.concurrency)?,
            Some(rps) if self.poisson => write!(f, "{rps} a second at random")?,
            Some(rps) => write!(f, "{rps} a second")?,
        }
        write!(f, ", {} s after {} s", self.duration.as_secs_f64(), self.warm_up.as_secs_f64())
    }
}
