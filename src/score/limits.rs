use super::ScoreError;
use crate::batch::{Planner, Tiling};

/// What an engine can do. Fixed for its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Token ids are below it; at least 1.
    pub vocabulary: usize,
    /// Tokens of the longest prompt; at least 1, and with `pass_tokens` at most 2147483647, for positions are `i32`.
    pub context: usize,
    /// New tokens of the largest pass: at least `kv_tile` of the tiling, which longer queries are cut at, or the context where
    /// that is less; at most [`Planner::MAX_TOKENS`].
    pub pass_tokens: usize,
    /// Tokens of the largest request, counted as packed passes compute them; at least 1.
    pub max_request_tokens: usize,
    /// Items of the largest request; at least 1.
    pub max_items: usize,
    /// Labels of the largest request; at least 1.
    pub max_labels: usize,
    /// Tokens of one KV page.
    pub page_size: usize,
    /// Pages of the pool; queries are kept there between passes.
    pub pool_pages: usize,
    /// Block sizes of the attention kernel.
    pub tiling: Tiling,
    /// Sliding window of the attention kernel; plans are made for it.
    pub sliding_window: Option<u32>,
}

impl Limits {
    /// Refuses limits with which no request is valid, or a valid one is no batch. A planner checks pool and tiling.
    pub(super) fn check(&self) -> Result<(), ScoreError> {
        let refuse = |field, value, bound| Err(ScoreError::Limit { field, value, bound });
        for (field, value) in [
            ("vocabulary", self.vocabulary),
            ("context", self.context),
            ("max_request_tokens", self.max_request_tokens),
            ("max_items", self.max_items),
            ("max_labels", self.max_labels),
        ] {
            if value == 0 {
                return refuse(field, value, "at least 1".to_owned());
            }
        }
        let (tokens, least) = (self.pass_tokens, self.tiling.kv_tile().min(self.context));
        if tokens < least {
            return refuse(
                "pass_tokens",
                tokens,
                format!("at least {least}, the tiling's kv_tile or the context"),
            );
        }
        if tokens > Planner::MAX_TOKENS {
            return refuse("pass_tokens", tokens, format!("at most {}", Planner::MAX_TOKENS));
        }
        let most = i32::MAX as usize - tokens;
        if self.context > most {
            return refuse("context", self.context, format!("at most {most}, 2147483647 less pass_tokens"));
        }
        Ok(())
    }
}
