//! The functions for TPU against the portable kernels, on the same inputs: what is around the custom call runs on the PJRT
//! device, the Mosaic text in the emulator.
#![cfg(all(feature = "emulator", feature = "runtime"))]

use common::device::{DeviceElement, client};
use common::mosaic::{Bits, KvWriteCase, LabelCase, mosaic_plan, row_block_tiling};
use common::tpu_function::TpuFunction;
use common::{Batch, Errors, GroupShape, Random, Tensors};
use half::bf16;
use ndarray::{Array, Array2, Array3, ArrayView, Dimension};
use tpu_rpa::batch::Tiling;
use tpu_rpa::emulator::{self, RunOptions, Tensor};
use tpu_rpa::kernels::{self, Function};
use tpu_rpa::reference::{self, Labels, Rounding, absolute_error, relative_error};
use tpu_rpa::spec::{AttentionSpec, DType, LabelSet};

fn tensor<E: emulator::Element, D: Dimension>(array: ArrayView<'_, E, D>) -> Tensor {
    Tensor::from_array(array).unwrap()
}

fn ints(words: &[i32]) -> Tensor {
    Tensor::new(&[words.len()], words.to_vec()).unwrap()
}

fn scalar(word: i32) -> Tensor {
    Tensor::new(&[], vec![word]).unwrap()
}

/// A function for TPU.
fn on_tpu(function: &Function, inputs: &[Tensor]) -> Tensor {
    let run = TpuFunction::new(function.text()).and_then(|f| f.run(client(), inputs, &RunOptions::default()));
    run.unwrap_or_else(|e| panic!("{}: {e}", function.name())).0
}

/// A portable function.
fn portable(function: &Function, inputs: &[Tensor]) -> Tensor {
    let outputs = common::tpu_function::execute(client(), &function.module(), inputs);
    outputs.unwrap_or_else(|e| panic!("{}: {e}", function.name())).remove(0)
}

fn attention_agrees<E: DeviceElement + emulator::Element>(
    spec: &AttentionSpec,
    batch: &Batch,
    rounding: Rounding,
    luck: f64,
    row_blocks: usize,
) {
    let tiling = row_block_tiling(spec, 128, 64, row_blocks);
    let plan = mosaic_plan(spec, tiling, batch);
    let tensors = Tensors::<E>::random(spec, batch, plan.bucket().tokens, 9);
    let pool_pages = tensors.pool_pages();
    let function = kernels::attention_tpu("attention", spec, &tiling, &plan.bucket(), pool_pages).unwrap();
    let inputs = [
        tensor(tensors.q.view()),
        tensor(tensors.k.view()),
        tensor(tensors.v.view()),
        tensor(tensors.kv_pages.view()),
        ints(plan.meta()),
        scalar(tensors.first_page),
    ];
    let found = Array3::from_shape_vec(tensors.q.raw_dim(), on_tpu(&function, &inputs).to_f32()).unwrap();
    let errors = Errors::new(spec, batch, &tensors, &found, rounding);
    errors.check(luck).unwrap_or_else(|e| panic!("{spec:?}: {e}"));

    // The portable kernel takes a plan of its own, over a bucket of its own.
    let tiling = Tiling::portable(128, 128, 64, spec.page_size()).unwrap();
    let plan = common::device::plan(spec, tiling, batch);
    let rows = plan.bucket().tokens;
    let fit = |x: &Array3<E>| {
        let mut fitted = Array::from_elem((rows, x.dim().1, x.dim().2), E::from_f32(f32::NAN));
        let live = ndarray::s![..batch.total_tokens, .., ..];
        fitted.slice_mut(live).assign(&x.slice(live));
        fitted
    };
    let tensors = Tensors {
        q: fit(&tensors.q),
        k: fit(&tensors.k),
        v: fit(&tensors.v),
        kv_pages: tensors.kv_pages.clone(),
        ..tensors
    };
    let portable = common::device::attention(spec, &plan, &tensors).mapv(|x| f64::from(Into::<f32>::into(x)));
    let live = ndarray::s![..batch.total_tokens, .., ..];
    let apart = relative_error(found.slice(live), portable.slice(live));
    println!("{spec:?}: {apart:.1e} from the portable kernel, {:.1e} from f64", errors.kernel);
    assert!(apart <= 4.0 * errors.plain + 2.0 * luck, "{spec:?}: {apart:e} from the portable kernel");
}

