//! The Mosaic label kernels, executed by the emulator, against the f64 reference.
#![cfg(feature = "emulator")]

use common::mosaic::LabelCase;
use common::{Element, cases, property};
use half::bf16;
use ndarray::Array2;
use proptest::prelude::*;
use tpu_rpa::emulator::{self, Emulator, GridOrder, ReductionOrder, RunOptions};
use tpu_rpa::kernels::{self, KernelError, LabelOutput, LabelTiling};
use tpu_rpa::reference::absolute_error;
use tpu_rpa::spec::{DType, LabelLogprobsSpec, LabelSet};

fn emulator(text: &str) -> Emulator {
    let kernel = Emulator::new(text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(kernel.check_alignment(), [], "the compiler would refuse this");
    kernel
}

/// Runs the log-prob kernel over tokens `shard` of the vocabulary.
fn logprobs<E: Element + emulator::Element>(
    case: &LabelCase<E>,
    shard: std::ops::Range<usize>,
    output: LabelOutput,
    options: &RunOptions,
) -> Array2<f32> {
    let (text, operands, tiling) = case.logprobs(shard.clone(), output);
    let outcome = emulator(&text).run_with(&operands, options).unwrap_or_else(|e| panic!("{e}"));
    let blocks = shard.len().div_ceil(tiling.vocab_block) * tiling.padded_rows / tiling.row_block;
    assert_eq!(outcome.report.count("vocab_blocks") as usize, blocks);
    case.turned(&outcome.outputs[0], output)
}

fn whole<E: Element + emulator::Element>(case: &LabelCase<E>, options: &RunOptions) -> Array2<f32> {
    logprobs(case, 0..case.lm_head.nrows(), LabelOutput::Logprobs, options)
}

/// Runs the softmax over labels.
fn softmax<E: Element + emulator::Element>(case: &LabelCase<E>, options: &RunOptions) -> Array2<f32> {
    let (text, operands, tiling) = case.softmax();
    let outcome = emulator(&text).run_with(&operands, options).unwrap_or_else(|e| panic!("{e}"));
    let steps = tiling.label_steps * tiling.padded_rows / tiling.row_block;
    assert_eq!(outcome.report.count("label_blocks") as usize, steps);
    case.turned(&outcome.outputs[0], LabelOutput::Logprobs)
}

/// Sums of `hidden` products of size `peak` in f32, and a logarithm of `tokens` such; bf16 inputs are multiplied exactly,
/// so the bound is theirs too. One bf16 rounding of a logit of size `peak` alone would be `peak / 512`.
fn bound(peak: f32, hidden: usize, tokens: usize) -> f64 {
    1e-6 * (f64::from(peak) * (hidden as f64).sqrt() + (tokens as f64).ln())
}

/// Both kernels against f64: within [`bound`], and within twice the error of a plain f32 evaluation.
fn agree<E: Element + emulator::Element>(
    case: &LabelCase<E>,
    peak: f32,
    options: &RunOptions,
) -> Result<(), String> {
    let bound = bound(peak, case.hidden.ncols(), case.lm_head.nrows());
    for (kernel, (error, plain)) in [
        ("log-probs", case.logprob_errors(&whole(case, options))),
        ("softmax", case.softmax_errors(&softmax(case, options))),
    ] {
        // A plain evaluation may be exact by luck on a few rows: some units in the last place of a logit besides.
        let least = bound.min(2.0 * plain + 1e-6 * f64::from(peak.max(1.0)));
        if error > least {
            return Err(format!(
                "{kernel} of {} tokens: off by {error:e}, plain {plain:e}, bound {least:e}",
                case.lm_head.nrows()
            ));
        }
    }
    Ok(())
}

/// Vocabularies around multiples of the block; one of up to 151,936 tokens in 16.
fn vocabularies() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 1000..=2100usize,
        4 => (1..=8usize, -2..=2i64).prop_map(|(n, by)| (1024 * n as i64 + by) as usize),
        2 => 1..=300usize,
        1 => 20_000..=30_000usize,
        1 => prop::sample::select(vec![32_000usize, 49_152, 50_257, 128_256, 151_643, 151_936]),
    ]
}

