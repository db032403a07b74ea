//! The workloads that kernels are judged by.

use std::str::FromStr;

use serde::Serialize;
use tpu_rpa::batch::{Group, Plan, Planner};
use tpu_rpa::kernels::{self, WorkloadClass};
use tpu_rpa::schedule::{Kernel, Work};
use tpu_rpa::spec::{DType, LabelLogprobsSpec, LabelSet};

use crate::args::{Heads, Shape};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// A query of 2000 and 500 items of 20, one pass.
    W1,
    /// The same with the query in pages.
    W1c,
    /// The items as 500 sequences that share the prefix's pages, one group.
    W2,
    /// The same, each sequence a group of its own: what an engine pays that does not merge them.
    W2g,
    /// A causal prefill of 2048.
    W3,
    /// Decode of 128 sequences at 1024 keys.
    W4,
    /// Sixteen sequences of all kinds.
    W5,
    /// Label log-probs of 501 rows: hidden 1024, vocabulary 151,936, two labels.
    L1,
}

const NEW: [usize; 16] = [1, 5, 33, 128, 257, 64, 1, 1, 400, 19, 7, 90, 2, 1, 300, 50];
const PAST: [usize; 16] = [0, 1000, 37, 500, 0, 2048, 777, 15, 100, 4000, 12, 64, 3000, 900, 33, 250];

impl FromStr for Workload {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Workload::ALL
            .into_iter()
            .find(|w| w.name().eq_ignore_ascii_case(s))
            .ok_or_else(|| "must be one of W1, W1c, W2, W2g, W3, W4, W5, L1".to_owned())
    }
}

/// A kernel on a workload.
pub(crate) struct Case {
    pub(crate) kernel: Kernel,
    /// Of attention.
    pub(crate) plan: Option<Plan>,
    pub(crate) work: Work,
}

/// New tokens of a sequence, its length with them, and the pages of all.
#[derive(Serialize)]
pub(crate) struct Sequence {
    new: usize,
    length: usize,
    pub(crate) pages: Vec<usize>,
}

/// A group before its offsets are known.
struct Lengths {
    prefix: usize,
    lead: bool,
    segments: Vec<usize>,
}

