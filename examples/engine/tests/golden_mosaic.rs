//! SmolLM2 end to end through the emulator: attention, KV write and label log-probs are the Mosaic texts, everything else is
//! plain ndarray. Scores are those of an independent implementation, as in `tests/golden.rs`.

use std::convert::Infallible;

use common::mosaic::{Bits, KvWriteCase, LabelCase, MosaicAttention, row_block_tiling};
use common::{Element, Tensors};
use engine::{Checkpoint, LlamaConfig};
use half::bf16;
use ndarray::{Array1, Array2, Array3, Array5, ArrayView2, Axis, s};
use serde_json::Value;
use tpu_rpa::emulator::{Emulator, RunOptions};
use tpu_rpa::kernels::LabelOutput;
use tpu_rpa::reference;
use tpu_rpa::score::{ForwardPass, Limits, Pass, ScoreRequest, Scorer};
use tpu_rpa::spec::{AttentionSpec, DType, KvWriteSpec, LabelSet};

const PAGE_SIZE: usize = 16;
const POOL_PAGES: usize = 16;

struct Layer {
    attention_norm: Array1<f32>,
    mlp_norm: Array1<f32>,
    /// q, k, v, attention output, gate, up, down: `[outputs, inputs]`.
    weights: [Array2<f32>; 7],
}

/// A Llama whose kernels are emulated; `E` is the type of weights, pages, and inputs of matrix products.
struct Emulated<E> {
    config: LlamaConfig,
    spec: AttentionSpec,
    /// Of a query tile.
    row_blocks: usize,
    layers: Vec<Layer>,
    final_norm: Array1<f32>,
    pages: Vec<Array5<E>>,
    /// The LM head, tied to the embedding, with what a pass scores.
    labels: LabelCase<E>,
    /// Emulated runs of each kernel: attention, KV write, label log-probs.
    runs: [usize; 3],
}

/// `x` as `E` stores it.
fn stored<E: Element>(x: f32) -> f32 {
    E::from_f32(x).into()
}

impl<E: Bits> Emulated<E> {
    fn load(row_blocks: usize) -> Self {
        let checkpoint = Checkpoint::open(&engine::model_path()).unwrap_or_else(|e| panic!("{e}"));
        let c = checkpoint.config;
        let file = &checkpoint.file;
        let read =
            |name: &str, dims: &[usize]| file.tensors().take(name, dims).unwrap().values(DType::F32).unwrap();
        let (q, kv) = (c.q_heads * c.head_dim, c.kv_heads * c.head_dim);
        let vector = |name: &str| Array1::from(read(name, &[c.hidden]));
        let norms: Vec<_> = (0..c.layers)
            .map(|l| {
                (vector(&format!("blk.{l}.attn_norm.weight")), vector(&format!("blk.{l}.ffn_norm.weight")))
            })
            .collect();
        let final_norm = vector("output_norm.weight");
        assert!(!file.tensors().has("output.weight"), "the LM head is tied");
        let matrix = |name: &str, rows: usize, columns: usize| {
            Array2::from_shape_vec((rows, columns), read(name, &[rows, columns]))
                .unwrap()
                .mapv_into(stored::<E>)
        };
        let lm_head = matrix("token_embd.weight", c.vocabulary, c.hidden).mapv(E::from_f32);
        let layers = norms.into_iter().enumerate().map(|(l, (attention_norm, mlp_norm))| {
            let of = |name: &str, rows, columns| matrix(&format!("blk.{l}.{name}.weight"), rows, columns);
            let weights = [
                of("attn_q", q, c.hidden),
                of("attn_k", kv, c.hidden),
                of("attn_v", kv, c.hidden),
                of("attn_output", c.hidden, q),
                of("ffn_gate", c.mlp, c.hidden),
                of("ffn_up", c.mlp, c.hidden),
                of("ffn_down", c.hidden, c.mlp),
            ];
            Layer { attention_norm, mlp_norm, weights }
        });
        let pages = (POOL_PAGES, 2, c.kv_heads, PAGE_SIZE, c.head_dim);
        Emulated {
            spec: AttentionSpec::builder(c.q_heads, c.kv_heads, c.head_dim)
                .page_size(PAGE_SIZE)
                .dtype(E::DTYPE)
                .build()
                .unwrap(),
            layers: layers.collect(),
            final_norm,
            pages: vec![Array5::from_elem(pages, E::from_f32(f32::NAN)); c.layers],
            labels: LabelCase {
                hidden: Array2::from_elem((0, c.hidden), E::from_f32(0.0)),
                lm_head,
                rows: Vec::new(),
                ids: Array2::zeros((0, 0)),
                labels: LabelSet::Shared(1),
            },
            config: c,
            row_blocks,
            runs: [0; 3],
        }
    }

