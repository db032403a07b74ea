use std::sync::Arc;

use super::NonFinite;
use crate::batch::BatchError;
use crate::prefix_cache::PrefixError;

/// Why a request was refused or failed. [`code`](Self::code) and [`param`](Self::param) are for machines.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// `items` is empty.
    #[error("items is empty; a request has at least one item")]
    NoItems,
    /// `label_token_ids` is empty.
    #[error("label_token_ids is empty; a request has at least one label")]
    NoLabels,
    /// More items than the engine takes.
    #[error("items has {found} entries; at most {limit} are allowed")]
    TooManyItems {
        /// Items of the request.
        found: usize,
        /// The engine's limit.
        limit: usize,
    },
    /// More labels than the engine takes.
    #[error("label_token_ids has {found} entries; at most {limit} are allowed")]
    TooManyLabels {
        /// Labels of the request.
        found: usize,
        /// The engine's limit.
        limit: usize,
    },
    /// More tokens to compute than the engine takes: the query (once an item, when items come first) and all items.
    #[error("the request has {found} tokens to compute; at most {limit} are allowed")]
    TooManyTokens {
        /// Tokens to compute.
        found: usize,
        /// The engine's limit.
        limit: usize,
    },
    /// Query and item are both empty: there is no token to score after.
    #[error("items[{item}] is empty and so is query; a prompt has at least one token")]
    EmptyPrompt {
        /// Index of the item.
        item: usize,
    },
    /// A token id is negative or not below the vocabulary size.
    #[error("{field}[{index}] is {value}; it must be in 0..{vocabulary}")]
    TokenOutOfRange {
        /// `query`, `items[i]` or `label_token_ids`.
        field: String,
        /// Index within the field.
        index: usize,
        /// The id.
        value: i64,
        /// Vocabulary size.
        vocabulary: usize,
    },
    /// Query and item together are longer than the model's context.
    #[error("query and items[{item}] have {found} tokens together; the context holds {context}")]
    ContextLength {
        /// Index of the item.
        item: usize,
        /// Tokens of the prompt.
        found: usize,
        /// The model's context.
        context: usize,
    },
    /// An item has more tokens than the engine computes in one pass. An item cannot be cut.
    #[error("items[{item}] needs {found} tokens in one pass; the engine takes {limit}")]
    ItemTooLong {
        /// Index of the item.
        item: usize,
        /// Tokens that have to be in one pass.
        found: usize,
        /// Tokens that a pass may have.
        limit: usize,
    },
    /// The request takes several passes and the query does not fit the KV pages that carry it between them.
    #[error("query has {found} tokens; {capacity} fit the KV pages that carry it from pass to pass")]
    QueryTooLong {
        /// Tokens of the query.
        found: usize,
        /// Tokens that the pool holds.
        capacity: usize,
    },
    /// An engine's limits are none that requests can be scored with.
    #[error("limits.{field} is {value}; it must be {bound}")]
    Limit {
        /// The limit.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The bound.
        bound: String,
    },
    /// The pool of an engine's limits is none.
    #[error(transparent)]
    Pool(#[from] PrefixError),
    /// The planner refused a pass.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The engine failed in a pass that the request had a part in.
    #[error("the engine failed: {0}")]
    Engine(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The engine returned another number of values than rows times labels.
    #[error("the engine returned {found} log-probs; the pass has {expected}")]
    ResultCount {
        /// Values returned.
        found: usize,
        /// Values expected.
        expected: usize,
    },
    /// The model gives some of the items a log-prob that is infinite or no number.
    #[error("{0}")]
    NonFinite(Box<NonFinite>),
}

impl ScoreError {
    /// A stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            ScoreError::NoItems => "no_items",
            ScoreError::NoLabels => "no_labels",
            ScoreError::TooManyItems { .. } => "too_many_items",
            ScoreError::TooManyLabels { .. } => "too_many_labels",
            ScoreError::TooManyTokens { .. } => "too_many_tokens",
            ScoreError::EmptyPrompt { .. } => "empty_prompt",
            ScoreError::TokenOutOfRange { .. } => "token_id_out_of_range",
            ScoreError::ContextLength { .. } => "context_length_exceeded",
            ScoreError::ItemTooLong { .. } => "item_too_long",
            ScoreError::QueryTooLong { .. } => "query_too_long",
            ScoreError::Limit { .. } | ScoreError::Pool(_) => "engine_limits",
            ScoreError::Batch(_) => "batch_error",
            ScoreError::Engine(_) => "engine_error",
            ScoreError::ResultCount { .. } | ScoreError::NonFinite(_) => "engine_result",
        }
    }

    /// The request field at fault, `items[3]` or `query[17]` for one; `None` where the request is not at fault.
    pub fn param(&self) -> Option<String> {
        match self {
            ScoreError::NoItems | ScoreError::TooManyItems { .. } | ScoreError::TooManyTokens { .. } => {
                Some("items".into())
            }
            ScoreError::NoLabels | ScoreError::TooManyLabels { .. } => Some("label_token_ids".into()),
            ScoreError::EmptyPrompt { item }
            | ScoreError::ContextLength { item, .. }
            | ScoreError::ItemTooLong { item, .. } => Some(format!("items[{item}]")),
            ScoreError::TokenOutOfRange { field, index, .. } => Some(format!("{field}[{index}]")),
            ScoreError::QueryTooLong { .. } => Some("query".into()),
            ScoreError::Limit { .. }
            | ScoreError::Pool(_)
            | ScoreError::Batch(_)
            | ScoreError::Engine(_)
            | ScoreError::ResultCount { .. }
            | ScoreError::NonFinite(_) => None,
        }
    }

    /// Whether the request is at fault; otherwise the engine is.
    pub fn is_invalid_request(&self) -> bool {
        self.param().is_some()
    }
}
