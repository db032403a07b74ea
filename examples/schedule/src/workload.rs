//! Workloads as kernels with their operands, and the work that no kernel can avoid.

use std::collections::HashMap;

use serde::Serialize;
use tpu_rpa::batch::Plan;
use tpu_rpa::kernels::{self, WorkloadClass};
use tpu_rpa::schedule::{DeviceKind, Kernel, Work};
use workloads::{Attention, Batch, GroupShape, Labels, Workload};

use crate::args::Build;

/// A kernel on a workload.
pub(crate) struct Case {
    pub(crate) kernel: Kernel,
    /// Of attention.
    pub(crate) plan: Option<Plan>,
    pub(crate) work: Work,
}

impl Case {
    pub(crate) fn new(workload: &Workload, build: &Build) -> anyhow::Result<Self> {
        match workload {
            Workload::Attention(attention) => Self::attention(attention, build),
            Workload::Labels(labels) => Self::labels(labels, build),
        }
    }

    fn attention(workload: &Attention, build: &Build) -> anyhow::Result<Self> {
        let (spec, pool) = (workload.spec()?, workload.pool_pages());
        let plan = plan(workload, build)?;
        let function = kernels::attention_tpu("attention", &spec, &plan.tiling(), &plan.bucket(), pool)?;
        // The pool is one layer's.
        let kernel = Kernel::of_function(&function, &[(4, plan.meta()), (5, &[0])])?;
        Ok(Case { kernel, plan: Some(plan), work: attention_work(workload, build.device) })
    }

    fn labels(workload: &Labels, build: &Build) -> anyhow::Result<Self> {
        let Labels { hidden, vocab, labels, rows, tokens, dtype, .. } = *workload;
        let function = kernels::label_logprobs_tpu("labels", &workload.spec()?, tokens, rows)?;
        let read = dtype.size() as f64 * hidden as f64 * (vocab as f64 + rows as f64);
        let bytes = read + 4.0 * labels as f64 * rows as f64;
        let work = Work::matmul(build.device, rows, hidden, vocab, bytes);
        let kernel = Kernel::of_function(&function, &[(3, &workload.ids())])?;
        Ok(Case { kernel, plan: None, work })
    }
}

/// The plan of attention.
pub(crate) fn plan(workload: &Attention, build: &Build) -> anyhow::Result<Plan> {
    let spec = workload.spec()?;
    let class = match workload.class {
        Some(class) => class,
        None => {
            // The rule asks for lengths only, which no tiles change.
            let any = workload.planner(kernels::default_tiling(spec.page_size())?)?;
            WorkloadClass::of(&Batch::new(workload, &any).groups())
        }
    };
    let mut planner = workload.planner(build.tiling(&spec, class)?)?.with_gaps();
    let batch = Batch::new(workload, &planner);
    Ok(planner.plan(batch.tokens(), &batch.groups())?)
}

/// What no attention kernel can avoid: visible pairs, and every page, new token and result moved once.
fn attention_work(workload: &Attention, device: DeviceKind) -> Work {
    let window = workload.sliding_window.map_or(usize::MAX, |window| window as usize);
    let mut pairs = 0.0;
    // Cached tokens that are read, and their pages, of all groups whose pages are their own.
    let (mut past, mut pages) = (0, 0);
    // Groups that name the same pages read them once.
    let mut named: HashMap<&str, (usize, usize)> = HashMap::new();
    for group in &workload.groups {
        pairs += group.repeat as f64 * visible(group, window) as f64;
        let first = group.prefix.saturating_sub(window - 1);
        let read = group.prefix - first;
        let read_pages = group.prefix.div_ceil(workload.page_size) - first / workload.page_size;
        match &group.pages {
            Some(name) => {
                let most = named.entry(name).or_default();
                *most = (most.0.max(read), most.1.max(read_pages));
            }
            None => {
                past += group.repeat * read;
                pages += group.repeat * read_pages;
            }
        }
    }
    for (read, read_pages) in named.into_values() {
        past += read;
        pages += read_pages;
    }
    let Attention { q_heads: q, kv_heads: kv, head_dim: dim, dtype, .. } = *workload;
    let moved = workload.tokens() as f64 * (2 * q + 2 * kv) as f64 + past as f64 * (2 * kv) as f64;
    let bytes = (dtype.size() * dim) as f64 * moved;
    Work::attention(device, pairs * q as f64, dim, bytes, pages as f64)
}

/// Pairs of a new token and a key that it sees.
fn visible(group: &GroupShape, window: usize) -> usize {
    let mut before = group.prefix;
    let mut pairs = 0;
    for (s, len) in group.lengths().enumerate() {
        // Token i sees `before + i + 1` keys, and from some on as many as the window holds.
        let free = window.saturating_sub(before).min(len);
        pairs += free * before + free * (free + 1) / 2 + (len - free) * window.min(before + len);
        if s == 0 {
            before += group.lead;
        }
    }
    pairs
}

/// New tokens of a sequence, its length with them, and the pages of all.
#[derive(Serialize)]
pub(crate) struct Sequence {
    new: usize,
    length: usize,
    pub(crate) pages: Vec<usize>,
}