    fn norm(&self, x: &Array2<f32>, scale: &Array1<f32>) -> Array2<f32> {
        let mean = x.mapv(|x| x * x).mean_axis(Axis(1)).unwrap();
        let factor = mean.mapv(|m| 1.0 / (m + self.config.norm_epsilon).sqrt());
        (x * &factor.insert_axis(Axis(1)) * scale).mapv_into(stored::<E>)
    }

    /// Rows as heads, turned by their positions. The file keeps the pairs that turn together side by side; queries and
    /// keys share the order of elements, so that scores do not see it.
    fn rotated(&self, rows: &Array2<f32>, positions: &[i32]) -> Array3<f32> {
        let frequencies = self.config.rotary_frequencies();
        let mut turned = heads(rows, self.config.head_dim);
        for (mut token, &position) in turned.outer_iter_mut().zip(positions) {
            for mut head in token.outer_iter_mut() {
                for (i, frequency) in frequencies.iter().enumerate() {
                    let (sin, cos) = (position as f32 * frequency).sin_cos();
                    let (a, b) = (head[2 * i], head[2 * i + 1]);
                    (head[2 * i], head[2 * i + 1]) = (a * cos - b * sin, b * cos + a * sin);
                }
            }
        }
        turned
    }

    fn attention(&mut self, pass: &Pass, layer: usize, [q, k, v]: [Array3<f32>; 3]) -> Array2<f32> {
        let plan = pass.plan();
        let rows = plan.bucket().tokens;
        // Padding rows hold NaN.
        let padded = |x: &Array3<f32>| {
            let mut all = Array3::from_elem((rows, x.dim().1, x.dim().2), E::from_f32(f32::NAN));
            all.slice_mut(s![..x.dim().0, .., ..]).assign(&x.mapv(E::from_f32));
            all
        };
        let kv_pages = self.pages[layer].clone();
        let layer_pages = kv_pages.dim().0;
        let tensors =
            Tensors { q: padded(&q), k: padded(&k), v: padded(&v), kv_pages, first_page: 0, layer_pages };
        let (out, _) = MosaicAttention::new(&self.spec, plan, &tensors).run(&RunOptions::default());
        self.runs[0] += 1;
        if !pass.kv_slots().is_empty() {
            self.write(pass, layer, tensors);
        }
        let tokens = plan.num_tokens();
        out.slice_move(s![..tokens, .., ..]).into_shape_with_order((tokens, q.dim().1 * q.dim().2)).unwrap()
    }

    fn write(&mut self, pass: &Pass, layer: usize, tensors: Tensors<E>) {
        let Tensors { k, v, kv_pages: pages, .. } = tensors;
        let slots = pass.kv_slots().clone();
        let mut expected = pages.clone();
        reference::kv_write(k.view(), v.view(), slots.slots(), expected.view_mut());
        let (spec, plan) = (KvWriteSpec::from(&self.spec), pass.plan().clone());
        let case = KvWriteCase { spec, plan, slots, first_page: 0, k, v, pages, expected };
        let kernel = Emulator::new(&case.text()).unwrap();
        let written = kernel.run(&case.operands()).unwrap_or_else(|e| panic!("{e}")).outputs.remove(0);
        assert!(case.is_expected(&written));
        self.pages[layer] = written.to_array().unwrap().into_dimensionality().unwrap();
        self.runs[1] += 1;
    }

    fn logprobs(&mut self, pass: &Pass, hidden: &Array2<f32>) -> Vec<f32> {
        let (rows, labels) = (pass.rows().len(), pass.labels().len());
        self.labels.hidden = hidden.mapv(E::from_f32);
        self.labels.rows = pass.rows().to_vec();
        self.labels.labels = LabelSet::Shared(labels);
        self.labels.ids = Array2::from_shape_fn((rows, labels), |(_, label)| pass.labels()[label]);
        let (text, operands, _) = self.labels.logprobs(0..self.config.vocabulary, LabelOutput::Logprobs);
        let outcome = Emulator::new(&text).unwrap().run(&operands).unwrap_or_else(|e| panic!("{e}"));
        self.runs[2] += 1;
        self.labels.turned(&outcome.outputs[0], LabelOutput::Logprobs).into_iter().collect()
    }
}

fn heads(rows: &Array2<f32>, head_dim: usize) -> Array3<f32> {
    let (tokens, width) = rows.dim();
    rows.to_shape((tokens, width / head_dim, head_dim)).unwrap().into_owned()
}

