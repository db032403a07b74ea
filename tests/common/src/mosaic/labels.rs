use ndarray::{Array2, Axis, Ix2, s};
use tpu_rpa::emulator::{self, ElementType, Operands, Tensor};
use tpu_rpa::kernels::{self, LabelOutput, LabelSoftmaxTiling, LabelTiling};
use tpu_rpa::reference::{self, Labels, absolute_error};
use tpu_rpa::spec::{DType, LabelLogprobsSpec, LabelSet};

use crate::{Element, Random, normal};

/// Hidden rows to score, an LM head, and labels: those of row `r` are `ids[r]`.
pub struct LabelCase<E> {
    pub hidden: Array2<E>,
    pub lm_head: Array2<E>,
    pub rows: Vec<i32>,
    pub ids: Array2<i32>,
    pub labels: LabelSet,
}

impl<E: Element + emulator::Element> LabelCase<E> {
    /// First and last id and a duplicate are among the labels; rows share them as `labels` says. Logits are of size
    /// `peak`.
    pub fn new(rows: usize, hidden: usize, vocab: usize, labels: LabelSet, peak: f32, seed: u64) -> Self {
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
        LabelCase { hidden: hidden_rows, lm_head, rows: picked, ids, labels }
    }

    pub fn spec(&self) -> LabelLogprobsSpec {
        self.spec_of(self.lm_head.nrows())
    }

    fn spec_of(&self, vocab: usize) -> LabelLogprobsSpec {
        let dtype = if E::TYPE == ElementType::F32 { DType::F32 } else { DType::Bf16 };
        LabelLogprobsSpec::new(self.hidden.ncols(), vocab, self.labels, dtype).unwrap()
    }

    /// Row `at` alone.
    pub fn row(&self, at: usize) -> Self {
        LabelCase {
            hidden: self.hidden.clone(),
            lm_head: self.lm_head.clone(),
            rows: vec![self.rows[at]],
            ids: self.ids.slice(s![at..at + 1, ..]).to_owned(),
            labels: self.labels,
        }
    }

    /// Label log-probs over tokens `shard` of the vocabulary: text, operands, tiling.
    pub fn logprobs(
        &self,
        shard: std::ops::Range<usize>,
        output: LabelOutput,
    ) -> (String, Operands, LabelTiling) {
        let (rows, n) = self.ids.dim();
        let spec = self.spec_of(shard.len());
        let tiling = LabelTiling::new(&spec, rows, output).unwrap();
        let first = columns(output);
        let of_shard = self.ids.mapv(|id| id - shard.start as i32);
        let ids = match self.labels {
            LabelSet::Shared(_) => Tensor::from_array(of_shard.row(0)).unwrap(),
            LabelSet::PerRow(_) => {
                let mut ids = Array2::from_elem((tiling.label_rows, tiling.padded_rows), -1);
                ids.slice_mut(s![first..first + n, ..rows]).assign(&of_shard.t());
                Tensor::from_array(ids.view()).unwrap()
            }
        };
        let head = Tensor::from_array(self.lm_head.slice(s![shard.clone(), ..])).unwrap();
        let operands = Operands::new()
            .input(ids)
            .input(self.picked(tiling.padded_rows))
            .input(head.clone())
            .input(head)
            .output(ElementType::F32, &[tiling.label_rows, tiling.padded_rows]);
        let text =
            kernels::label_logprobs_mosaic("labels", &spec, self.hidden.nrows(), rows, output).unwrap();
        (text, operands, tiling)
    }

    /// Softmax over the labels: text, operands, tiling.
    pub fn softmax(&self) -> (String, Operands, LabelSoftmaxTiling) {
        let (rows, n) = self.ids.dim();
        let spec = self.spec();
        let tiling = LabelSoftmaxTiling::new(&spec, rows).unwrap();
        let ids: Vec<usize> = match self.labels {
            LabelSet::Shared(_) => {
                let shared = self.ids.row(0);
                let ids = shared.iter().map(|&id| id as usize);
                ids.chain(std::iter::repeat(0)).take(tiling.label_rows).collect()
            }
            LabelSet::PerRow(_) => {
                let mut ids = Array2::zeros((n, tiling.padded_rows));
                ids.slice_mut(s![.., ..rows]).assign(&self.ids.t().mapv(|id| id as usize));
                ids.into_iter().collect()
            }
        };
        let w = self.lm_head.select(Axis(0), &ids);
        let w = match self.labels {
            LabelSet::Shared(_) => Tensor::from_array(w.view()),
            LabelSet::PerRow(_) => {
                Tensor::new(&[n, tiling.padded_rows, w.ncols()], w.into_iter().collect::<Vec<_>>())
            }
        };
        let operands = Operands::new()
            .input(self.picked(tiling.padded_rows))
            .input(w.unwrap())
            .output(ElementType::F32, &[tiling.label_rows, tiling.padded_rows]);
        let text = kernels::label_softmax_mosaic("labels", &spec, self.hidden.nrows(), rows).unwrap();
        (text, operands, tiling)
    }

    /// The hidden rows to score, padded with row 0.
    fn picked(&self, padded_rows: usize) -> Tensor {
        let mut picked: Vec<usize> = self.rows.iter().map(|&r| r as usize).collect();
        picked.resize(padded_rows, 0);
        Tensor::from_array(self.hidden.select(Axis(0), &picked).view()).unwrap()
    }

    /// A kernel's result as `[rows, labels]`, columns of `output` in front.
    pub fn turned(&self, result: &Tensor, output: LabelOutput) -> Array2<f32> {
        let out = result.to_array::<f32>().unwrap().into_dimensionality::<Ix2>().unwrap();
        let (rows, n) = self.ids.dim();
        out.slice(s![..columns(output) + n, ..rows]).t().to_owned()
    }

    /// Greatest errors against f64, of log-probs and of a plain f32 evaluation of the same inputs.
    pub fn logprob_errors(&self, found: &Array2<f32>) -> (f64, f64) {
        let labels = Labels::PerRow(self.ids.view());
        let (hidden, head) = (self.hidden.view(), self.lm_head.view());
        let exact = reference::label_logprobs(hidden, &self.rows, head, labels);
        let plain = reference::label_logprobs_f32(hidden, &self.rows, head, labels);
        (absolute_error(found.view(), exact.view()), absolute_error(plain.view(), exact.view()))
    }

    /// [`logprob_errors`](Self::logprob_errors) of a softmax over the labels.
    pub fn softmax_errors(&self, found: &Array2<f32>) -> (f64, f64) {
        let labels = Labels::PerRow(self.ids.view());
        let (hidden, head) = (self.hidden.view(), self.lm_head.view());
        let exact = reference::label_softmax(hidden, &self.rows, head, labels);
        let plain = reference::label_softmax_f32(hidden, &self.rows, head, labels);
        (absolute_error(found.view(), exact.view()), absolute_error(plain.view(), exact.view()))
    }
}

fn columns(output: LabelOutput) -> usize {
    if output == LabelOutput::Partials { 2 } else { 0 }
}
