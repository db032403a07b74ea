use super::BatchError;

/// What a planner holds plans against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub page_size: usize,
    pub pool_pages: usize,
    /// Keys that a row may look back on.
    pub sliding_window: Option<u32>,
    pub max_meta_words: usize,
}

impl Limits {
    pub(super) fn check_words(&self, words: usize) -> Result<(), BatchError> {
        let max_words = self.max_meta_words;
        if words > max_words { Err(BatchError::TooMuchMetadata { words, max_words }) } else { Ok(()) }
    }
}
