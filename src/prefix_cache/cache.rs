use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pool::Pool;
use super::{Hold, PrefixError, PrefixStats};

/// A pool of KV pages and what they hold. See the [module](crate::prefix_cache) for the life of a page.
///
/// Its [`Hold`]s share it: what one commits or gives back is never another cache's.
#[derive(Debug)]
pub struct PrefixCache {
    pool: Arc<Mutex<Pool>>,
}

impl PrefixCache {
    /// An empty pool of `pages` pages of `page_size` tokens, with ids `0..pages`.
    ///
    /// # Errors
    /// `page_size` is 0, or the pages have more than 2147483647 tokens together: slots in them are `i32`.
    pub fn new(pages: usize, page_size: usize) -> Result<Self, PrefixError> {
        if page_size == 0 {
            return Err(PrefixError { field: "page_size", value: 0, bound: "at least 1" });
        }
        let bound = "such that pages times page_size is at most 2147483647";
        let refused = PrefixError { field: "pages", value: pages, bound };
        let slots = pages.checked_mul(page_size).filter(|&slots| i32::try_from(slots).is_ok());
        let pages = slots.and_then(|_| i32::try_from(pages).ok()).ok_or(refused)?;
        Ok(PrefixCache { pool: Arc::new(Mutex::new(Pool::new(pages, page_size))) })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tokens at the start of `tokens` are in pages: a multiple of the page size, or all of them.
    pub fn find(&self, tokens: &[i32]) -> usize {
        self.pool().find(tokens)
    }

    /// Holds pages for all of `tokens`, of which the first `reuse` are read where they are: a number that
    /// [`find`](Self::find) allows, rounded down to whole pages unless it is all of them. Unheld pages are evicted
    /// where there are not enough free ones; `None`, and nothing changed, where that is not enough.
    pub fn acquire(&mut self, tokens: &[i32], reuse: usize) -> Option<Hold> {
        let held = self.pool().acquire(tokens, reuse)?;
        Some(Hold { pool: Arc::clone(&self.pool), held })
    }

    /// Forgets everything, as after a device failure that lost the pages. Pages of holds that are still out are free
    /// too: what they hold must not be read.
    pub fn clear(&mut self) {
        self.pool().clear();
    }

    /// Forgets the sequences that nobody holds, as where what is in their pages is in doubt: the pages are free then. Those
    /// of holds stay as they are.
    pub fn forget(&mut self) {
        self.pool().forget();
    }

    /// Counts.
    pub fn stats(&self) -> PrefixStats {
        self.pool().stats()
    }
}