/// The batch as kernels see it that know sequences and pages only; the pool's pages.
///
/// A lead and the segments that see it become one causal sequence: their mask cannot be said there. Sequences that share a
/// prefix share its full pages.
pub(crate) fn sequences(workload: &Attention) -> (Vec<Sequence>, usize) {
    let mut pool = 0;
    let mut take = |pages: usize| {
        pool += pages;
        (pool - pages..pool).collect::<Vec<_>>()
    };
    let longest = workload.named_prefixes();
    let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut all = Vec::new();
    for group in workload.groups.iter().flat_map(|g| std::iter::repeat_n(g, g.repeat)) {
        let full = group.prefix / workload.page_size;
        let shared = match group.pages.as_deref() {
            Some(name) => {
                let most = longest.get(name).map_or(full, |prefix| prefix / workload.page_size);
                named.entry(name).or_insert_with(|| take(most))[..full].to_vec()
            }
            None => take(full),
        };
        let lengths: Vec<usize> =
            if group.lead > 0 { vec![group.tokens()] } else { group.lengths().collect() };
        for new in lengths {
            let length = group.prefix + new;
            let own = take(length.div_ceil(workload.page_size) - full);
            all.push(Sequence { new, length, pages: [&shared[..], &own].concat() });
        }
    }
    (all, pool)
}

#[cfg(test)]
mod tests {
    use tpu_rpa::mask::{self, Key, Query};

    use super::*;

    fn attention(more: &str, groups: &str) -> Attention {
        let text = format!(
            "{{\"q_heads\": 4, \"kv_heads\": 2, \"head_dim\": 64, \"dtype\": \"f32\", \"page_size\": 16{more}, \
             \"groups\": [{groups}]}}"
        );
        let Ok(Workload::Attention(attention)) = Workload::parse(&text) else { panic!("{text}") };
        attention
    }

    /// Pairs of a group by the library's mask, one by one.
    fn counted(group: &GroupShape, window: Option<u32>) -> usize {
        let lead = group.lead > 0;
        let lens: Vec<usize> = group.lengths().collect();
        let tokens: Vec<Query> = (0..lens.len())
            .flat_map(|segment| (0..lens[segment]).map(move |offset| Query { segment, offset }))
            .collect();
        let at = |q| mask::position(group.prefix, group.lead, q, lead) as i64;
        let of = |&query: &Query| {
            let near = |key| mask::in_window(at(query), key, window);
            let cached = (0..group.prefix).filter(|&key| near(key as i64)).count();
            let sees = |k: &&Query| {
                mask::visible(query, Key::New { segment: k.segment, offset: k.offset }, lead) && near(at(**k))
            };
            cached + tokens.iter().filter(sees).count()
        };
        tokens.iter().map(of).sum()
    }

    #[test]
    fn visible_pairs_are_those_of_the_mask() {
        let groups = "{\"prefix\": 30, \"segments\": [5, 1, 40]}, {\"lead\": 20, \"segments\": [3, 3]}, \
                      {\"prefix\": 7, \"lead\": 9, \"segments\": [12]}, {\"segments\": [33]}";
        for window in [None, Some(1), Some(4), Some(10), Some(31), Some(1000)] {
            for group in attention("", groups).groups {
                let bound = window.map_or(usize::MAX, |window| window as usize);
                assert_eq!(visible(&group, bound), counted(&group, window), "{group:?} {window:?}");
            }
        }
    }

    #[test]
    fn pages_are_read_once_and_elements_have_the_size_of_their_type() {
        let apart = attention("", "{\"repeat\": 3, \"prefix\": 40, \"segments\": [2]}");
        let shared = attention("", "{\"repeat\": 3, \"prefix\": 40, \"pages\": \"a\", \"segments\": [2]}");
        let work = |workload: &Attention| attention_work(workload, DeviceKind::V6e);
        let bytes = |past: usize| (4 * 64 * (6 * 12 + past * 4)) as f64;
        assert_eq!((work(&apart).bytes, work(&apart).copies), (bytes(120), 9.0));
        assert_eq!((work(&shared).bytes, work(&shared).copies), (bytes(40), 3.0));
        let half = Attention { dtype: tpu_rpa::spec::DType::Bf16, ..shared.clone() };
        assert_eq!(work(&half).bytes, bytes(40) / 2.0);
        // The last 9 of 40 cached tokens lie in two pages.
        let near = Attention { sliding_window: Some(10), ..shared };
        assert_eq!((work(&near).bytes, work(&near).copies), (bytes(9), 2.0));
    }

    #[test]
    fn sequences_share_full_pages_of_a_prefix() {
        let groups = "{\"prefix\": 40, \"segments\": [2, 2]}, {\"repeat\": 2, \"prefix\": 16, \"pages\": \"a\", \
                      \"lead\": 4, \"segments\": [1, 1]}";
        let (all, pool) = sequences(&attention("", groups));
        let found: Vec<_> = all.iter().map(|s| (s.new, s.length, s.pages.as_slice())).collect();
        let expected: [(_, _, &[usize]); 4] =
            [(2, 42, &[0, 1, 2]), (2, 42, &[0, 1, 3]), (6, 22, &[4, 5]), (6, 22, &[4, 6])];
        assert_eq!(found, expected);
        assert_eq!(pool, 7);
    }
}