impl Workload {
    pub(crate) const ALL: [Workload; 8] = [
        Workload::W1,
        Workload::W1c,
        Workload::W2,
        Workload::W2g,
        Workload::W3,
        Workload::W4,
        Workload::W5,
        Workload::L1,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::W1 => "W1",
            Workload::W1c => "W1c",
            Workload::W2 => "W2",
            Workload::W2g => "W2g",
            Workload::W3 => "W3",
            Workload::W4 => "W4",
            Workload::W5 => "W5",
            Workload::L1 => "L1",
        }
    }

    fn groups(self) -> Vec<Lengths> {
        let one = |prefix, segments| Lengths { prefix, lead: false, segments };
        match self {
            Workload::W1 => {
                vec![Lengths { prefix: 0, lead: true, segments: [&[2000][..], &[20; 500]].concat() }]
            }
            Workload::W1c | Workload::W2 => vec![one(2000, vec![20; 500])],
            Workload::W2g => (0..500).map(|_| one(2000, vec![20])).collect(),
            Workload::W3 => vec![one(0, vec![2048])],
            Workload::W4 => (0..128).map(|_| one(1023, vec![1])).collect(),
            Workload::W5 => PAST.iter().zip(NEW).map(|(&past, new)| one(past, vec![new])).collect(),
            Workload::L1 => Vec::new(),
        }
    }

    /// What no attention kernel can avoid: visible pairs, and every page, new token and result moved once.
    fn attention_work(self, shape: &Shape) -> Work {
        let (mut pairs, mut new, mut past, mut pages) = (0, 0, 0, 0);
        for (i, group) in self.groups().iter().enumerate() {
            let lead = if group.lead { group.segments[0] } else { 0 };
            for (s, &len) in group.segments.iter().enumerate() {
                let before = group.prefix + if s > 0 { lead } else { 0 };
                pairs += len * before + len * (len + 1) / 2;
                new += len;
            }
            // Sequences that name the same pages read them once.
            if i == 0 || self != Workload::W2g {
                past += group.prefix;
                pages += group.prefix.div_ceil(shape.page_size);
            }
        }
        let Heads { q, kv, dim } = shape.heads;
        let element = 2;
        let bytes = element * dim * (new * (2 * q + 2 * kv) + past * 2 * kv);
        Work::attention(shape.device, (pairs * q) as f64, dim, bytes as f64, pages as f64)
    }

    /// The batch as kernels see it that know sequences and pages only; the pool's pages. `None` for labels.
    ///
    /// The query of W1 and its items become one causal sequence: the item mask cannot be said there. Sequences that
    /// share a prefix share its full pages.
    pub(crate) fn sequences(self, shape: &Shape) -> Option<(Vec<Sequence>, usize)> {
        let groups = self.groups();
        let mut pool = 0;
        let mut own = |pages: usize| {
            pool += pages;
            (pool - pages..pool).collect::<Vec<_>>()
        };
        let shares = matches!(self, Workload::W1c | Workload::W2 | Workload::W2g);
        let shared = if shares { own(groups[0].prefix / shape.page_size) } else { Vec::new() };
        let mut all = Vec::new();
        for group in &groups {
            let joined = [group.segments.iter().sum()];
            for &new in if group.lead { &joined[..] } else { &group.segments[..] } {
                let length = group.prefix + new;
                let pages = [&shared[..], &own(length.div_ceil(shape.page_size) - shared.len())].concat();
                all.push(Sequence { new, length, pages });
            }
        }
        (!all.is_empty()).then_some((all, pool))
    }

    /// The kernel with its operands.
    pub(crate) fn case(self, shape: &Shape) -> anyhow::Result<Case> {
        if self == Workload::L1 {
            let spec = LabelLogprobsSpec::new(1024, 151_936, LabelSet::Shared(2), DType::Bf16)?;
            let function = kernels::label_logprobs_tpu("labels", &spec, 12_288, 501)?;
            let bytes = 2.0 * 1024.0 * (151_936.0 + 501.0) + 4.0 * 2.0 * 501.0;
            let work = Work::matmul(shape.device, 501, 1024, 151_936, bytes);
            // Two tokens far from each other; which ones decides next to nothing.
            let kernel = Kernel::of_function(&function, &[(3, &[2152, 9454])])?;
            return Ok(Case { kernel, plan: None, work });
        }
        let spec = shape.attention()?;
        let pool = self.pool(shape);
        let plan = self.plan(shape)?;
        let function = kernels::attention_tpu("attention", &spec, &plan.tiling(), &plan.bucket(), pool)?;
        // The pool is one layer's.
        let kernel = Kernel::of_function(&function, &[(4, plan.meta()), (5, &[0])])?;
        Ok(Case { kernel, plan: Some(plan), work: self.attention_work(shape) })
    }

    /// The class that its block sizes are tuned for.
    pub(crate) fn class(self) -> WorkloadClass {
        match self {
            Workload::W1 | Workload::W1c | Workload::W2 | Workload::L1 => WorkloadClass::Packed,
            Workload::W2g | Workload::W4 => WorkloadClass::Decode,
            Workload::W3 => WorkloadClass::Prefill,
            Workload::W5 => WorkloadClass::Mixed,
        }
    }

    /// Pages of the pool.
    fn pool(self, shape: &Shape) -> usize {
        let groups = self.groups();
        let pages = |group: &Lengths| group.prefix.div_ceil(shape.page_size);
        let shared = self == Workload::W2g;
        if shared { pages(&groups[0]) } else { groups.iter().map(pages).sum() }.max(1)
    }

    /// The plan of attention.
    pub(crate) fn plan(self, shape: &Shape) -> anyhow::Result<Plan> {
        let tiling = shape.tiling(self.class())?;
        let groups = self.groups();
        let pages = |group: &Lengths| group.prefix.div_ceil(shape.page_size);
        let shared = self == Workload::W2g;
        let pool = self.pool(shape);
        // Pages lie in the pool from its end on, so that an index is never its position.
        let mut next = pool as i32;
        let lens: Vec<(usize, usize)> = groups.iter().map(|g| (g.segments.iter().sum(), g.prefix)).collect();
        let mut planner = Planner::new(shape.page_size, pool, tiling)?.with_gaps();
        let (starts, tokens) = planner.starts(&lens);
        let mut lists = Vec::new();
        for (group, start) in groups.iter().zip(starts) {
            if shared {
                next = pool as i32;
            }
            let list: Vec<i32> = (0..pages(group))
                .map(|_| {
                    next -= 1;
                    next
                })
                .collect();
            let mut at = start as i32;
            let mut offsets = vec![at];
            for &len in &group.segments {
                at += len as i32;
                offsets.push(at);
            }
            lists.push((list, offsets));
        }
        let described: Vec<Group<'_>> = groups
            .iter()
            .zip(&lists)
            .map(|(g, (pages, cu_seg_lens))| Group {
                prefix_len: g.prefix as i32,
                pages,
                cu_seg_lens,
                lead: g.lead,
            })
            .collect();
        Ok(planner.plan(tokens, &described)?)
    }
}
