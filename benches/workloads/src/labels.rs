use serde::{Deserialize, Serialize};
use tpu_rpa::batch::Planner;
use tpu_rpa::spec::{DType, LabelLogprobsSpec, LabelSet};

use crate::Problem;

/// Label log-probs of `rows` of `tokens` hidden rows, all with the same labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// What it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Elements of a hidden row.
    pub hidden: usize,
    /// Rows of the LM head.
    pub vocab: usize,
    /// Labels.
    pub labels: usize,
    /// Rows to score.
    pub rows: usize,
    /// Hidden rows.
    pub tokens: usize,
    /// f32 or bf16.
    pub dtype: DType,
}

impl Labels {
    /// Most labels that a document may ask for.
    pub const MAX_LABELS: usize = 4096;

    /// What the kernel is made from.
    ///
    /// # Errors
    /// Names the field, the value and the bound.
    pub fn spec(&self) -> Result<LabelLogprobsSpec, Problem> {
        let labels = LabelSet::Shared(self.labels);
        Ok(LabelLogprobsSpec::new(self.hidden, self.vocab, labels, self.dtype)?)
    }

    /// Token ids far from each other; which ones decides next to nothing.
    pub fn ids(&self) -> Vec<i32> {
        (0..self.labels).map(|i| ((2152 + 7302 * i) % self.vocab) as i32).collect()
    }

    pub(crate) fn check(&self) -> Result<(), Problem> {
        self.spec()?;
        let most = [
            ("labels", self.labels, self.vocab.min(Self::MAX_LABELS), "vocab and 4096"),
            ("tokens", self.tokens, Planner::MAX_TOKENS, "16777216"),
            ("rows", self.rows, self.tokens, "tokens"),
        ];
        for (field, value, most, named) in most {
            if value == 0 || value > most {
                return Err(Problem::value(field, value, format!("from 1 to {named}")));
            }
        }
        Ok(())
    }
}
