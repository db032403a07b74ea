//! The Mosaic label log-probs, executed by the emulator, against the f64 reference.
#![cfg(feature = "emulator")]

#[path = "common/mod.rs"]
mod common;

use common::{Element, Random, normal};
use half::bf16;
use ndarray::{Array2, Axis, s};
use tpu_rpa::emulator::{self, ElementType, Emulator, Operands, ReductionOrder, RunOptions, Tensor};
use tpu_rpa::kernels::{self, KernelError, LabelOutput, LabelTiling};
use tpu_rpa::reference::{self, Labels, absolute_error};
use tpu_rpa::spec::{DType, LabelLogprobsSpec, LabelSet};

/// Hidden rows to score, an LM head, and labels: those of row `r` are `ids[r]`.
struct Case<E> {
    hidden: Array2<E>,
    lm_head: Array2<E>,
    rows: Vec<i32>,
    ids: Array2<i32>,
}

impl<E: Element + emulator::Element> Case<E> {
    /// First and last id and a duplicate are among the labels, and none or all rows share them.
    fn new(rows: usize, hidden: usize, vocab: usize, labels: LabelSet, peak: f32, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let tokens = rows + 3;
        let scaled = |x: E, by: f32| E::from_f32(Into::<f32>::into(x) * by);
        let hidden_rows = normal::<E, _, _>((tokens, hidden), &mut random).mapv(|x| scaled(x, peak));
        let lm_head =
            normal::<E, _, _>((vocab, hidden), &mut random).mapv(|x| scaled(x, (hidden as f32).powf(-0.5)));
        let picked = (0..rows).map(|_| random.below(tokens) as i32).collect();
        let n = labels.len();
        let mut ids = Array2::from_shape_simple_fn((rows, n), || random.below(vocab) as i32);
        ids[[0, 0]] = 0;
        ids[[0, n - 1]] = vocab as i32 - 1;
        if n > 2 {
            ids[[0, 1]] = 0;
        }
        if let LabelSet::Shared(_) = labels {
            let first = ids.row(0).to_owned();
            ids.rows_mut().into_iter().for_each(|mut row| row.assign(&first));
        }
        Case { hidden: hidden_rows, lm_head, rows: picked, ids }
    }