#[test]
fn agree_with_f64_for_any_vocabulary_size() {
    let strategy = || {
        let labels = (1..=32usize, any::<bool>())
            .prop_map(|(n, shared)| if shared { LabelSet::Shared(n) } else { LabelSet::PerRow(n) });
        let shape =
            (prop_oneof![6 => 1..=20usize, 1 => 100..=300usize], prop_oneof![Just(64usize), 1..=200usize]);
        let order = (any::<bool>(), 0..3usize, any::<u64>());
        (shape, vocabularies(), labels, 0.1f32..30.0, any::<bool>(), order)
    };
    property(cases(400), 20, strategy, |((rows, hidden), vocab, labels, peak, f32, (tree, grid, seed))| {
        // The reference takes its time.
        let (rows, hidden) = if vocab > 5000 { (rows.min(3), hidden.min(64)) } else { (rows, hidden) };
        let options = RunOptions::default()
            .sums(if tree { ReductionOrder::BalancedTree } else { ReductionOrder::Sequential })
            .grid_order([GridOrder::Sequential, GridOrder::Reversed, GridOrder::Permuted][grid])
            .seed(seed);
        let result = if f32 {
            agree(&LabelCase::<f32>::new(rows, hidden, vocab, labels, peak, seed), peak, &options)
        } else {
            agree(&LabelCase::<bf16>::new(rows, hidden, vocab, labels, peak, seed), peak, &options)
        };
        result.map_err(TestCaseError::fail)
    });
}

#[test]
fn more_labels_than_a_block_make_one_softmax() {
    for labels in [LabelSet::Shared(1000), LabelSet::Shared(200), LabelSet::PerRow(40)] {
        let case = LabelCase::<bf16>::new(140, 64, 1500, labels, 3.0, 8);
        let (error, plain) = case.softmax_errors(&softmax(&case, &RunOptions::default()));
        assert!(error <= 2.0 * plain + 1e-6, "{labels:?}: {error:e}, plain {plain:e}");
    }
}

#[test]
fn a_row_is_scored_alike_in_any_company() {
    for labels in [LabelSet::PerRow(2), LabelSet::Shared(9)] {
        for sums in [ReductionOrder::Sequential, ReductionOrder::BalancedTree] {
            let options = RunOptions::default().sums(sums);
            let case = LabelCase::<bf16>::new(700, 64, 4500, labels, 2.0, 11);
            let (all, soft) = (whole(&case, &options), softmax(&case, &options));
            for at in [0, 383, 384, 699] {
                let one = case.row(at);
                for (alone, all) in [(whole(&one, &options), &all), (softmax(&one, &options), &soft)] {
                    let bits = |row: ndarray::ArrayView1<'_, f32>| row.mapv(f32::to_bits);
                    assert_eq!(bits(alone.row(0)), bits(all.row(at)), "row {at}, {labels:?}, {sums:?}");
                }
            }
        }
    }
}

#[test]
fn shards_of_a_vocabulary_combine_to_the_whole() {
    let (rows, hidden, vocab, peak) = (20, 128, 6001, 5.0);
    for labels in [LabelSet::PerRow(6), LabelSet::Shared(4)] {
        let case = LabelCase::<bf16>::new(rows, hidden, vocab, labels, peak, 3);
        let options = RunOptions::default();
        let whole = whole(&case, &options);
        for cuts in [vec![0, 3000, 6001], vec![0, 1000, 3048, 6001]] {
            let parts: Vec<Array2<f32>> = cuts
                .windows(2)
                .map(|c| logprobs(&case, c[0]..c[1], LabelOutput::Partials, &options))
                .collect();
            let combined = Array2::from_shape_fn(whole.dim(), |(r, j)| {
                let max = parts.iter().map(|p| p[[r, 0]]).fold(f32::MIN, f32::max);
                let sum: f32 = parts.iter().map(|p| p[[r, 1]] * (p[[r, 0]] - max).exp()).sum();
                let logit: f32 = parts.iter().map(|p| p[[r, 2 + j]]).sum();
                f64::from((logit - max) - sum.ln())
            });
            let error = absolute_error(whole.view(), combined.view());
            assert!(
                error <= bound(peak, hidden, vocab),
                "{labels:?}: {} shards differ by {error:e}",
                parts.len()
            );
        }
    }
}

