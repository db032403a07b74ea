use std::sync::{Arc, Mutex, PoisonError};

use super::pool::{Held, Pool};

/// Pages of one token sequence, kept until it is dropped: first those that were found written, then new ones for the rest.
///
/// Dropped, it gives its pages back: those that were committed stay until their room is needed, the others are free.
#[derive(Debug)]
#[must_use = "pages are given back when the hold is dropped"]
pub struct Hold {
    /// The cache that it is of.
    pub(super) pool: Arc<Mutex<Pool>>,
    pub(super) held: Held,
}

impl Hold {
    /// Page ids in token order: page `i` is for tokens `i * page_size..`.
    pub fn pages(&self) -> &[i32] {
        &self.held.pages
    }

    /// Tokens at the start of the sequence whose keys and values are in the pages already. The rest is to be written.
    pub fn found(&self) -> usize {
        self.held.found
    }

    /// Says that keys and values of all tokens that it was acquired for are in its pages now, so that later requests may find
    /// them. Where another request was first, its pages stay the ones that are found. After
    /// [`PrefixCache::clear`](super::PrefixCache::clear) it says nothing, for the pages may be others' by then.
    pub fn commit(&mut self) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).commit(&mut self.held);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).release(&mut self.held);
    }
}