    /// Runs the kernel over tokens `shard` of the vocabulary, as the StableHLO function around it does.
    fn run(&self, shard: std::ops::Range<usize>, output: LabelOutput, sums: ReductionOrder) -> Array2<f32> {
        let (rows, n) = self.ids.dim();
        let hidden = self.hidden.ncols();
        let dtype = if E::TYPE == ElementType::F32 { DType::F32 } else { DType::Bf16 };
        let spec = LabelLogprobsSpec::new(hidden, shard.len(), LabelSet::PerRow(n), dtype).unwrap();
        let tiling = LabelTiling::new(&spec, rows, output).unwrap();
        let first = if output == LabelOutput::Partials { 2 } else { 0 };
        let mut ids = Array2::from_elem((tiling.label_rows, tiling.padded_rows), -1);
        ids.slice_mut(s![first..first + n, ..rows]).assign(&self.ids.t().mapv(|id| id - shard.start as i32));
        let mut picked: Vec<usize> = self.rows.iter().map(|&r| r as usize).collect();
        picked.resize(tiling.padded_rows, 0);
        let operands = Operands::new()
            .input(Tensor::from_array(ids.view()).unwrap())
            .input(Tensor::from_array(self.hidden.select(Axis(0), &picked).view()).unwrap())
            .input(Tensor::from_array(self.lm_head.slice(s![shard.clone(), ..])).unwrap())
            .output(ElementType::F32, &[tiling.label_rows, tiling.padded_rows]);
        let text =
            kernels::label_logprobs_mosaic("labels", &spec, self.hidden.nrows(), rows, output).unwrap();
        let kernel = Emulator::new(&text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(kernel.check_alignment(), [], "the compiler would refuse this");
        let outcome = kernel
            .run_all_policies(&operands, &RunOptions::default().sums(sums))
            .unwrap_or_else(|e| panic!("{e}"));
        let blocks = shard.len().div_ceil(tiling.vocab_block) * tiling.padded_rows / tiling.row_block;
        assert_eq!(outcome.report.count("vocab_blocks") as usize, blocks);
        let out = outcome.outputs[0].to_array::<f32>().unwrap();
        let out = out.into_dimensionality::<ndarray::Ix2>().unwrap();
        out.slice(s![..first + n, ..rows]).t().to_owned()
    }

    fn whole(&self, sums: ReductionOrder) -> Array2<f32> {
        self.run(0..self.lm_head.nrows(), LabelOutput::Logprobs, sums)
    }

    /// Greatest errors against f64, of the kernel and of a plain f32 evaluation of the same inputs.
    fn errors(&self, sums: ReductionOrder) -> (f64, f64) {
        let labels = Labels::PerRow(self.ids.view());
        let (hidden, head) = (self.hidden.view(), self.lm_head.view());
        let exact = reference::label_logprobs(hidden, &self.rows, head, labels);
        let plain = reference::label_logprobs_f32(hidden, &self.rows, head, labels);
        (absolute_error(self.whole(sums).view(), exact.view()), absolute_error(plain.view(), exact.view()))
    }
}

/// Sums of `hidden` products of size `peak` in f32; bf16 inputs are multiplied exactly, so the bound is theirs too.
/// One bf16 rounding of a logit of size `peak` alone would be `peak / 512`.
fn bound(peak: f32, hidden: usize) -> f64 {
    1e-6 * f64::from(peak) * (hidden as f64).sqrt()
}

#[test]
fn agrees_with_f64_for_any_vocabulary_size() {
    let cases = [
        (1, 128, 1000, LabelSet::Shared(1), 1.0),
        (7, 64, 1023, LabelSet::Shared(5), 1.0),
        (130, 128, 1024, LabelSet::PerRow(3), 4.0),
        (33, 128, 1025, LabelSet::PerRow(3), 1.0),
        (64, 96, 2049, LabelSet::Shared(32), 30.0),
        (16, 128, 8192, LabelSet::PerRow(9), 3.0),
        (40, 64, 20_011, LabelSet::PerRow(2), 3.0),
        (5, 64, 151_936, LabelSet::Shared(2), 3.0),
    ];
    for (i, (rows, hidden, vocab, labels, peak)) in cases.into_iter().enumerate() {
        for sums in [ReductionOrder::Sequential, ReductionOrder::BalancedTree] {
            let seed = i as u64;
            for (dtype, (error, plain)) in [
                ("f32", Case::<f32>::new(rows, hidden, vocab, labels, peak, seed).errors(sums)),
                ("bf16", Case::<bf16>::new(rows, hidden, vocab, labels, peak, seed).errors(sums)),
            ] {
                let bound = bound(peak, hidden);
                println!(
                    "{dtype} vocab {vocab} {sums:?}: {error:.1e}, plain f32 {plain:.1e}, bound {bound:.1e}"
                );
                assert!(error <= bound, "{dtype} vocab {vocab}: off by {error:e}, bound {bound:e}");
                assert!(error <= 2.0 * plain + 1e-6, "{dtype} vocab {vocab}: {error:e}, plain {plain:e}");
            }
        }
    }
}

#[test]
fn rows_beyond_one_block_are_scored_alike() {
    let case = Case::<bf16>::new(700, 64, 1500, LabelSet::PerRow(2), 2.0, 11);
    let all = case.whole(ReductionOrder::Sequential);
    for at in [0, 383, 384, 699] {
        let one = Case {
            hidden: case.hidden.clone(),
            lm_head: case.lm_head.clone(),
            rows: vec![case.rows[at]],
            ids: case.ids.slice(s![at..at + 1, ..]).to_owned(),
        };
        let alone = one.whole(ReductionOrder::Sequential);
        assert_eq!(alone.row(0).mapv(f32::to_bits), all.row(at).mapv(f32::to_bits), "row {at}");
    }
}

#[test]
fn shards_of_a_vocabulary_combine_to_the_whole() {
    let (rows, hidden, vocab, peak) = (20, 128, 3001, 5.0);
    let case = Case::<bf16>::new(rows, hidden, vocab, LabelSet::PerRow(6), peak, 3);
    let whole = case.whole(ReductionOrder::Sequential);
    for cuts in [vec![0, 1500, 3001], vec![0, 1000, 2024, 3001]] {
        let parts: Vec<Array2<f32>> = cuts
            .windows(2)
            .map(|c| case.run(c[0]..c[1], LabelOutput::Partials, ReductionOrder::Sequential))
            .collect();
        let combined = Array2::from_shape_fn(whole.dim(), |(r, j)| {
            let max = parts.iter().map(|p| p[[r, 0]]).fold(f32::MIN, f32::max);
            let sum: f32 = parts.iter().map(|p| p[[r, 1]] * (p[[r, 0]] - max).exp()).sum();
            let logit: f32 = parts.iter().map(|p| p[[r, 2 + j]]).sum();
            f64::from((logit - max) - sum.ln())
        });
        let error = absolute_error(whole.view(), combined.view());
        assert!(error <= bound(peak, hidden), "{} shards differ by {error:e}", parts.len());
    }
}

/// Everything on the chip at once is blocks; rows x vocabulary would be 297 MiB.
#[test]
fn logits_of_all_rows_and_tokens_never_exist() {
    let (rows, vocab, hidden) = (512, 151_936, 1024);
    let spec = LabelLogprobsSpec::new(hidden, vocab, LabelSet::Shared(2), DType::Bf16).unwrap();
    let tiling = LabelTiling::new(&spec, rows, LabelOutput::Logprobs).unwrap();
    assert_eq!((tiling.vocab_block, tiling.row_block, tiling.padded_rows), (1024, 512, 512));
    let text = kernels::label_logprobs_mosaic("labels", &spec, 600, rows, LabelOutput::Logprobs).unwrap();
    let memory = Emulator::new(&text).unwrap().memory();
    // Two windows each of labels, rows, LM head and results; maximum and sum. No scratch holds a logit.
    let windows = 2 * (8 * rows * 4 + rows * hidden * 2 + tiling.vocab_block * hidden * 2 + 8 * rows * 4);
    assert_eq!((memory.vmem_windows, memory.vmem_scratch), (windows, 2 * 8 * rows * 4));
    let widest = vectors(&text).max().unwrap();
    assert_eq!(widest, tiling.vocab_block * hidden, "the widest value is a block of the LM head");
    // Outside the kernel: rows gathered and labels, nothing with a vocabulary but the LM head.
    let function = kernels::label_logprobs_tpu("labels", &spec, 600, rows).unwrap();
    let vocabularies = function.text().matches(&format!("{vocab}x")).count();
    assert_eq!(vocabularies, function.text().matches(&format!("tensor<{vocab}x{hidden}xbf16>")).count());
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
    for (dtype, most) in [(DType::F32, 20_384), (DType::Bf16, 40_768)] {
        let error = refusal(most + 1, 2, dtype);
        assert!(matches!(error, KernelError::Shape { field: "hidden", .. }), "{error}");
        assert!(error.to_string().contains(&format!("at most {most}")), "{error}");
        let spec = LabelLogprobsSpec::new(most, 1000, LabelSet::Shared(2), dtype).unwrap();
        kernels::label_logprobs_tpu("labels", &spec, 10, 10).unwrap_or_else(|e| panic!("{e}"));
    }
}
