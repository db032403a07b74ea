//! The Mosaic attention text, executed by the emulator, against the f64 reference and its own promises.
#![cfg(feature = "emulator")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/mosaic.rs"]
mod mosaic;

use common::{Batch, Element, Tensors, batches, specs};
use half::bf16;
use mosaic::MosaicAttention;
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
    let mut runner =
        TestRunner::new(ProptestConfig { cases, max_shrink_iters: 30, ..ProptestConfig::default() });
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
                (e, p, 1e-6)
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
