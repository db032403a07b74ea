//! Llama in f64, one prompt at a time, as plain as it can be said: what a file means.

use common::gguf::{Gguf, Value};
use ndarray::{Array1, Array2, Axis, s};

/// A number of any type.
pub fn number(value: &Value) -> f64 {
    match *value {
        Value::U8(n) => n.into(),
        Value::U32(n) => n.into(),
        Value::I32(n) => n.into(),
        Value::U64(n) => n as f64,
        Value::I64(n) => n as f64,
        Value::F32(x) => x.into(),
        Value::F64(x) => x,
        _ => panic!("{value:?} is no number"),
    }
}

struct Llama<'a> {
    file: &'a Gguf,
}

impl Llama<'_> {
    fn number(&self, key: &str) -> Option<f64> {
        self.file.get(&format!("llama.{key}")).map(number)
    }

    fn matrix(&self, name: &str) -> Array2<f64> {
        let tensor = self.file.tensor(name).expect("a tensor");
        let columns = *tensor.dims.last().expect("a shape") as usize;
        let values: Vec<f64> = tensor.values().into_iter().map(f64::from).collect();
        Array2::from_shape_vec((values.len() / columns, columns), values).expect("whole rows")
    }

    fn norm(&self, x: &Array2<f64>, name: &str) -> Array2<f64> {
        let epsilon = self.number("attention.layer_norm_rms_epsilon").expect("an epsilon");
        let scale = self.matrix(name).row(0).to_owned();
        let rms = x.mapv(|x| x * x).mean_axis(Axis(1)).expect("columns").mapv(|m| (m + epsilon).sqrt());
        x / &rms.insert_axis(Axis(1)) * &scale
    }

    /// Turns neighbours `2i`, `2i + 1` of every head.
    fn rotated(&self, mut rows: Array2<f64>, head_dim: usize) -> Array2<f64> {
        let base = self.number("rope.freq_base").unwrap_or(10_000.0);
        for (position, mut row) in rows.outer_iter_mut().enumerate() {
            for pair in 0..row.len() / 2 {
                let i = 2 * pair % head_dim;
                let (sin, cos) = (position as f64 * base.powf(-(i as f64) / head_dim as f64)).sin_cos();
                let (a, b) = (row[2 * pair], row[2 * pair + 1]);
                (row[2 * pair], row[2 * pair + 1]) = (a * cos - b * sin, a * sin + b * cos);
            }
        }
        rows
    }

    fn attention(&self, x: &Array2<f64>, layer: usize) -> Array2<f64> {
        let heads = self.number("attention.head_count").expect("heads") as usize;
        let of = |name: &str| self.matrix(&format!("blk.{layer}.{name}.weight"));
        let (q, k, v) = (x.dot(&of("attn_q").t()), x.dot(&of("attn_k").t()), x.dot(&of("attn_v").t()));
        let head_dim = q.ncols() / heads;
        let (q, k) = (self.rotated(q, head_dim), self.rotated(k, head_dim));
        let group = heads / (k.ncols() / head_dim);
        let mut out = Array2::zeros(q.dim());
        for head in 0..heads {
            let columns = |head: usize| s![.., head * head_dim..(head + 1) * head_dim];
            let (q, k, v) =
                (q.slice(columns(head)), k.slice(columns(head / group)), v.slice(columns(head / group)));
            let mut weights = q.dot(&k.t()) / (head_dim as f64).sqrt();
            for (row, mut weights) in weights.outer_iter_mut().enumerate() {
                weights.slice_mut(s![row + 1..]).fill(f64::NEG_INFINITY);
                let most = weights.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                weights.mapv_inplace(|w| (w - most).exp());
                let sum = weights.sum();
                weights /= sum;
            }
            out.slice_mut(columns(head)).assign(&weights.dot(&v));
        }
        out.dot(&of("attn_output").t())
    }

    fn mlp(&self, x: &Array2<f64>, layer: usize) -> Array2<f64> {
        let of = |name: &str| self.matrix(&format!("blk.{layer}.{name}.weight"));
        let gate = x.dot(&of("ffn_gate").t()).mapv(|g| g / (1.0 + (-g).exp()));
        (gate * x.dot(&of("ffn_up").t())).dot(&of("ffn_down").t())
    }
}

/// Log-probs of the labels after the prompt.
pub fn logprobs(file: &Gguf, prompt: &[i32], labels: &[i32]) -> Vec<f64> {
    let llama = Llama { file };
    let embedding = llama.matrix("token_embd.weight");
    let ids: Vec<usize> = prompt.iter().map(|&id| id as usize).collect();
    let mut x = embedding.select(Axis(0), &ids);
    for layer in 0..llama.number("block_count").expect("layers") as usize {
        x += &llama.attention(&llama.norm(&x, &format!("blk.{layer}.attn_norm.weight")), layer);
        x += &llama.mlp(&llama.norm(&x, &format!("blk.{layer}.ffn_norm.weight")), layer);
    }
    let last = llama.norm(&x, "output_norm.weight").row(x.nrows() - 1).to_owned();
    let head = if file.tensor("output.weight").is_some() { llama.matrix("output.weight") } else { embedding };
    let logits: Array1<f64> = head.dot(&last);
    let most = logits.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    let sum = most + logits.mapv(|l| (l - most).exp()).sum().ln();
    labels.iter().map(|&label| logits[label as usize] - sum).collect()
}
