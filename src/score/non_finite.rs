use std::fmt;

use super::ScoreResponse;

/// Items that the model answers with a log-prob that is infinite or no number, each found so in a pass that held nothing but
/// its prompt; and what the request's other items came to.
#[derive(Clone, Debug, PartialEq)]
pub struct NonFinite {
    /// The items, in order.
    pub items: Vec<NonFiniteItem>,
    /// The response, in which these items have neither log-probs nor scores.
    pub others: ScoreResponse,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NonFiniteItem {
    /// Index of the item.
    pub item: usize,
    /// Index of its first such label.
    pub label: usize,
    /// The value.
    pub value: f32,
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        for (at, NonFiniteItem { item, label, value }) in self.items.iter().take(SHOWN).enumerate() {
            let before = if at == 0 { "the model's log-prob" } else { "," };
            write!(f, "{before} of items[{item}], label {label}, is {value}")?;
        }
        match self.items.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, ", and so for {more} more of its {} items", self.others.logprobs.len()),
        }
    }
}
