use std::collections::HashMap;

use tpu_rpa::batch::{Group, Planner};

use crate::Attention;

/// Groups with their page tables and offsets.
#[derive(Clone, Debug)]
pub struct Batch {
    pages: Vec<i32>,
    offsets: Vec<i32>,
    groups: Vec<Spans>,
    tokens: usize,
}

#[derive(Clone, Debug)]
struct Spans {
    prefix: usize,
    lead: bool,
    pages: std::ops::Range<usize>,
    offsets: std::ops::Range<usize>,
}

impl Batch {
    /// Of a workload that [`check`](crate::Workload::check) accepts, with the gaps that the planner asks for.
    pub fn new(workload: &Attention, planner: &Planner) -> Self {
        let shapes = || workload.groups.iter().flat_map(|g| std::iter::repeat_n(g, g.repeat));
        let lens: Vec<(usize, usize)> = shapes().map(|g| (g.tokens(), g.prefix)).collect();
        let (starts, tokens) = planner.starts(&lens);
        let named = workload.named_prefixes();
        let mut tables = HashMap::new();
        let mut batch = Batch { pages: Vec::new(), offsets: Vec::new(), groups: Vec::new(), tokens };
        // Pages lie in the pool from its end on, so that an index is never its position.
        let pool = workload.pool_pages();
        let add = |pages: &mut Vec<i32>, prefix: usize| {
            let first = pages.len();
            let used = first..first + workload.pages_of(prefix);
            pages.extend(used.map(|page| (pool - 1 - page) as i32));
            first
        };
        for (shape, start) in shapes().zip(starts) {
            let first = match &shape.pages {
                Some(name) => *tables
                    .entry(name.as_str())
                    .or_insert_with(|| add(&mut batch.pages, named.get(name.as_str()).copied().unwrap_or(0))),
                None => add(&mut batch.pages, shape.prefix),
            };
            let mut at = start;
            let from = batch.offsets.len();
            batch.offsets.push(at as i32);
            for len in shape.lengths() {
                at += len;
                batch.offsets.push(at as i32);
            }
            batch.groups.push(Spans {
                prefix: shape.prefix,
                lead: shape.lead > 0,
                pages: first..first + workload.pages_of(shape.prefix),
                offsets: from..batch.offsets.len(),
            });
        }
        batch
    }

    /// Tokens of the stream, gaps included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The groups as planners take them.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let group = |g: &Spans| Group {
            prefix_len: g.prefix as i32,
            pages: &self.pages[g.pages.clone()],
            cu_seg_lens: &self.offsets[g.offsets.clone()],
            lead: g.lead,
        };
        self.groups.iter().map(group).collect()
    }
}