/// Everything on the chip at once is blocks; rows x vocabulary would be 297 MiB.
#[test]
fn logits_of_all_rows_and_tokens_never_exist() {
    let (rows, vocab, hidden) = (512, 151_936, 1024);
    let spec = LabelLogprobsSpec::new(hidden, vocab, LabelSet::Shared(2), DType::Bf16).unwrap();
    let tiling = LabelTiling::new(&spec, rows, LabelOutput::Logprobs).unwrap();
    assert_eq!((tiling.vocab_block, tiling.row_block, tiling.padded_rows), (2048, 512, 512));
    let text = kernels::label_logprobs_mosaic("labels", &spec, 600, rows, LabelOutput::Logprobs).unwrap();
    let memory = Emulator::new(&text).unwrap().memory();
    // Two windows each of rows and results; the vocabulary's last block, and a ring of four; maximum, sum and a factor;
    // one block of logits.
    let block = tiling.vocab_block * hidden * 2;
    let windows = 2 * (rows * hidden * 2 + 8 * rows * 4) + block;
    let scratch = 4 * block + 3 * 8 * rows * 4 + tiling.vocab_block * rows * 4;
    assert_eq!((memory.vmem_windows, memory.vmem_scratch), (windows, scratch));
    let widest = vectors(&text).max().unwrap();
    assert_eq!(widest, tiling.vocab_block / 2 * hidden, "the widest value is half a block of the LM head");
    // Outside the kernels: rows gathered and labels, nothing with a vocabulary but the LM head.
    for function in [
        kernels::label_logprobs_tpu("labels", &spec, 600, rows).unwrap(),
        kernels::label_softmax_tpu("labels", &spec, 600, rows).unwrap(),
    ] {
        let vocabularies = function.text().matches(&format!("{vocab}x")).count();
        assert_eq!(vocabularies, function.text().matches(&format!("tensor<{vocab}x{hidden}xbf16>")).count());
    }
    // The softmax over labels never sees the vocabulary at all.
    let text = kernels::label_softmax_mosaic("labels", &spec, 600, rows).unwrap();
    let memory = Emulator::new(&text).unwrap().memory();
    // Two windows each of rows, label rows of the LM head (a tile of 8) and results.
    assert_eq!(
        (memory.vmem(), vectors(&text).max()),
        (2 * (rows * hidden * 2 + 8 * hidden * 2 + 8 * rows * 4), Some(rows * hidden))
    );
    assert!(!text.contains("151936"));
}

/// Elements of every vector type in a text.
fn vectors(text: &str) -> impl Iterator<Item = usize> {
    text.split("vector<").skip(1).filter_map(|rest| {
        let dims: Option<Vec<usize>> =
            rest.split_once('>')?.0.rsplit_once('x')?.0.split('x').map(|d| d.parse().ok()).collect();
        Some(dims?.into_iter().product())
    })
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refusal = |hidden, labels, dtype| {
        let spec = LabelLogprobsSpec::new(hidden, 1000, LabelSet::Shared(labels), dtype).unwrap();
        kernels::label_logprobs_tpu("labels", &spec, 10, 10).unwrap_err()
    };
    let error = refusal(64, 33, DType::F32);
    assert!(matches!(error, KernelError::Shape { field: "labels", value: 33, .. }), "{error}");
    for (dtype, most) in [(DType::F32, 11_629), (DType::Bf16, 23_259)] {
        let error = refusal(most + 1, 2, dtype);
        assert!(matches!(error, KernelError::Shape { field: "hidden", .. }), "{error}");
        assert!(error.to_string().contains(&format!("at most {most}")), "{error}");
        let spec = LabelLogprobsSpec::new(most, 1000, LabelSet::Shared(2), dtype).unwrap();
        kernels::label_logprobs_tpu("labels", &spec, 10, 10).unwrap_or_else(|e| panic!("{e}"));
    }

    let softmax = |hidden, labels| {
        let spec = LabelLogprobsSpec::new(hidden, 1000, labels, DType::Bf16).unwrap();
        kernels::label_softmax_tpu("labels", &spec, 10, 10)
    };
    for (hidden, labels, field) in [
        (80_000, LabelSet::Shared(2), "hidden"),
        (80_000, LabelSet::PerRow(2), "hidden"),
        (1024, LabelSet::Shared(30_000), "labels"),
        (1024, LabelSet::PerRow(30_000), "labels"),
    ] {
        let error = softmax(hidden, labels).unwrap_err();
        let named = matches!(&error, KernelError::Shape { field: f, .. } if *f == field);
        assert!(named && error.to_string().contains("VMEM"), "{error}");
    }
    softmax(1024, LabelSet::Shared(10_000)).unwrap_or_else(|e| panic!("{e}"));
}