fn linear(x: ArrayView2<'_, f32>, weights: &Array2<f32>) -> Array2<f32> {
    x.dot(&weights.t())
}

impl<E: Bits> ForwardPass for Emulated<E> {
    type Error = Infallible;

    fn limits(&self) -> Limits {
        Limits {
            vocabulary: self.config.vocabulary,
            context: PAGE_SIZE * POOL_PAGES,
            pass_tokens: PAGE_SIZE * POOL_PAGES,
            max_request_tokens: 1 << 20,
            max_items: 100,
            sliding_window: None,
            max_labels: 32,
            page_size: PAGE_SIZE,
            pool_pages: POOL_PAGES,
            // Row blocks of 128 rows a head; a query of a few tokens is cut after 16.
            tiling: row_block_tiling(&self.spec, 16, 16, self.row_blocks),
        }
    }

    fn run(&mut self, pass: &Pass) -> Result<Vec<f32>, Infallible> {
        let tokens = pass.plan().num_tokens();
        let positions = &pass.plan().positions()[..tokens];
        let ids: Vec<usize> = pass.token_ids()[..tokens].iter().map(|&id| id as usize).collect();
        let mut x = self.labels.lm_head.select(Axis(0), &ids).mapv(|x| -> f32 { x.into() });
        for l in 0..self.layers.len() {
            let layer = &self.layers[l];
            let [wq, wk, wv, ..] = &layer.weights;
            let a = self.norm(&x, &layer.attention_norm);
            let q = self.rotated(&linear(a.view(), wq), positions);
            let k = self.rotated(&linear(a.view(), wk), positions);
            let v = heads(&linear(a.view(), wv), self.config.head_dim);
            let o = self.attention(pass, l, [q, k, v]);
            let layer = &self.layers[l];
            let [.., wo, gate, up, down] = &layer.weights;
            x += &linear(o.view(), wo);
            let m = self.norm(&x, &layer.mlp_norm);
            let mut g = linear(m.view(), gate).mapv_into(|g| g / (1.0 + (-g).exp()));
            g *= &linear(m.view(), up);
            x += &linear(g.mapv_into(stored::<E>).view(), down);
        }
        let hidden = self.norm(&x, &self.final_norm);
        Ok(self.logprobs(pass, &hidden))
    }
}

/// A recorded request and its log-probs.
fn golden(id: &str) -> (ScoreRequest, Vec<Vec<f64>>) {
    let golden: Value = serde_json::from_str(include_str!("data/golden/golden.json")).unwrap();
    let requests = golden["requests"].as_array().unwrap();
    let request = requests.iter().find(|r| r["id"].as_str().unwrap().starts_with(id)).unwrap();
    let ids = |v: &Value| serde_json::from_value::<Vec<i32>>(v["token_ids"].clone()).unwrap();
    let labels = request["labels"].as_array().unwrap();
    let score = ScoreRequest {
        query: ids(&request["query"]),
        items: request["items"].as_array().unwrap().iter().map(ids).collect(),
        label_token_ids: labels.iter().map(|l| l["token_id"].as_i64().unwrap() as i32).collect(),
        apply_softmax: true,
        item_first: request["item_first"].as_bool().unwrap(),
    };
    (score, serde_json::from_value(request["expected"]["logprobs"].clone()).unwrap())
}

/// Scores a request with query tiles of so many row blocks; `budget` cuts it into passes. Returns the greatest difference, and the runs of each kernel.
fn score<E: Bits>(id: &str, row_blocks: usize, budget: Option<usize>) -> (f64, [usize; 3]) {
    let (request, expected) = golden(id);
    let mut scorer = Scorer::new(Emulated::<E>::load(row_blocks)).unwrap();
    if let Some(budget) = budget {
        scorer.set_token_budget(budget);
    }
    let found = scorer.score(&request).unwrap_or_else(|e| panic!("{e}")).logprobs;
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    let difference = pairs.map(|(&a, &b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
    assert_eq!((found.len(), found[0].len()), (expected.len(), expected[0].len()));
    println!("{id}: within {difference:.1e}, runs {:?}", scorer.engine().runs);
    (difference, scorer.engine().runs)
}

/// The query is written to pages by one pass and read from there by the next.
#[test]
fn f32_scores_through_pages_are_those_of_the_reference() {
    for row_blocks in [1, 2] {
        let (difference, [attention, writes, labels]) = score::<f32>("a06", row_blocks, Some(8));
        assert!(difference <= 5e-4, "log-probs differ by {difference:.1e}");
        assert!(attention >= 60 && writes >= 30 && labels >= 2, "several passes");
    }
}
