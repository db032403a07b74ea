//! The Mosaic attention text, executed by the emulator, against the f64 reference and its own promises.
#![cfg(feature = "emulator")]

use common::mosaic::{MosaicAttention, mosaic_plan, q_tile, row_block_tiling};
use common::{
    Batch, Element, Errors, GroupShape, QueryIn, Random, Scene, Tensors, batches_with_gaps, bits, cases,
    property, specs,
};
use half::bf16;
use proptest::prelude::*;
use tpu_rpa::batch::{ScaleOn, Tiling, TpuTiling};
use tpu_rpa::emulator::{self, DmaPolicy, Emulator, GridOrder, ReductionOrder, RunOptions};
use tpu_rpa::kernels;
use tpu_rpa::reference::Rounding;
use tpu_rpa::spec::{AttentionSpec, DType};

/// One rounding to bf16, relative.
const BF16_ROUNDING: f64 = 1.0 / 256.0;

/// Runs a batch, counts its tiles, and holds the result against f64.
fn agrees(
    spec: &AttentionSpec,
    tiling: Tiling,
    batch: &Batch,
    options: &RunOptions,
    seed: u64,
) -> Result<(), String> {
    match spec.dtype() {
        DType::F32 => errors::<f32>(spec, tiling, batch, Rounding::F32, options, seed)
            .check(1e-6 * common::score_size(spec)),
        _ => errors::<bf16>(spec, tiling, batch, Rounding::Bf16Operands, options, seed).check(BF16_ROUNDING),
    }
}

fn errors<E: Element + emulator::Element>(
    spec: &AttentionSpec,
    tiling: Tiling,
    batch: &Batch,
    rounding: Rounding,
    options: &RunOptions,
    seed: u64,
) -> Errors {
    let plan = mosaic_plan(spec, tiling, batch);
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
    Errors::new(spec, batch, &tensors, &found, rounding)
}

/// A tiling with little tiles, and how a run is ordered.
fn runs(page_size: usize) -> impl Strategy<Value = ((usize, usize, usize), RunOptions, u64)> {
    let options = (0..3usize, 0..3usize, any::<bool>(), any::<u64>()).prop_map(|(dma, grid, tree, seed)| {
        RunOptions::default()
            .dma([DmaPolicy::Eager, DmaPolicy::OnWait, DmaPolicy::Random][dma])
            .grid_order([GridOrder::Sequential, GridOrder::Reversed, GridOrder::Permuted][grid])
            .sums(if tree { ReductionOrder::BalancedTree } else { ReductionOrder::Sequential })
            .seed(seed)
    });
    let tiles = (0..=1usize, 4..=7u32, prop::sample::select(vec![1, 1, 2, 4])).prop_map(
        move |(more, own, blocks)| {
            let own_tile = 1usize << own;
            (own_tile.next_multiple_of(page_size) + more * page_size, own_tile, blocks)
        },
    );
    (tiles, options, any::<u64>())
}

/// Random specs, tilings, batches, orders of DMA, grid and summation; NaN in every byte that no row may see.
#[test]
fn agrees_with_the_f64_reference() {
    let strategy = || {
        specs().prop_flat_map(|spec| {
            let page_size = spec.page_size();
            (Just(spec), batches_with_gaps(page_size), runs(page_size))
        })
    };
    property(cases(800), 30, strategy, |(spec, batch, ((kv_tile, own_tile, blocks), options, seed))| {
        let tiling = row_block_tiling(&spec, kv_tile, own_tile, blocks);
        agrees(&spec, tiling, &batch, &options, seed).map_err(TestCaseError::fail)
    });
}

/// Queries with 500 items, most of them shorter than any tile.
#[test]
fn agrees_on_five_hundred_items() {
    let strategy = || {
        let items = prop::collection::vec(prop_oneof![4 => 1..=3usize, 1 => 0..=8usize], 500);
        (items, 0..=70usize, any::<bool>(), prop::option::of(1..=80u32), any::<bool>(), runs(16))
    };
    let check = |(items, query, in_pages, window, f32, ((kv_tile, own_tile, blocks), options, seed)): (
        Vec<usize>,
        _,
        _,
        _,
        _,
        _,
    )| {
        let dtype = if f32 { DType::F32 } else { DType::Bf16 };
        let mut spec = AttentionSpec::builder(2, 1, 64).page_size(16).dtype(dtype);
        if let Some(window) = window {
            spec = spec.sliding_window(window);
        }
        let spec = spec.build().unwrap();
        let shape = if in_pages {
            GroupShape { prefix_len: query, lead: false, segments: items }
        } else {
            GroupShape { prefix_len: 0, lead: true, segments: [&[query], &items[..]].concat() }
        };
        let batch = Batch::new(16, &[shape], seed);
        agrees(&spec, row_block_tiling(&spec, kv_tile, own_tile, blocks), &batch, &options, seed)
            .map_err(TestCaseError::fail)
    };
    property(cases(800).div_ceil(40), 5, strategy, check);
}

