/// Pages of one token sequence, kept until [`release`](super::PrefixCache::release): first those that were found
/// written, then new ones for the rest.
#[derive(Debug)]
#[must_use = "pages stay held until the hold is released"]
pub struct Hold {
    /// Page ids in token order.
    pub(super) pages: Vec<i32>,
    /// Tokens whose keys and values were there.
    pub(super) found: usize,
    /// Nodes of the index that this hold counts in.
    pub(super) nodes: Vec<usize>,
    /// Pages that no other sequence knows of.
    pub(super) own: Vec<i32>,
    /// State of the cache that the ids belong to.
    pub(super) generation: u64,
}

impl Hold {
    /// Page ids in token order: page `i` is for tokens `i * page_size..`.
    pub fn pages(&self) -> &[i32] {
        &self.pages
    }

    /// Tokens at the start of the sequence whose keys and values are in the pages already. The rest is to be written.
    pub fn found(&self) -> usize {
        self.found
    }
}
