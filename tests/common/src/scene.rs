use std::ops::Range;

use ndarray::{Array3, s};
use tpu_rpa::spec::AttentionSpec;

use super::{Batch, Element, GroupShape, Random, Tensors, normal};

/// A query and items on it, whose rows depend on nothing but the seed, their id and their length: what batches that
/// must not matter are put around.
pub struct Scene {
    pub spec: AttentionSpec,
    /// Tokens of the query.
    pub query: usize,
    pub seed: u64,
}

/// Where a scene's query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryIn {
    Pass,
    Pages,
}

impl Scene {
    /// A batch of items, each an id and a length.
    pub fn batch(&self, items: &[(u64, usize)], query: QueryIn) -> Batch {
        let lens: Vec<usize> = items.iter().map(|i| i.1).collect();
        let shape = match query {
            QueryIn::Pages => GroupShape { prefix_len: self.query, lead: false, segments: lens },
            QueryIn::Pass => {
                GroupShape { prefix_len: 0, lead: true, segments: [&[self.query], &lens[..]].concat() }
            }
        };
        Batch::new(self.spec.page_size(), &[shape], self.seed)
    }

    /// Tensors of that batch, and the rows of each item.
    pub fn tensors<E: Element>(
        &self,
        batch: &Batch,
        items: &[(u64, usize)],
        query: QueryIn,
        rows: usize,
    ) -> (Tensors<E>, Vec<Range<usize>>) {
        let mut tensors = Tensors::<E>::random(&self.spec, batch, rows, 0);
        let mut at = 0;
        match query {
            QueryIn::Pages => {
                let page_size = self.spec.page_size();
                let [_, k, v] = self.rows(0, self.query, &tensors);
                for token in 0..self.query {
                    let page = batch.groups[0].pages[token / page_size] as usize;
                    for (which, rows) in [(0, &k), (1, &v)] {
                        let row = rows.slice(s![token, .., ..]);
                        tensors.kv_pages.slice_mut(s![page, which, .., token % page_size, ..]).assign(&row);
                    }
                }
            }
            QueryIn::Pass => {
                self.fill(&mut tensors, 0..self.query, 0);
                at = self.query;
            }
        }
        let mut places = Vec::new();
        for &(id, len) in items {
            self.fill(&mut tensors, at..at + len, id + 1);
            places.push(at..at + len);
            at += len;
        }
        (tensors, places)
    }

    fn fill<E: Element>(&self, tensors: &mut Tensors<E>, at: Range<usize>, id: u64) {
        let rows = self.rows(id, at.len(), tensors);
        for (t, rows) in [&mut tensors.q, &mut tensors.k, &mut tensors.v].into_iter().zip(&rows) {
            t.slice_mut(s![at.clone(), .., ..]).assign(rows);
        }
    }

    /// Rows of q, k and v.
    fn rows<E: Element>(&self, id: u64, len: usize, like: &Tensors<E>) -> [Array3<E>; 3] {
        let mut random = Random::new(self.seed ^ id.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        [&like.q, &like.k, &like.v].map(|t| normal((len, t.shape()[1], t.shape()[2]), &mut random))
    }
}
