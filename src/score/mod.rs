//! Label scoring: one query, many items, how likely is each label token right after query + item.
//!
//! | I want … | |
//! | --- | --- |
//! | to score with my engine | [`ForwardPass`], [`Scorer::new`], [`Scorer::score`] |
//! | many requests at once | [`Scorer::submit`], [`Scorer::run_pass`], [`Scorer::cancel`] |
//! | queries that stay in KV pages | [`Scorer::set_prefix_reuse`] |
//! | smaller or larger passes | [`Scorer::set_token_budget`], [`Limits`] |
//!
//! [`Scorer`] turns a [`ScoreRequest`] on token ids into as few forward passes as its token budget allows and
//! asks an engine, anything that implements [`ForwardPass`], to run them:
//!
//! ```text
//! query ++ item 0 ++ item 1 ++ …      one group: the query is its lead, every item a segment
//!          └ items that did not fit   later passes: the query is a paged prefix, written by the first pass
//! ```
//!
//! The query is computed once however many items there are. A request of more tokens than the budget is cut
//! between items, and a query of more tokens than the budget at multiples of the attention kernel's `kv_tile`:
//! lead and paged prefix are summed in the same tiles, so cutting does not change how a score is summed.
//!
//! With [`item_first`](ScoreRequest::item_first) a prompt is item + query. Nothing is shared then: the query's
//! keys depend on the item before it, so every prompt is computed whole, at the cost of
//! `Σ (item + query)` tokens instead of `query + Σ item`. The prompts are still packed into common passes.
//!
//! Many requests at once go through [`Scorer::submit`] and [`Scorer::run_pass`]: a pass has a group for each request
//! that takes part. With [`Scorer::set_prefix_reuse`] queries stay in KV pages, by way of a
//! [`PrefixCache`](crate::prefix_cache::PrefixCache), and a repeated one costs only its items.
//!
//! # Isolation
//! What an item's score is, depends on its prompt alone: not on siblings, on other requests or on what lies in pages. A value
//! that is no number is the exception within a pass: 0 times NaN is NaN, so an item that makes the model overflow may take
//! others of its pass with it, and what they write to pages. It never makes a wrong number of them. Where a pass gives such a
//! value, the scorer runs those whom it met again, a request at a time, then halves of its items down to single ones, all from
//! their queries on, and forgets the queries in pages that nobody holds. So the others get the scores that they have alone, and
//! an item that is no number even alone is named by [`ScoreError::NonFinite`]. That takes two passes more for each request of
//! the pass, and about 2 log2(n) for each such item among n.

mod algorithm;
mod error;
mod job;
mod limits;
mod non_finite;
mod pass;
mod request;
mod schedule;
mod scorer;
mod softmax;
mod validate;

pub use algorithm::Algorithm;
pub use error::ScoreError;
pub use job::{Progress, Ticket};
pub use limits::Limits;
pub use non_finite::{NonFinite, NonFiniteItem};
pub use pass::{ForwardPass, Pass};
pub use request::{ScoreRequest, ScoreResponse, Usage};
pub use scorer::{Finished, Scorer};
