use crate::batch::Tiling;

/// What an engine can do. Fixed for its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Token ids are below it.
    pub vocabulary: usize,
    /// Tokens of the longest prompt.
    pub context: usize,
    /// New tokens of the largest pass.
    pub pass_tokens: usize,
    /// Tokens of the largest request, counted as packed passes compute them.
    pub max_request_tokens: usize,
    /// Items of the largest request.
    pub max_items: usize,
    /// Labels of the largest request.
    pub max_labels: usize,
    /// Tokens of one KV page.
    pub page_size: usize,
    /// Pages of the pool; queries are kept there between passes.
    pub pool_pages: usize,
    /// Block sizes of the attention kernel.
    pub tiling: Tiling,
}