#[test]
fn attention() {
    let shapes = [
        GroupShape { prefix_len: 300, lead: true, segments: vec![40, 20, 1, 0, 33] },
        GroupShape { prefix_len: 0, lead: true, segments: vec![150, 3, 3, 90] },
        GroupShape { prefix_len: 17, lead: false, segments: vec![1] },
    ];
    let specs = [
        AttentionSpec::builder(2, 2, 64).page_size(16),
        AttentionSpec::builder(4, 2, 128).page_size(128),
        AttentionSpec::builder(3, 1, 64).page_size(16).sliding_window(33),
        AttentionSpec::builder(4, 1, 256).page_size(64).soft_cap(20.0),
        AttentionSpec::builder(7, 1, 64).page_size(16),
        AttentionSpec::builder(8, 1, 128).page_size(16).soft_cap(5.0).sliding_window(200),
    ];
    for builder in specs {
        for dtype in [DType::F32, DType::Bf16] {
            let spec = builder.clone().dtype(dtype).build().unwrap();
            let batch = Batch::new(spec.page_size(), &shapes, 4);
            for row_blocks in [1, 2] {
                if dtype == DType::F32 {
                    let luck = 1e-6 * common::score_size(&spec);
                    attention_agrees::<f32>(&spec, &batch, Rounding::F32, luck, row_blocks);
                } else {
                    attention_agrees::<bf16>(&spec, &batch, Rounding::Bf16Operands, 1.0 / 256.0, row_blocks);
                }
            }
        }
    }
}

fn kv_write_agrees<E: DeviceElement + Bits>(seed: u64) {
    let case = KvWriteCase::<E>::random(seed);
    let tpu = kernels::kv_write_tpu("kv_write", &case.spec, case.rows(), case.pool_pages()).unwrap();
    let here = kernels::kv_write("kv_write", &case.spec, case.rows(), case.pool_pages()).unwrap();
    let [k, v, pages] = [tensor(case.k.view()), tensor(case.v.view()), tensor(case.pages.view())];
    let [table, slots] = [ints(&case.chunk_table()), ints(case.slots.words(&case.plan).unwrap())];
    let both = |first_page: i32| {
        let inputs =
            |slots: &Tensor| [k.clone(), v.clone(), pages.clone(), slots.clone(), scalar(first_page)];
        let written = on_tpu(&tpu, &inputs(&table));
        assert_eq!(written, portable(&here, &inputs(&slots)), "seed {seed}, first page {first_page}");
        written
    };
    assert!(case.is_expected(&both(case.first_page)), "seed {seed}");
    // With a slot outside the pool nothing is written.
    let last = case.slots.slots().iter().max().copied().unwrap_or(-1);
    let behind = case.pool_pages() as i32 - last.max(0) / case.spec.page_size() as i32;
    for outside in [-1, behind, i32::MIN, i32::MAX] {
        assert_eq!(both(outside), pages, "seed {seed}: bits of the pages");
    }
}

#[test]
fn kv_write() {
    for seed in 0..6 {
        kv_write_agrees::<f32>(seed);
        kv_write_agrees::<bf16>(seed + 100);
    }
}

fn labels_agree<E: DeviceElement + emulator::Element>(case: &LabelCase<E>, bound: f64) {
    let (spec, tokens, rows) = (case.spec(), case.hidden.nrows(), case.rows.len());
    let ids = match case.labels {
        LabelSet::Shared(_) => tensor(case.ids.row(0)),
        LabelSet::PerRow(_) => tensor(case.ids.view()),
    };
    let inputs = [tensor(case.hidden.view()), tensor(case.lm_head.view()), ints(&case.rows), ids];
    let array = |t: Tensor| Array2::from_shape_vec(case.ids.raw_dim(), t.to_f32()).unwrap();
    for (tpu, here) in [
        (
            kernels::label_logprobs_tpu("l", &spec, tokens, rows),
            kernels::label_logprobs("l", &spec, tokens, rows),
        ),
        (
            kernels::label_softmax_tpu("l", &spec, tokens, rows),
            kernels::label_softmax("l", &spec, tokens, rows),
        ),
    ] {
        let (tpu, here) = (array(on_tpu(&tpu.unwrap(), &inputs)), array(portable(&here.unwrap(), &inputs)));
        let apart = absolute_error(tpu.view(), here.mapv(f64::from).view());
        println!("{spec:?}: {apart:.1e} apart");
        assert!(apart <= 2.0 * bound, "{spec:?}: {apart:e} apart, bound {bound:e}");
    }
    let function = kernels::label_logprobs_tpu("l", &spec, tokens, rows).unwrap();
    let (error, _) = case.logprob_errors(&array(on_tpu(&function, &inputs)));
    assert!(error <= bound, "log-probs off by {error:e}, bound {bound:e}");
    let function = kernels::label_softmax_tpu("l", &spec, tokens, rows).unwrap();
    let (error, _) = case.softmax_errors(&array(on_tpu(&function, &inputs)));
    assert!(error <= bound, "softmax off by {error:e}, bound {bound:e}");
}

