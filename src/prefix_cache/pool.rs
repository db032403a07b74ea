use std::ops::Range;

use super::tree::{ROOT, Tree};

/// The pages of a cache and what they hold.
#[derive(Debug)]
pub(super) struct Pool {
    page_size: usize,
    pages: i32,
    /// Pages that hold nothing any more.
    free: Vec<i32>,
    /// Pages that nobody has had.
    fresh: Range<i32>,
    tree: Tree,
    generation: u64,
    /// Of lookups and evictions; what it says of pages is filled in when asked for.
    stats: PrefixStats,
}

/// Counts since the cache was made, and the pages as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixStats {
    /// Calls of [`PrefixCache::acquire`](super::PrefixCache::acquire) that got their pages.
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

/// What a hold has of its cache.
#[derive(Debug)]
pub(super) struct Held {
    pub tokens: Box<[i32]>,
    /// Page ids in token order.
    pub pages: Vec<i32>,
    /// Tokens whose keys and values were there.
    pub found: usize,
    /// Nodes of the index that it counts in.
    nodes: Vec<usize>,
    /// Pages that no other sequence knows of.
    own: Vec<i32>,
    /// State of the pool that the ids belong to.
    generation: u64,
}

impl Pool {
    pub(super) fn new(pages: i32, page_size: usize) -> Self {
        Pool {
            page_size,
            pages,
            free: Vec::new(),
            fresh: 0..pages,
            tree: Tree::new(page_size),
            generation: 0,
            stats: PrefixStats::default(),
        }
    }

    pub(super) fn find(&self, tokens: &[i32]) -> usize {
        self.tree.find(tokens).1
    }

    fn free_pages(&self) -> usize {
        self.free.len() + self.fresh.len()
    }

    pub(super) fn acquire(&mut self, tokens: &[i32], reuse: usize) -> Option<Held> {
        let (mut nodes, found) = self.tree.find(tokens);
        let mut reuse = reuse.min(found);
        if reuse < tokens.len() {
            reuse = reuse / self.page_size * self.page_size;
        }
        nodes.truncate(reuse.div_ceil(self.page_size));
        let needed = tokens.len().div_ceil(self.page_size) - nodes.len();
        for &node in &nodes {
            self.tree.hold(node);
        }
        if self.free_pages() + self.tree.len() - self.tree.held() < needed {
            nodes.iter().for_each(|&node| self.tree.let_go(node));
            return None;
        }
        while self.free_pages() < needed {
            let Some(page) = self.tree.evict() else { break };
            self.free.push(page);
            self.stats.evictions += 1;
        }
        let mut own = self.free.split_off(self.free.len().saturating_sub(needed));
        own.extend(self.fresh.by_ref().take(needed - own.len()));
        let pages = nodes.iter().map(|&node| self.tree.page(node)).chain(own.iter().copied()).collect();
        self.stats.lookups += 1;
        self.stats.hits += u64::from(reuse > 0);
        self.stats.looked_up_tokens += tokens.len() as u64;
        self.stats.hit_tokens += reuse as u64;
        Some(Held { tokens: tokens.into(), pages, found: reuse, nodes, own, generation: self.generation })
    }

    pub(super) fn commit(&mut self, hold: &mut Held) {
        let held = hold.nodes.len();
        if hold.generation != self.generation || held == hold.pages.len() {
            return;
        }
        let mut at = hold.nodes.last().copied().unwrap_or(ROOT);
        hold.own.clear();
        for (chunk, &page) in hold.tokens.chunks(self.page_size).zip(&hold.pages).skip(held) {
            at = match self.tree.child(at, chunk) {
                Some(child) => {
                    self.tree.hold(child);
                    hold.own.push(page);
                    child
                }
                None => self.tree.insert(at, chunk, page),
            };
            hold.nodes.push(at);
        }
    }

    pub(super) fn release(&mut self, hold: &mut Held) {
        if hold.generation == self.generation {
            // Leaves first, so that among equals the end of a sequence is evicted before its beginning.
            hold.nodes.drain(..).rev().for_each(|node| self.tree.let_go(node));
            self.free.append(&mut hold.own);
        }
    }

    pub(super) fn forget(&mut self) {
        while let Some(page) = self.tree.evict() {
            self.free.push(page);
        }
    }

    pub(super) fn clear(&mut self) {
        self.generation += 1;
        self.tree = Tree::new(self.page_size);
        self.free.clear();
        self.fresh = 0..self.pages;
    }

    pub(super) fn stats(&self) -> PrefixStats {
        PrefixStats {
            pages: self.pages as usize,
            free_pages: self.free_pages(),
            indexed_pages: self.tree.len(),
            ..self.stats
        }
    }
}
