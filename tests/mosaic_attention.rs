//! The Mosaic attention text, executed by the emulator, against the f64 reference and its own promises.
#![cfg(feature = "emulator")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/mosaic.rs"]
mod mosaic;

use common::{Batch, Element, GroupShape, Random, Tensors, batches, specs};
use half::bf16;
use mosaic::MosaicAttention;
use ndarray::s;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tpu_rpa::batch::{Plan, Planner, Tiling};
use tpu_rpa::emulator::{self, DmaPolicy, GridOrder, ReductionOrder, RunOptions};
use tpu_rpa::reference::{self, Rounding, relative_error};
use tpu_rpa::spec::{AttentionSpec, DType};

fn plan(spec: &AttentionSpec, tiling: Tiling, batch: &Batch) -> Plan {
    Planner::new(spec.page_size(), batch.pool_pages, tiling)
        .unwrap()
        .with_sliding_window(spec.sliding_window())
        .plan(batch.total_tokens, &batch.groups())
        .unwrap()
}

/// Least query tile whose rows fill lanes.
fn q_tile(spec: &AttentionSpec) -> usize {
    let mut q = 8;
    while !(q * spec.group_size()).is_multiple_of(128) {
        q *= 2;
    }
    q
}

fn errors<E: Element + emulator::Element>(
    spec: &AttentionSpec,
    tiling: Tiling,
    batch: &Batch,
    rounding: Rounding,
    options: &RunOptions,
    seed: u64,
) -> (f64, f64) {
    let plan = plan(spec, tiling, batch);
    let tensors = Tensors::<E>::random(spec, batch, plan.bucket().tokens, seed);
    let (found, outcome) = MosaicAttention::new(spec, &plan, &tensors).run(options);
    let stats = plan.stats();
    let report = &outcome.report;
    assert_eq!(report.count("full_tiles") as usize, stats.full_tiles, "full tiles visited");
    assert_eq!(
        (report.count("edge_tiles") + report.count("slot_tiles")) as usize,
        stats.edge_tiles,
        "edge tiles visited"
    );
    let groups = batch.groups();
    let exact = reference::attention(spec, &tensors.inputs(), &groups);
    let plain = reference::attention_rounded(spec, &tensors.inputs(), &groups, rounding);
    (relative_error(found.view(), exact.view()), relative_error(plain.view(), exact.view()))
}

