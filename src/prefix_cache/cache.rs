use super::Hold;
use super::tree::{ROOT, Tree};

/// A pool of KV pages and what they hold. See the [module](crate::prefix_cache) for the life of a page.
#[derive(Debug)]
pub struct PrefixCache {
    page_size: usize,
    pages: usize,
    free: Vec<i32>,
    tree: Tree,
    generation: u64,
    lookups: u64,
    hits: u64,
    looked_up_tokens: u64,
    hit_tokens: u64,
    evictions: u64,
}

/// Counts since the cache was made, and the pages as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixStats {
    /// Calls of [`PrefixCache::acquire`] that got their pages.
    pub lookups: u64,
    /// Those of them that reused at least one token.
    pub hits: u64,
    /// Tokens of the sequences of all lookups.
    pub looked_up_tokens: u64,
    /// Tokens that were reused.
    pub hit_tokens: u64,
    /// Pages taken back to make room.
    pub evictions: u64,
    /// Pages of the pool.
    pub pages: usize,
    /// Pages that hold nothing.
    pub free_pages: usize,
    /// Pages that later requests can find.
    pub indexed_pages: usize,
}

impl PrefixCache {
    /// An empty pool of `pages` pages of `page_size` tokens, with ids `0..pages`; `page_size` 0 counts as 1.
    pub fn new(pages: usize, page_size: usize) -> Self {
        let page_size = page_size.max(1);
        PrefixCache {
            page_size,
            pages,
            free: (0..pages as i32).rev().collect(),
            tree: Tree::new(page_size),
            generation: 0,
            lookups: 0,
            hits: 0,
            looked_up_tokens: 0,
            hit_tokens: 0,
            evictions: 0,
        }
    }

    /// How many tokens at the start of `tokens` are in pages: a multiple of the page size, or all of them.
    pub fn find(&self, tokens: &[i32]) -> usize {
        self.tree.find(tokens).1
    }

    /// Holds pages for all of `tokens`, of which the first `reuse` are read where they are: a number that
    /// [`find`](Self::find) allows, rounded down to whole pages unless it is all of them. Unheld pages are evicted
    /// where there are not enough free ones; `None`, and nothing changed, where that is not enough.
    pub fn acquire(&mut self, tokens: &[i32], reuse: usize) -> Option<Hold> {
        let (mut path, found) = self.tree.find(tokens);
        let mut reuse = reuse.min(found);
        if reuse < tokens.len() {
            reuse = reuse / self.page_size * self.page_size;
        }
        path.truncate(reuse.div_ceil(self.page_size));
        let needed = tokens.len().div_ceil(self.page_size) - path.len();
        for &node in &path {
            self.tree.hold(node);
        }
        if self.free.len() + self.tree.len() - self.tree.held() < needed {
            path.iter().for_each(|&node| self.tree.let_go(node));
            return None;
        }
        while self.free.len() < needed {
            let Some(page) = self.tree.evict() else { break };
            self.free.push(page);
            self.evictions += 1;
        }
        let own = self.free.split_off(self.free.len().saturating_sub(needed));
        let pages = path.iter().map(|&node| self.tree.page(node)).chain(own.iter().copied()).collect();
        self.lookups += 1;
        self.hits += u64::from(reuse > 0);
        self.looked_up_tokens += tokens.len() as u64;
        self.hit_tokens += reuse as u64;
        Some(Hold { pages, found: reuse, nodes: path, own, generation: self.generation })
    }

    /// Says that keys and values of all `tokens`, those that `hold` was acquired for, are in its pages now, so that
    /// later requests may find them. Where another request was first, its pages stay the ones that are found.
    pub fn commit(&mut self, hold: &mut Hold, tokens: &[i32]) {
        if hold.generation != self.generation || hold.own.is_empty() {
            return;
        }
        let held = hold.nodes.len();
        let mut at = hold.nodes.last().copied().unwrap_or(ROOT);
        let mut own = Vec::new();
        for (chunk, &page) in tokens.chunks(self.page_size).zip(&hold.pages).skip(held) {
            at = match self.tree.child(at, chunk) {
                Some(child) => {
                    self.tree.hold(child);
                    own.push(page);
                    child
                }
                None => self.tree.insert(at, chunk, page),
            };
            hold.nodes.push(at);
        }
        hold.own = own;
    }

    /// Gives the pages back: those that were committed stay until their room is needed, the others are free.
    pub fn release(&mut self, hold: Hold) {
        if hold.generation == self.generation {
            // Leaves first, so that among equals the end of a sequence is evicted before its beginning.
            hold.nodes.iter().rev().for_each(|&node| self.tree.let_go(node));
            self.free.extend(hold.own);
        }
    }

    /// Forgets everything, as after a device failure that lost the pages. Pages of holds that are still out are free
    /// too: what they hold must not be read.
    pub fn clear(&mut self) {
        self.generation += 1;
        self.tree = Tree::new(self.page_size);
        self.free = (0..self.pages as i32).rev().collect();
    }

    /// Counts.
    pub fn stats(&self) -> PrefixStats {
        PrefixStats {
            lookups: self.lookups,
            hits: self.hits,
            looked_up_tokens: self.looked_up_tokens,
            hit_tokens: self.hit_tokens,
            evictions: self.evictions,
            pages: self.pages,
            free_pages: self.free.len(),
            indexed_pages: self.tree.len(),
        }
    }
}
