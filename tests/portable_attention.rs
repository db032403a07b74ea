//! The portable attention kernel on a real PJRT device, against the f64 reference and its own promises.
#![cfg(feature = "runtime")]

use std::collections::HashSet;

use common::device::DeviceElement;
use common::{
    Batch, Errors, GroupShape, QueryIn, Random, Scene, Tensors, batches_with_gaps, bits, specs, tilings,
};
use half::bf16;
use ndarray::{Array3, s};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tpu_rpa::batch::{TileSource, Tiling};
use tpu_rpa::kernels::{self, KernelError};
use tpu_rpa::reference::{self, Rounding, relative_error};
use tpu_rpa::runtime::CompileOptions;
use tpu_rpa::spec::{AttentionSpec, DType};

/// Compares one call with the f64 reference.
fn errors<E: DeviceElement>(
    spec: &AttentionSpec,
    tiling: Tiling,
    batch: &Batch,
    rounding: Rounding,
    seed: u64,
) -> Errors {
    let plan = common::device::plan(spec, tiling, batch);
    let tensors = Tensors::<E>::random(spec, batch, plan.bucket().tokens, seed);
    let found = common::device::attention(spec, &plan, &tensors);
    Errors::new(spec, batch, &tensors, &found, rounding)
}

/// Random specs, tilings and batches, NaN in every byte that no row may see: within twice the error of a plain
/// evaluation in the same precision. `PROPTEST_CASES` sets the number of programs compiled.
#[test]
fn agrees_with_the_f64_reference() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(24);
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let strategy = specs().prop_flat_map(|spec| {
        let page_size = spec.page_size();
        (Just(spec), tilings(page_size), prop::collection::vec(batches_with_gaps(page_size), 3), any::<u64>())
    });
    let outcome = runner.run(&strategy, |(spec, tiling, batches, seed)| {
        for batch in &batches {
            let errors = match spec.dtype() {
                DType::F32 => errors::<f32>(&spec, tiling, batch, Rounding::F32, seed),
                _ => errors::<bf16>(&spec, tiling, batch, Rounding::Bf16Result, seed),
            };
            // The rounding of one score of N(0, 1) inputs, some units in the last place of its size.
            errors.check(5e-7 * common::score_size(&spec)).map_err(TestCaseError::fail)?;
        }
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
}

/// Rows of one slot tile that lie far apart: two entries, and the second's rows, moved up to fit the query tile, take
/// in rows of the first, which must not count twice.
#[test]
fn rows_of_a_slot_tile_that_lie_apart_are_counted_once() {
    let spec = spec(6, 2, 64);
    let shapes = [(160, 40), (40, 16)].map(|(lead, item)| GroupShape {
        prefix_len: 0,
        lead: true,
        segments: vec![lead, item],
    });
    let batch = Batch::new(16, &shapes, 1);
    let tiling = Tiling::portable(256, 512, 64, 16).unwrap();
    let plan = common::device::plan(&spec, tiling, &batch);
    let slots: Vec<_> = plan.tiles(0).filter(|t| t.source == TileSource::Slots).collect();
    let entries: Vec<_> = slots.iter().map(|t| (t.start, t.first_row)).collect();
    assert_eq!((plan.tiling().q_tile(), entries), (256, vec![(0, 160), (0, 240)]));
    errors::<f32>(&spec, tiling, &batch, Rounding::F32, 5).check(5e-7).unwrap_or_else(|e| panic!("{e}"));
}

fn spec(q_heads: usize, kv_heads: usize, head_dim: usize) -> AttentionSpec {
    AttentionSpec::builder(q_heads, kv_heads, head_dim).build().unwrap()
}

fn scoring(prefix_len: usize, lead: usize, items: &[usize]) -> Batch {
    let segments = [&[lead], items].concat();
    Batch::new(16, &[GroupShape { prefix_len, lead: true, segments }], 7)
}

#[test]
fn a_row_that_sees_one_key_returns_its_v_bit_for_bit() {
    let spec = spec(6, 2, 64);
    let tiling = kernels::default_tiling(16).unwrap();
    let shapes: Vec<_> =
        (0..40).map(|_| GroupShape { prefix_len: 0, lead: false, segments: vec![1, 1] }).collect();
    let batch = Batch::new(16, &shapes, 1);
    let plan = common::device::plan(&spec, tiling, &batch);
    let tensors = Tensors::<f32>::random(&spec, &batch, plan.bucket().tokens, 3);
    let found = common::device::attention(&spec, &plan, &tensors);
    for row in 0..batch.total_tokens {
        for head in 0..6 {
            let v = tensors.v.slice(s![row, head / 3, ..]);
            assert!(found.slice(s![row, head, ..]).iter().zip(v).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

/// Hidden keys vanish only where exp(-inf) is exactly 0 and NaN is dropped by a select: asked of old plugins too.
#[test]
fn older_plugins_give_the_same_exactness() {
    let spec = spec(6, 2, 64);
    let mut shapes = vec![GroupShape { prefix_len: 40, lead: true, segments: vec![30, 20, 1, 20] }];
    shapes.extend((0..9).map(|_| GroupShape { prefix_len: 0, lead: false, segments: vec![1] }));
    let batch = Batch::new(16, &shapes, 1);
    let plan = common::device::plan(&spec, kernels::default_tiling(16).unwrap(), &batch);
    let tensors = Tensors::<f32>::random(&spec, &batch, plan.bucket().tokens, 3);
    let exact = reference::attention(&spec, &tensors.inputs(), &batch.groups());
    for client in common::device::older_clients() {
        let found = common::device::attention_on(&client, &spec, &plan, &tensors);
        assert!(relative_error(found.view(), exact.view()) < 2e-6, "{}", client.platform_version());
        for row in 71..80 {
            for head in 0..6 {
                let v = tensors.v.slice(s![row, head / 3, ..]);
                assert!(
                    found.slice(s![row, head, ..]).iter().zip(v).all(|(a, b)| a.to_bits() == b.to_bits())
                );
            }
        }
    }
}

#[test]
fn constant_v_is_returned() {
    let spec = spec(4, 2, 128);
    let batch = scoring(300, 77, &[20, 1, 0, 33, 300]);
    let plan = common::device::plan(&spec, kernels::default_tiling(16).unwrap(), &batch);
    let mut tensors = Tensors::<f32>::random(&spec, &batch, plan.bucket().tokens, 3);
    tensors.v.slice_mut(s![..batch.total_tokens, .., ..]).fill(0.75);
    tensors.kv_pages.slice_mut(s![.., 1, .., .., ..]).mapv_inplace(|x| if x.is_nan() { x } else { 0.75 });
    let found = common::device::attention(&spec, &plan, &tensors);
    let live = found.slice(s![..batch.total_tokens, .., ..]);
    assert!(live.iter().all(|x| (x - 0.75).abs() < 1e-6));
    assert!(
        found.slice(s![batch.total_tokens.., .., ..]).iter().all(|&x| x == 0.0),
        "padding rows are zeros"
    );
}

/// Runs a scene; returns the result and the rows of each item.
fn run(scene: &Scene, items: &[(u64, usize)], query: QueryIn) -> (Array3<f32>, Vec<std::ops::Range<usize>>) {
    let batch = scene.batch(items, query);
    let plan = common::device::plan(&scene.spec, kernels::default_tiling(16).unwrap(), &batch);
    let (tensors, places) = scene.tensors::<f32>(&batch, items, query, plan.bucket().tokens);
    (common::device::attention(&scene.spec, &plan, &tensors), places)
}

/// Greatest relative difference of item `id`'s rows between two runs; 0 means the same bits.
fn difference(
    a: &Array3<f32>,
    ra: std::ops::Range<usize>,
    b: &Array3<f32>,
    rb: std::ops::Range<usize>,
) -> f64 {
    if bits(a, ra.clone()) == bits(b, rb.clone()) {
        return 0.0;
    }
    relative_error(a.slice(s![ra, .., ..]), b.slice(s![rb, .., ..]).mapv(f64::from).view())
}

#[test]
fn an_item_keeps_its_bits_whatever_its_siblings_hold_and_however_equal_items_are_permuted() {
    for (q_heads, kv_heads, head_dim, lead, len, n) in
        [(16, 8, 128, 700, 20, 30), (9, 3, 64, 90, 33, 17), (4, 1, 256, 513, 5, 64)]
    {
        let scene = Scene { spec: spec(q_heads, kv_heads, head_dim), query: lead, seed: 11 };
        let base: Vec<_> = (0..n).map(|id| (id, len)).collect();
        let (first, at) = run(&scene, &base, QueryIn::Pass);

        let mut siblings = base.clone();
        siblings.iter_mut().filter(|i| i.0 != 5).for_each(|i| i.0 += 1000);
        let (other, _) = run(&scene, &siblings, QueryIn::Pass);
        assert_eq!(bits(&first, at[5].clone()), bits(&other, at[5].clone()), "content of siblings");

        let mut order = base.clone();
        Random::new(9).shuffle(&mut order);
        let (permuted, _) = run(&scene, &order, QueryIn::Pass);
        for (place, &(id, _)) in order.iter().enumerate() {
            assert_eq!(
                bits(&first, at[id as usize].clone()),
                bits(&permuted, at[place].clone()),
                "item {id} at place {place} of {q_heads}/{kv_heads} x {head_dim}"
            );
        }
    }
}

/// Number, order and packing of items of mixed lengths; lead or cached prefix. The same bits are promised where
/// the backend's matmuls group sums by position alone; never more than 1e-6 relative.
#[test]
fn an_item_is_independent_of_number_order_and_packing() {
    let mut worst: f64 = 0.0;
    let mut same = 0;
    let mut all = 0;
    for (q_heads, kv_heads, head_dim, lead) in [(16, 8, 128, 700), (9, 3, 64, 90), (4, 1, 256, 513)] {
        let scene = Scene { spec: spec(q_heads, kv_heads, head_dim), query: lead, seed: 5 };
        let mut random = Random::new(1);
        let items: Vec<(u64, usize)> = (0..40).map(|id| (id, 1 + random.below(150))).collect();
        let (first, at) = run(&scene, &items, QueryIn::Pass);
        // An item alone on a cached query is a pass smaller than a slot tile.
        for (count, query) in [
            (8, QueryIn::Pass),
            (20, QueryIn::Pages),
            (32, QueryIn::Pass),
            (1, QueryIn::Pages),
            (1, QueryIn::Pages),
            (2, QueryIn::Pages),
        ] {
            let mut chosen = items.clone();
            random.shuffle(&mut chosen);
            chosen.truncate(count);
            let (out, places) = run(&scene, &chosen, query);
            for (&(id, _), place) in chosen.iter().zip(places) {
                let d = difference(&out, place, &first, at[id as usize].clone());
                worst = worst.max(d);
                same += usize::from(d == 0.0);
                all += 1;
            }
        }
    }
    println!("{same} of {all} items keep their bits; greatest relative difference {worst:e}");
    assert!(worst <= 1e-6, "greatest relative difference {worst:e}");
}

#[test]
fn a_new_composition_of_a_bucket_compiles_nothing() {
    let spec = spec(4, 4, 64);
    let tiling = kernels::default_tiling(16).unwrap();
    let mut buckets = HashSet::new();
    let mut texts = HashSet::new();
    for items in
        [vec![20; 60], vec![25; 48], vec![19; 63], vec![600, 500], vec![1200], vec![1; 1100], vec![33; 35]]
    {
        let batch = scoring(0, 40, &items);
        let plan = common::device::plan(&spec, tiling, &batch);
        buckets.insert(plan.bucket());
        let tensors = Tensors::<f32>::random(&spec, &batch, plan.bucket().tokens, 3);
        common::device::attention(&spec, &plan, &tensors);
        let function = kernels::attention("attention", &spec, &tiling, &plan.bucket(), tensors.pool_pages());
        texts.insert(function.unwrap().module());
    }
    assert_eq!((buckets.len(), texts.len()), (1, 1), "{buckets:?}");
    let before = common::device::client().cache_stats();
    common::device::client().compile(texts.iter().next().unwrap(), &CompileOptions::new()).unwrap();
    let after = common::device::client().cache_stats();
    assert_eq!(after.memory_hits, before.memory_hits + 1);
}

#[test]
fn every_declared_variant_compiles_and_hostile_shapes_are_refused() {
    use tpu_rpa::kernels::VariantShape::{Attention, KvWrite, LabelLogprobs, LabelSoftmax};
    for variant in kernels::variants().unwrap() {
        let function = match &variant.shape {
            Attention(spec) => {
                let tiling = kernels::default_tiling(spec.page_size()).unwrap();
                let batch = Batch::new(
                    spec.page_size(),
                    &[GroupShape { prefix_len: 40, lead: false, segments: vec![20, 3] }],
                    1,
                );
                let plan = common::device::plan(spec, tiling, &batch);
                kernels::attention("k", spec, &tiling, &plan.bucket(), batch.pool_pages).unwrap()
            }
            KvWrite(spec) => kernels::kv_write("k", spec, 32, 4).unwrap(),
            LabelLogprobs(spec) => kernels::label_logprobs("k", spec, 32, 4).unwrap(),
            LabelSoftmax(spec) => kernels::label_softmax("k", spec, 32, 4).unwrap(),
            other => panic!("{other:?} is not tested"),
        };
        common::device::client()
            .compile(&function.module(), &CompileOptions::new())
            .unwrap_or_else(|e| panic!("{}: {e}", variant.id));
    }
    let spec = spec(4, 4, 64);
    let tiling = kernels::default_tiling(16).unwrap();
    let bucket = common::device::plan(&spec, tiling, &scoring(0, 4, &[4])).bucket();
    let refused = |name: &str, bucket: tpu_rpa::batch::Bucket, pages: usize| {
        kernels::attention(name, &spec, &tiling, &bucket, pages).unwrap_err()
    };
    assert!(matches!(refused("a b", bucket, 1), KernelError::Name { .. }));
    assert!(matches!(refused("1a", bucket, 1), KernelError::Name { .. }));
    assert!(matches!(refused("a", bucket, 0), KernelError::Shape { field: "pool_pages", .. }));
    let odd = tpu_rpa::batch::Bucket { tokens: bucket.tokens + 1, ..bucket };
    assert!(matches!(refused("a", odd, 1), KernelError::Shape { field: "bucket.tokens", .. }));
    let short = tpu_rpa::batch::Bucket { meta_words: 10, ..bucket };
    assert!(matches!(refused("a", short, 1), KernelError::Shape { field: "bucket.meta_words", .. }));
}
