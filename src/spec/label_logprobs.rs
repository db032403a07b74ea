use super::DType;
use super::error::{SpecError, float, index_sized};

/// How labels are given to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelSet {
    /// One list for all rows: `labels [n]`.
    Shared(usize),
    /// A list a row: `labels [rows, n]`.
    PerRow(usize),
}

impl LabelSet {
    /// Labels a row is scored for.
    pub const fn len(self) -> usize {
        match self {
            LabelSet::Shared(n) | LabelSet::PerRow(n) => n,
        }
    }
    /// Whether there is no label; a built spec never is.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Static shape of label log-probs: `hidden [T, hidden]`, `lm_head [vocab, hidden]`, both of `dtype`,
/// rows to score picked by index, result `[rows, labels]` in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelLogprobsSpec {
    hidden: usize,
    vocab: usize,
    labels: LabelSet,
    dtype: DType,
}

impl LabelLogprobsSpec {
    /// Checks every field.
    pub fn new(hidden: usize, vocab: usize, labels: LabelSet, dtype: DType) -> Result<Self, SpecError> {
        index_sized("labels", labels.len())?;
        Ok(LabelLogprobsSpec {
            hidden: index_sized("hidden", hidden)?,
            vocab: index_sized("vocab", vocab)?,
            labels,
            dtype: float("dtype", dtype)?,
        })
    }

    /// Elements of a hidden row.
    pub fn hidden(&self) -> usize {
        self.hidden
    }
    /// Rows of the LM head.
    pub fn vocab(&self) -> usize {
        self.vocab
    }
    /// How labels are given.
    pub fn labels(&self) -> LabelSet {
        self.labels
    }
    /// Element type of hidden rows and LM head.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}
