use super::{Limits, ScoreError, ScoreRequest};

/// Checks everything about a request that does not depend on how it is cut into passes.
pub(super) fn validate(request: &ScoreRequest, limits: &Limits) -> Result<(), ScoreError> {
    let (items, labels) = (&request.items, &request.label_token_ids);
    if items.is_empty() {
        return Err(ScoreError::NoItems);
    }
    if labels.is_empty() {
        return Err(ScoreError::NoLabels);
    }
    if items.len() > limits.max_items {
        return Err(ScoreError::TooManyItems { found: items.len(), limit: limits.max_items });
    }
    if labels.len() > limits.max_labels {
        return Err(ScoreError::TooManyLabels { found: labels.len(), limit: limits.max_labels });
    }
    let tokens = computed_tokens(request);
    if tokens > limits.max_request_tokens {
        return Err(ScoreError::TooManyTokens { found: tokens, limit: limits.max_request_tokens });
    }
    ids(|| "query".into(), &request.query, limits.vocabulary)?;
    ids(|| "label_token_ids".into(), labels, limits.vocabulary)?;
    for (i, item) in items.iter().enumerate() {
        ids(|| format!("items[{i}]"), item, limits.vocabulary)?;
        let length = request.query.len() + item.len();
        if length == 0 {
            return Err(ScoreError::EmptyPrompt { item: i });
        }
        if length > limits.context {
            return Err(ScoreError::ContextLength { item: i, found: length, context: limits.context });
        }
    }
    Ok(())
}

/// Tokens that packed passes compute: an item-first query once for every item.
fn computed_tokens(request: &ScoreRequest) -> usize {
    let queries = if request.item_first { request.items.len() } else { 1 };
    let items = request.items.iter().map(Vec::len).fold(0, usize::saturating_add);
    queries.saturating_mul(request.query.len()).saturating_add(items)
}

fn ids(field: impl Fn() -> String, ids: &[i32], vocabulary: usize) -> Result<(), ScoreError> {
    match ids.iter().position(|&id| id < 0 || id as usize >= vocabulary) {
        None => Ok(()),
        Some(index) => Err(ScoreError::TokenOutOfRange {
            field: field(),
            index,
            value: i64::from(ids[index]),
            vocabulary,
        }),
    }
}
