//! The workloads that kernels are judged by.

use std::str::FromStr;

use tpu_rpa::batch::{Group, Plan, Planner, Tiling};
use tpu_rpa::kernels;
use tpu_rpa::schedule::Kernel;
use tpu_rpa::spec::{AttentionSpec, DType, LabelLogprobsSpec, LabelSet};

use crate::args::Shape;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// A query of 2000 and 500 items of 20, one pass.
    W1,
    /// The same with the query in pages.
    W1c,
    /// The items as 500 sequences that share the prefix's pages, one group.
    W2,
    /// The same, each sequence a group of its own.
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

/// A group before its offsets are known.
struct Shape1 {
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

    fn groups(self) -> Vec<Shape1> {
        let one = |prefix, segments| Shape1 { prefix, lead: false, segments };
        match self {
            Workload::W1 => {
                vec![Shape1 { prefix: 0, lead: true, segments: [&[2000][..], &[20; 500]].concat() }]
            }
            Workload::W1c | Workload::W2 => vec![one(2000, vec![20; 500])],
            Workload::W2g => (0..500).map(|_| one(2000, vec![20])).collect(),
            Workload::W3 => vec![one(0, vec![2048])],
            Workload::W4 => (0..128).map(|_| one(1023, vec![1])).collect(),
            Workload::W5 => PAST.iter().zip(NEW).map(|(&past, new)| one(past, vec![new])).collect(),
            Workload::L1 => Vec::new(),
        }
    }

    /// The kernel with its operands, and its plan if it has one.
    pub(crate) fn kernel(self, shape: &Shape) -> anyhow::Result<(Kernel, Option<Plan>)> {
        if self == Workload::L1 {
            let spec = LabelLogprobsSpec::new(1024, 151_936, LabelSet::Shared(2), DType::Bf16)?;
            let function = kernels::label_logprobs_tpu("labels", &spec, 12_288, 501)?;
            return Ok((Kernel::of_function(&function, &[])?, None));
        }
        let heads = shape.heads;
        let spec = AttentionSpec::builder(heads.q, heads.kv, heads.dim)
            .page_size(shape.page_size)
            .dtype(DType::Bf16)
            .build()?;
        let tiles = shape.tiles;
        let tiling = Tiling::new(tiles.q, tiles.kv, tiles.own, shape.page_size)?.with_aligned_runs();
        let groups = self.groups();
        let pages = |group: &Shape1| group.prefix.div_ceil(shape.page_size);
        let shared = self == Workload::W2g;
        let pool = if shared { pages(&groups[0]) } else { groups.iter().map(pages).sum() }.max(1);
        // Pages lie in the pool from its end on, so that an index is never its position.
        let mut next = pool as i32;
        let mut at = 0;
        let mut lists = Vec::new();
        for group in &groups {
            if shared {
                next = pool as i32;
            }
            let list: Vec<i32> = (0..pages(group))
                .map(|_| {
                    next -= 1;
                    next
                })
                .collect();
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
        let plan = Planner::new(shape.page_size, pool, tiling)?.plan(at as usize, &described)?;
        let function = kernels::attention_tpu("attention", &spec, &plan.tiling(), &plan.bucket(), pool)?;
        let meta = function.inputs().len() - 1;
        Ok((Kernel::of_function(&function, &[(meta, plan.meta())])?, Some(plan)))
    }
}
