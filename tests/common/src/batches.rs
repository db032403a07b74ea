use proptest::prelude::*;
use tpu_rpa::batch::Group;

use super::Random;

/// A batch that owns its page lists and offsets.
#[derive(Clone, Debug)]
pub struct Batch {
    pub page_size: usize,
    pub pool_pages: usize,
    pub total_tokens: usize,
    pub groups: Vec<OwnedGroup>,
}

/// What a [`Group`] borrows.
#[derive(Clone, Debug)]
pub struct OwnedGroup {
    pub prefix_len: i32,
    pub pages: Vec<i32>,
    pub cu_seg_lens: Vec<i32>,
    pub lead: bool,
}

/// Lengths of one group, before pages are dealt and offsets summed.
#[derive(Clone, Debug)]
pub struct GroupShape {
    pub prefix_len: usize,
    pub lead: bool,
    pub segments: Vec<usize>,
}

impl Batch {
    /// Deals random pages: no page twice in a group, any page in several groups, a few pages to nobody.
    pub fn new(page_size: usize, shapes: &[GroupShape], seed: u64) -> Self {
        let mut random = Random::new(seed);
        let needs: Vec<usize> = shapes.iter().map(|g| g.prefix_len.div_ceil(page_size)).collect();
        let pool_pages = needs.iter().max().map_or(0, |&most| most + 1 + random.below(4));
        let mut start = 0;
        let groups = shapes
            .iter()
            .zip(needs)
            .map(|(shape, need)| {
                let mut pages: Vec<i32> = (0..pool_pages as i32).collect();
                random.shuffle(&mut pages);
                // A page too many is allowed and ignored.
                pages.truncate(need + random.below(2));
                let mut cu_seg_lens = vec![start];
                for &len in &shape.segments {
                    start += len as i32;
                    cu_seg_lens.push(start);
                }
                OwnedGroup { prefix_len: shape.prefix_len as i32, pages, cu_seg_lens, lead: shape.lead }
            })
            .collect();
        Batch { page_size, pool_pages, total_tokens: start as usize, groups }
    }

    /// The same groups with padding tokens between and behind them, some empty.
    pub fn spread(mut self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut moved = 0;
        for group in &mut self.groups {
            moved += random.below(3) as i32 * random.below(50) as i32;
            group.cu_seg_lens.iter_mut().for_each(|at| *at += moved);
        }
        self.total_tokens += moved as usize + random.below(2) * random.below(30);
        self
    }

    /// The groups as the planner and the reference take them.
    pub fn groups(&self) -> Vec<Group<'_>> {
        self.groups
            .iter()
            .map(|g| Group {
                prefix_len: g.prefix_len,
                pages: &g.pages,
                cu_seg_lens: &g.cu_seg_lens,
                lead: g.lead,
            })
            .collect()
    }

    /// For every page of the pool, how many of its leading slots some prefix reads.
    pub fn used_slots(&self) -> Vec<usize> {
        let mut used = vec![0; self.pool_pages];
        for g in &self.groups {
            for (first, &page) in (0..g.prefix_len as usize).step_by(self.page_size).zip(&g.pages) {
                let slots = self.page_size.min(g.prefix_len as usize - first);
                used[page as usize] = slots.max(used[page as usize]);
            }
        }
        used
    }
}

/// Batches of every use: scoring in one pass or on a cached query, decode, chunked prefill, and mixtures with
/// empty and one-token segments, segments longer than any own tile, and empty groups.
pub fn batches(page_size: usize) -> impl Strategy<Value = Batch> {
    let shapes = prop_oneof![
        prop::collection::vec(scoring(), 1..=2),
        prop::collection::vec(decode(), 1..=16),
        chunk().prop_map(|g| vec![g]),
        prop::collection::vec(tiny(), 1..=24),
        prop::collection::vec(aligned(), 1..=4),
        prop::collection::vec(prop_oneof![scoring(), decode(), chunk(), tiny()], 1..=4),
    ];
    (shapes, any::<u64>()).prop_map(move |(mut shapes, seed)| {
        if shapes.iter().all(|g| g.segments.iter().all(|&len| len == 0)) {
            shapes[0].segments.push(1);
        }
        Batch::new(page_size, &shapes, seed)
    })
}

/// [`batches`], half of them with padding between groups.
pub fn batches_with_gaps(page_size: usize) -> impl Strategy<Value = Batch> {
    (batches(page_size), prop::option::of(any::<u64>())).prop_map(|(batch, gaps)| match gaps {
        Some(seed) => batch.spread(seed),
        None => batch,
    })
}

fn prefix_len() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(1), 1..=160usize, Just(128)]
}

fn segment_len() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0), 1 => Just(1), 6 => 1..=24usize]
}

fn scoring() -> impl Strategy<Value = GroupShape> {
    (prefix_len(), prop::option::of(0..=90usize), prop::collection::vec(segment_len(), 1..=12)).prop_map(
        |(prefix_len, lead, mut segments)| {
            segments.splice(0..0, lead);
            GroupShape { prefix_len, lead: lead.is_some(), segments }
        },
    )
}

fn decode() -> impl Strategy<Value = GroupShape> {
    prefix_len().prop_map(|prefix_len| GroupShape { prefix_len, lead: false, segments: vec![1] })
}

fn chunk() -> impl Strategy<Value = GroupShape> {
    let segments = prop_oneof![
        2 => prop::collection::vec(1..=90usize, 1..=2),
        1 => (1..=280usize).prop_map(|len| vec![len]),
    ];
    (prefix_len(), segments, any::<bool>()).prop_map(|(prefix_len, segments, lead)| GroupShape {
        prefix_len,
        lead,
        segments,
    })
}

fn tiny() -> impl Strategy<Value = GroupShape> {
    (0..=20usize, prop::collection::vec(0..=3usize, 1..=3), any::<bool>())
        .prop_map(|(prefix_len, segments, lead)| GroupShape { prefix_len, lead, segments })
}

/// Segments that end where tiles end.
fn aligned() -> impl Strategy<Value = GroupShape> {
    let len = prop::sample::select(vec![8usize, 16, 32, 64, 128]);
    (prefix_len(), prop::collection::vec(len, 1..=4), any::<bool>())
        .prop_map(|(prefix_len, segments, lead)| GroupShape { prefix_len, lead, segments })
}