#[test]
fn agrees_with_the_f64_reference() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(100);
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 30,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let strategy = specs().prop_flat_map(|spec| {
        let page_size = spec.page_size();
        let options = (0..3usize, 0..3usize, any::<bool>(), any::<u64>());
        (Just(spec), 0..=1usize, 4..=7u32, batches(page_size), options)
    });
    let outcome = runner.run(&strategy, |(spec, more, own, batch, (dma, grid, tree, seed))| {
        let kv_tile = (1usize << own).next_multiple_of(spec.page_size()) + more * spec.page_size();
        let tiling =
            Tiling::new(q_tile(&spec), kv_tile, 1 << own, spec.page_size()).unwrap().with_aligned_runs();
        let options = RunOptions::default()
            .dma([DmaPolicy::Eager, DmaPolicy::OnWait, DmaPolicy::Random][dma])
            .grid_order([GridOrder::Sequential, GridOrder::Reversed, GridOrder::Permuted][grid])
            .sums(if tree { ReductionOrder::BalancedTree } else { ReductionOrder::Sequential })
            .seed(seed);
        let (error, plain, floor) = match spec.dtype() {
            DType::F32 => {
                let (e, p) = errors::<f32>(&spec, tiling, &batch, Rounding::F32, &options, seed);
                (e, p, 1e-6 * common::score_size(&spec))
            }
            _ => {
                let (e, p) = errors::<bf16>(&spec, tiling, &batch, Rounding::Bf16Operands, &options, seed);
                (e, p, 8e-3)
            }
        };
        prop_assert!(error <= 2.0 * plain + floor, "relative error {error:e}, plain {plain:e}");
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
}

/// Rows of one item, the same whatever the batch around them.
fn fill_item(tensors: &mut Tensors<bf16>, at: std::ops::Range<usize>, id: u64) {
    let mut random = Random::new(id);
    for t in [&mut tensors.q, &mut tensors.k, &mut tensors.v] {
        let shape = (at.len(), t.shape()[1], t.shape()[2]);
        t.slice_mut(s![at.clone(), .., ..]).assign(&common::normal::<bf16, _, _>(shape, &mut random));
    }
}

/// Content, number, order and packing of siblings, query in the pass or in pages, under both orders of summation:
/// an item's rows keep their bits.
#[test]
fn an_item_keeps_its_bits_in_any_company() {
    let spec = AttentionSpec::builder(4, 2, 64).page_size(16).dtype(DType::Bf16).build().unwrap();
    let tiling = Tiling::new(64, 128, 64, 16).unwrap().with_aligned_runs();
    let lead = 150;
    let run = |items: &[(u64, usize)], in_pages: bool, sums: ReductionOrder| {
        let lens: Vec<usize> = items.iter().map(|i| i.1).collect();
        let shape = if in_pages {
            GroupShape { prefix_len: lead, lead: false, segments: lens.clone() }
        } else {
            GroupShape { prefix_len: 0, lead: true, segments: [&[lead], &lens[..]].concat() }
        };
        let batch = Batch::new(16, &[shape], 3);
        let plan = plan(&spec, tiling, &batch);
        let mut tensors = Tensors::<bf16>::random(&spec, &batch, plan.bucket().tokens, 0);
        let mut query = Tensors::<bf16>::random(&spec, &scoring(lead), lead, 77);
        fill_item(&mut query, 0..lead, 1);
        let mut at = 0;
        if in_pages {
            for token in 0..lead {
                let page = batch.groups[0].pages[token / 16] as usize;
                for (which, rows) in [(0, &query.k), (1, &query.v)] {
                    let row = rows.slice(s![token, .., ..]);
                    tensors.kv_pages.slice_mut(s![page, which, .., token % 16, ..]).assign(&row);
                }
            }
        } else {
            fill_item(&mut tensors, 0..lead, 1);
            at = lead;
        }
        let mut places = Vec::new();
        for &(id, len) in items {
            fill_item(&mut tensors, at..at + len, id);
            places.push(at..at + len);
            at += len;
        }
        let (out, _) = MosaicAttention::new(&spec, &plan, &tensors).run(&RunOptions::default().sums(sums));
        places.into_iter().map(|p| out.slice(s![p, .., ..]).mapv(f32::to_bits)).collect::<Vec<_>>()
    };
    let items: Vec<(u64, usize)> = (0..14).map(|i| (100 + i, 1 + (i as usize * 37) % 90)).collect();
    for sums in [ReductionOrder::Sequential, ReductionOrder::BalancedTree] {
        let first = run(&items, false, sums);
        for (round, in_pages) in [false, true, false, true].into_iter().enumerate() {
            let mut chosen = items.clone();
            Random::new(round as u64).shuffle(&mut chosen);
            chosen.truncate(5 + 3 * round);
            // A stranger in front changes where everything lies.
            chosen.insert(0, (999 + round as u64, 1 + 7 * round));
            for (place, bits) in run(&chosen, in_pages, sums).into_iter().enumerate().skip(1) {
                let same = items.iter().position(|i| *i == chosen[place]).unwrap();
                assert_eq!(bits, first[same], "item of {} tokens, {sums:?}", chosen[place].1);
            }
        }
    }
}

fn scoring(tokens: usize) -> Batch {
    Batch::new(16, &[GroupShape { prefix_len: 0, lead: false, segments: vec![tokens] }], 1)
}

/// W1: a query of 2000 and 500 items of 20. Tiles visited against tiles that hold a visible pair, from the plan;
/// that the kernel visits just these is asserted above from the emulator's counters.
#[test]
fn visits_few_more_tiles_than_hold_a_visible_pair() {
    let spec = AttentionSpec::builder(16, 8, 128).page_size(128).dtype(DType::Bf16).build().unwrap();
    let tiling = Tiling::new(256, 512, 128, 128).unwrap().with_aligned_runs();
    let shape = GroupShape { prefix_len: 0, lead: true, segments: [&[2000][..], &[20; 500]].concat() };
    let batch = Batch::new(128, &[shape], 1);
    let stats = plan(&spec, tiling, &batch).stats();
    // On the same grid: query tile t sees lead tiles up to its last lead row, and the slot tiles of its items.
    let slots_per_tile = 128 / 32;
    let needed: usize = (0..12_000usize.div_ceil(256))
        .map(|t| {
            let rows = t * 256..((t + 1) * 256).min(12_000);
            let lead_tiles = if rows.end > 2000 { 4 } else { rows.end.div_ceil(512) };
            let items =
                rows.end.saturating_sub(2000).div_ceil(20).saturating_sub(rows.start.max(2000) / 20 - 100);
            let first = (rows.start.max(2000) - 2000) / 20;
            let slot_tiles = if items == 0 {
                0
            } else {
                (first + items - 1) / slots_per_tile - first / slots_per_tile + 1
            };
            lead_tiles + slot_tiles
        })
        .sum();
    let visited = stats.full_tiles + stats.edge_tiles;
    println!("{stats:?}, {needed} tiles hold a visible pair");
    assert!(visited as f64 <= 1.25 * needed as f64, "{visited} visited, {needed} needed");
}
