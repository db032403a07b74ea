/// What to score, on token ids. Ids are signed so that a caller's negative id is reported, not wrapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScoreRequest {
    /// Tokens that every prompt shares; may be empty if no item is.
    pub query: Vec<i32>,
    /// One prompt each, joined with the query as they are: nothing is added between or around.
    pub items: Vec<Vec<i32>>,
    /// Tokens whose probability right after the prompt is asked for. Repeated ids are scored repeatedly.
    pub label_token_ids: Vec<i32>,
    /// Scores are a softmax over the item's labels instead of probabilities over the whole vocabulary.
    pub apply_softmax: bool,
    /// Prompts are item + query instead of query + item. No prefix is shared then.
    pub item_first: bool,
}

/// What a request came to; `[item][label]`, both in the order of the request.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreResponse {
    /// Natural logarithm of each label's probability over the whole vocabulary.
    pub logprobs: Vec<Vec<f32>>,
    /// `exp(logprob)`, or the softmax of the item's log-probs where the request asks for it.
    pub scores: Vec<Vec<f32>>,
    /// Tokens of the request.
    pub usage: Usage,
}

/// Tokens of a request, as given: the query counts once, whatever the algorithm computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Query tokens and all item tokens.
    pub prompt_tokens: usize,
    /// The same number: scoring generates nothing.
    pub total_tokens: usize,
}

impl ScoreRequest {
    pub(super) fn usage(&self) -> Usage {
        let tokens = self.query.len() + self.items.iter().map(Vec::len).sum::<usize>();
        Usage { prompt_tokens: tokens, total_tokens: tokens }
    }
}
