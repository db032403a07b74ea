//! Time to plan a batch: validate it and write its metadata. It lies on the way of every request.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tpu_rpa::batch::{Group, Planner, Tiling};

const PAGE_SIZE: usize = 128;
const POOL_PAGES: usize = 8192;

/// A batch that owns its page lists and offsets.
#[derive(Default)]
struct Batch {
    groups: Vec<OwnedGroup>,
}

struct OwnedGroup {
    prefix_len: usize,
    pages: Vec<i32>,
    offsets: Vec<i32>,
    lead: bool,
}

impl Batch {
    fn total(&self) -> usize {
        self.groups.last().map_or(0, |g| g.offsets[g.offsets.len() - 1] as usize)
    }

    /// Adds a group whose prefix lies in pages from `first_page` on.
    fn group(
        mut self,
        prefix_len: usize,
        first_page: usize,
        lead: bool,
        segments: impl IntoIterator<Item = usize>,
    ) -> Self {
        let mut end = self.total();
        let mut offsets = vec![end as i32];
        for len in segments {
            end += len;
            offsets.push(end as i32);
        }
        let pages = first_page..first_page + prefix_len.div_ceil(PAGE_SIZE);
        let pages = pages.map(|page| page as i32).collect();
        self.groups.push(OwnedGroup { prefix_len, pages, offsets, lead });
        self
    }

    fn groups(&self) -> Vec<Group<'_>> {
        self.groups
            .iter()
            .map(|g| Group {
                prefix_len: g.prefix_len as i32,
                pages: &g.pages,
                cu_seg_lens: &g.offsets,
                lead: g.lead,
            })
            .collect()
    }
}

/// A query of 2000 tokens and `items` of 20 tokens in one pass.
fn one_pass(items: usize) -> Batch {
    let segments = std::iter::once(2000).chain(std::iter::repeat_n(20, items));
    Batch::default().group(0, 0, true, segments)
}

fn planner() -> Planner {
    let tiling = Tiling::portable(256, 512, 128, PAGE_SIZE).expect("a valid tiling");
    Planner::new(PAGE_SIZE, POOL_PAGES, tiling).expect("a valid planner")
}

fn workloads(c: &mut Criterion) {
    let cached = Batch::default().group(2000, 0, false, std::iter::repeat_n(20, 500));
    // What an engine plans that does not merge requests with the same prefix into one group (W1c is the merged form).
    let unmerged = (0..500).fold(Batch::default(), |b, _| b.group(2000, 0, false, [20]));
    let decode = (0..128).fold(Batch::default(), |b, i| b.group(1024, 8 * i, false, [1]));
    let new = [1, 5, 33, 128, 257, 64, 1, 1, 400, 19, 7, 90, 2, 1, 300, 50];
    let past = [0, 1000, 37, 500, 0, 2048, 777, 15, 100, 4000, 12, 64, 3000, 900, 33, 250];
    let mixed = new.into_iter().zip(past).enumerate();
    let mixed = mixed.fold(Batch::default(), |b, (i, (new, past))| b.group(past, 32 * i, false, [new]));

    let mut group = c.benchmark_group("plan");
    for (name, batch) in [
        ("W1 query 2000 + 500x20", one_pass(500)),
        ("W1c cached query 2000, 500x20", cached),
        ("W2 500 groups on one prefix", unmerged),
        ("W4 decode 128 at 1024", decode),
        ("W5 mixed 16", mixed),
    ] {
        let (groups, total, mut planner) = (batch.groups(), batch.total(), planner());
        group.bench_function(name, |b| b.iter(|| planner.plan(black_box(total), black_box(&groups))));
    }
    group.finish();
}

/// Time per token must not grow with the batch.
fn linearity(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan/items of 20 on 2000");
    for items in [500, 1000, 2000, 4000, 8000] {
        let batch = one_pass(items);
        let (groups, total, mut planner) = (batch.groups(), batch.total(), planner());
        group.throughput(Throughput::Elements(total as u64));
        group.bench_function(BenchmarkId::from_parameter(items), |b| {
            b.iter(|| planner.plan(black_box(total), black_box(&groups)))
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(std::time::Duration::from_secs(2));
    targets = workloads, linearity
}
criterion_main!(benches);