#[test]
fn labels() {
    for (rows, hidden, vocab, labels, peak) in [
        (7, 64, 1000, LabelSet::Shared(5), 1.0),
        (33, 128, 2049, LabelSet::PerRow(3), 4.0),
        (140, 96, 3001, LabelSet::PerRow(9), 30.0),
        (5, 64, 49_152, LabelSet::Shared(2), 3.0),
    ] {
        // As in the tests of either alone.
        let bound = 1e-6 * f64::from(peak) * (hidden as f64).sqrt();
        labels_agree(&LabelCase::<f32>::new(rows, hidden, vocab, labels, peak, 1), bound);
        labels_agree(&LabelCase::<bf16>::new(rows, hidden, vocab, labels, peak, 2), bound);
    }
}

/// What is no number in a hidden row is no number in its results and in nobody else's, in the LM head in all that sum over it.
fn labels_keep_nan<E: DeviceElement + emulator::Element>(random: &mut Random, labels: LabelSet) {
    let mut case = LabelCase::<E>::new(9, 64, 700, labels, 1.0, random.next_u64());
    let value = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][random.below(3)];
    let (of_head, picked) = (random.below(2) == 0, random.below(2) == 0);
    let place = if of_head { &mut case.lm_head } else { &mut case.hidden };
    let row = match (of_head, picked) {
        (false, true) => case.rows[random.below(9)] as usize,
        (true, true) => case.ids[[random.below(9), random.below(case.ids.ncols())]] as usize,
        (_, false) => random.below(place.nrows()),
    };
    place[[row, random.below(64)]] = E::from_f32(value);
    let (spec, tokens, ids) = (case.spec(), case.hidden.nrows(), Labels::PerRow(case.ids.view()));
    let given = match labels {
        LabelSet::Shared(_) => tensor(case.ids.row(0)),
        LabelSet::PerRow(_) => tensor(case.ids.view()),
    };
    let inputs = [tensor(case.hidden.view()), tensor(case.lm_head.view()), ints(&case.rows), given];
    let (hidden, head) = (case.hidden.view(), case.lm_head.view());
    for (tpu, here, exact) in [
        (
            kernels::label_logprobs_tpu("l", &spec, tokens, 9),
            kernels::label_logprobs("l", &spec, tokens, 9),
            reference::label_logprobs(hidden, &case.rows, head, ids),
        ),
        (
            kernels::label_softmax_tpu("l", &spec, tokens, 9),
            kernels::label_softmax("l", &spec, tokens, 9),
            reference::label_softmax(hidden, &case.rows, head, ids),
        ),
    ] {
        let results =
            [("TPU", on_tpu(&tpu.unwrap(), &inputs)), ("portable", portable(&here.unwrap(), &inputs))];
        for (name, result) in results {
            for ((&exact, found), at) in exact.iter().zip(result.to_f32()).zip(0..) {
                let right = match exact.is_nan() {
                    true => found.is_nan(),
                    false => f64::from(found) == exact || (f64::from(found) - exact).abs() < 1e-3,
                };
                let of = if of_head { "LM head" } else { "hidden" };
                assert!(
                    right,
                    "{name}: {value} in row {row} of {of}: {found} at {at}, f64 has {exact}; {spec:?}"
                );
            }
        }
    }
}

#[test]
fn labels_that_are_no_numbers() {
    let mut random = Random::new(std::process::id().into());
    for _ in 0..6 {
        for labels in [LabelSet::Shared(4), LabelSet::PerRow(3)] {
            labels_keep_nan::<f32>(&mut random, labels);
            labels_keep_nan::<bf16>(&mut random, labels);
        }
    }
}