/// Queries as a sum of two bf16 terms are as good as scores scaled in f32; the first term alone is not.
#[test]
fn two_terms_of_a_query_are_as_exact_as_scaled_scores() {
    for (head_dim, size) in [(64, 1.0), (128, 1.0), (128, 8.0)] {
        let spec = AttentionSpec::builder(4, 2, head_dim).page_size(16).dtype(DType::Bf16);
        let spec = spec.scale(size / (head_dim as f32).sqrt()).build().unwrap();
        let shape = GroupShape { prefix_len: 200, lead: true, segments: vec![90, 20, 33, 1, 7] };
        let batch = Batch::new(16, &[shape], 5);
        let error = |tiling: TpuTiling, edit: fn(&str) -> String| {
            let plan = mosaic_plan(&spec, tiling.into(), &batch);
            let (tiling, bucket) = (plan.tiling(), plan.bucket());
            let tensors = Tensors::<bf16>::random(&spec, &batch, bucket.tokens, 7);
            let text = kernels::attention_mosaic("attention", &spec, &tiling, &bucket, tensors.pool_pages())
                .unwrap();
            let emulator = Emulator::new(&edit(&text)).unwrap();
            let kernel = MosaicAttention::of_words(emulator, &spec, bucket, plan.meta(), &tensors);
            let (found, _) = kernel.run(&RunOptions::default());
            Errors::new(&spec, &batch, &tensors, &found, Rounding::Bf16Operands).kernel
        };
        // Rows on two registers' lanes: with fewer, two heads of 128 share a product and scores are scaled.
        let tiling = Tiling::tpu(2 * q_tile(&spec), 128, 64, 16).unwrap();
        let terms = error(tiling, str::to_owned);
        let scaled = error(tiling.with_scale_on(ScaleOn::Scores), str::to_owned);
        // Nothing left for the second term.
        let single = error(tiling, |text| text.replace("_hf : vector", "_x : vector"));
        println!(
            "heads of {head_dim}, scores of size {size}: two terms {terms:.2e}, scaled scores {scaled:.2e}, \
             one term {single:.2e}"
        );
        assert!(terms <= 1.1 * scaled, "heads of {head_dim}, scores of size {size}: {terms:e}, {scaled:e}");
        assert!(terms < single, "heads of {head_dim}, scores of size {size}: {terms:e}, {single:e}");
    }
}

/// Content, number, order and packing of siblings, query in the pass or in pages, under both orders of summation:
/// an item's rows keep their bits.
#[test]
fn an_item_keeps_its_bits_in_any_company() {
    // One block a query tile; and several, which take two heads of 128 at once, with tiles of pages and runs that are short.
    for (head_dim, q_tile, row_block) in [(64, 64, 64), (128, 128, 64)] {
        let spec = AttentionSpec::builder(4, 2, head_dim).page_size(16).dtype(DType::Bf16).build().unwrap();
        let tiling = Tiling::tpu(q_tile, 128, 64, 16).unwrap().with_row_block(row_block).unwrap();
        keeps_bits(&Scene { spec, query: 150, seed: 3 }, tiling.into());
    }
}

fn keeps_bits(scene: &Scene, tiling: Tiling) {
    let run = |items: &[(u64, usize)], query: QueryIn, sums: ReductionOrder| {
        let batch = scene.batch(items, query);
        let plan = mosaic_plan(&scene.spec, tiling, &batch);
        let (tensors, places) = scene.tensors::<bf16>(&batch, items, query, plan.bucket().tokens);
        let options = RunOptions::default().sums(sums);
        let (out, _) = MosaicAttention::new(&scene.spec, &plan, &tensors).run(&options);
        places.into_iter().map(|place| bits(&out, place)).collect::<Vec<_>>()
    };
    let items: Vec<(u64, usize)> = (0..14).map(|i| (100 + i, 1 + (i as usize * 37) % 90)).collect();
    for sums in [ReductionOrder::Sequential, ReductionOrder::BalancedTree] {
        let first = run(&items, QueryIn::Pass, sums);
        for round in 0..8u64 {
            let query = if round % 2 == 0 { QueryIn::Pass } else { QueryIn::Pages };
            let mut chosen = items.clone();
            Random::new(round).shuffle(&mut chosen);
            chosen.truncate(5 + 3 * (round as usize % 4));
            // A stranger in front changes where everything lies.
            chosen.insert(0, (999 + round, 1 + 7 * round as usize));
            for (place, bits) in run(&chosen, query, sums).into_iter().enumerate().skip(1) {
                let same = items.iter().position(|i| *i == chosen[place]).unwrap();
                assert_eq!(bits, first[same], "item of {} tokens, {sums:?}", chosen[place].1);
            }
        }
    }
}

/// W1: a query of 2000 and 500 items of 20. Tiles visited against tiles that hold a visible pair, from the plan;
/// that the kernel visits just these is asserted above from the emulator's counters.
#[test]
fn visits_few_more_tiles_than_hold_a_visible_pair() {
    let spec = AttentionSpec::builder(16, 8, 128).page_size(128).dtype(DType::Bf16).build().unwrap();
    let tiling = Tiling::tpu(256, 512, 128, 128).unwrap().into();
    let shape = GroupShape { prefix_len: 0, lead: true, segments: [&[2000][..], &[20; 500]].concat() };
    let batch = Batch::new(128, &[shape], 1);
    let stats = mosaic_plan(&spec, tiling, &batch).stats();
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
