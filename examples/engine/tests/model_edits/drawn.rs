//! Edits at random.

use common::Random;
use common::gguf::{Gguf, Tensor, Value, tiny_llama};

/// Keys that llama.cpp knows, of this architecture and its relatives; `llama.` is left out.
const KEYS: [&str; 50] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "features_length",
    "block_count",
    "leading_dense_block_count",
    "feed_forward_length",
    "expert_feed_forward_length",
    "use_parallel_residual",
    "tensor_data_layout",
    "expert_count",
    "expert_used_count",
    "expert_shared_count",
    "expert_weights_scale",
    "expert_gating_func",
    "nextn_predict_layers",
    "pooling_type",
    "logit_scale",
    "decoder_start_token_id",
    "attn_logit_softcapping",
    "router_logit_softcapping",
    "final_logit_softcapping",
    "swin_norm",
    "residual_scale",
    "embedding_scale",
    "interleave_moe_layer_step",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.max_alibi_bias",
    "attention.clamp_kqv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.causal",
    "attention.q_lora_rank",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.scale",
    "attention.temperature_length",
    "rope.dimension_count",
    "rope.dimension_sections",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_log_multiplier",
    "ssm.conv_kernel",
];

/// Tensors that files of this architecture and its relatives have besides those of the small one.
const TENSORS: [&str; 16] = [
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "output.bias",
    "output_norm.bias",
    "token_embd_norm.weight",
    "position_embd.weight",
    "blk.0.attn_q.bias",
    "blk.1.attn_output.bias",
    "blk.0.attn_q_norm.weight",
    "blk.1.attn_k_norm.weight",
    "blk.0.post_attention_norm.weight",
    "blk.1.ffn_gate_inp.weight",
    "blk.0.ffn_down.bias",
    "blk.0.ffn_down.scale",
    "blk.0.attn_sinks.weight",
    "blk.2.attn_norm.weight",
];

/// What an edit should be answered with.
pub enum Answer {
    /// Scores of the document, or a refusal.
    Either,
    /// A refusal: nothing gives it a meaning.
    Refusal,
    /// Bytes that no document describes: anything but a panic.
    NoPanic,
}

pub struct Edit {
    /// In words, for a failure.
    pub case: String,
    /// What was edited: an error may name it, or any key or tensor of the file.
    pub name: String,
    pub document: Gguf,
    /// Of the document, or damaged.
    pub bytes: Vec<u8>,
    pub answer: Answer,
}

pub fn draw(seed: u64) -> Edit {
    let random = &mut Random::new(seed);
    let mut document = tiny_llama(1);
    let (case, name, answer) = match random.below(10) {
        0..=2 => number_of_the_file(random, &mut document),
        3..=5 => new_key(random, &mut document),
        6..=8 => tensor(random, &mut document),
        _ => return damaged(random, document),
    };
    let bytes = document.bytes();
    Edit { case, name, document, bytes, answer }
}

type Drawn = (String, String, Answer);

fn one<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[random.below(of.len())]
}

/// A number at the edges, or near what files have.
fn number(random: &mut Random) -> Value {
    let edges =
        [0, 1, 2, 3, 8, 64, 96, 128, 255, 256, 4096, i32::MAX as u64, u32::MAX.into(), 1 << 40, u64::MAX];
    let reals =
        [0.0, -0.0, 1.0, -1.0, 0.5, 8.0, 1e-5, 1e-30, 1e30, 5e5, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE];
    let (whole, real) = (*one(random, &edges), *one(random, &reals));
    match random.below(8) {
        0 => Value::U8(whole as u8),
        1 | 2 => Value::U32(whole as u32),
        3 => Value::I32(whole as i32),
        4 => Value::U64(whole),
        5 => Value::I64(whole as i64),
        6 => Value::F32(real as f32),
        _ => Value::F64(real),
    }
}

fn number_of_the_file(random: &mut Random, file: &mut Gguf) -> Drawn {
    let keys: Vec<String> = file
        .entries
        .iter()
        .filter(|(_, value)| matches!(value, Value::U32(_) | Value::F32(_)))
        .map(|(key, _)| key.clone())
        .collect();
    let key = one(random, &keys).clone();
    let value = number(random);
    let case = format!("{key} = {value:?}");
    file.set(&key, value);
    (case, key, Answer::Either)
}

fn new_key(random: &mut Random, file: &mut Gguf) -> Drawn {
    let (key, answer) = match random.below(6) {
        // Notes, which may say anything.
        0 => (format!("{}.{:x}", one(random, &["general", "somebody"]), random.next_u64()), Answer::Either),
        1..=3 => (format!("llama.{}", one(random, &KEYS)), Answer::Either),
        4 => (format!("llama.{:x}", random.next_u64()), Answer::Refusal),
        _ => (
            format!("{}.{:x}", one(random, &["split", "tokenizer", "tokenizer.ggml"]), random.next_u64()),
            Answer::Refusal,
        ),
    };
    let value = match random.below(4) {
        0 => Value::Flag(random.below(2) == 0),
        1 => Value::Text((*one(random, &["", "none", "linear", "yarn", "reference"])).into()),
        _ => number(random),
    };
    let case = format!("{key} = {value:?}");
    file.set(&key, value);
    (case, key, answer)
}

fn tensor(random: &mut Random, file: &mut Gguf) -> Drawn {
    let at = random.below(file.tensors.len());
    let name = file.tensors[at].name.clone();
    let (what, answer) = match random.below(10) {
        0 => {
            let extra = (*one(random, &TENSORS)).to_owned();
            let count = 1 + random.below(200);
            file.tensors.push(Tensor::f32(extra.clone(), &[count as u64], &vec![1.5; count]));
            return (format!("{extra} added"), extra, Answer::Refusal);
        }
        1 => {
            file.tensors[at].name = format!("{name}{}", random.below(10));
            ("renamed", Answer::Refusal)
        }
        2 => {
            file.tensors.remove(at);
            ("dropped", Answer::Refusal)
        }
        3 => {
            // Square ones read the same.
            file.tensors[at].dims.reverse();
            file.tensors[at].dims.push(1);
            ("reshaped", Answer::Refusal)
        }
        4 => {
            let twice = file.tensors[at].clone();
            file.tensors.push(twice);
            ("twice", Answer::Refusal)
        }
        5 => {
            let offset = [0, 4, 32, 1 << 12, 1 << 20, u64::MAX];
            file.tensors[at].offset = Some(*one(random, &offset));
            // The first one is at 0 indeed.
            ("moved", if at == 0 { Answer::Either } else { Answer::Refusal })
        }
        6 => {
            let value = *one(random, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
            let dims = file.tensors[at].dims.clone();
            file.replace(&name, &dims, |mut values| {
                let at = random.below(values.len());
                values[at] = value;
                values
            });
            ("with a value that is not finite", Answer::Refusal)
        }
        7 | 8 => {
            let dims = file.tensors[at].dims.clone();
            let factor = 1.0 + random.below(100) as f32 / 100.0;
            file.replace(&name, &dims, |values| values.into_iter().map(|value| value * factor).collect());
            ("with other values", Answer::Either)
        }
        _ => {
            file.tensors[at].code = 1 + random.below(60) as u32;
            ("of another type", Answer::Refusal)
        }
    };
    (format!("{name} {what}"), name, answer)
}

/// Cut, or with other bytes in the header.
fn damaged(random: &mut Random, document: Gguf) -> Edit {
    let mut bytes = document.bytes();
    let case = if random.below(2) == 0 {
        bytes.truncate(random.below(bytes.len()));
        format!("cut to {} bytes", bytes.len())
    } else {
        // The first of the tensors begins behind it.
        let header = bytes.len() - document.tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>();
        let changed: Vec<(usize, u8)> =
            (0..1 + random.below(3)).map(|_| (random.below(header), random.next_u64() as u8)).collect();
        changed.iter().for_each(|&(at, byte)| bytes[at] = byte);
        format!("other bytes {changed:?}")
    };
    Edit { case, name: String::new(), document, bytes, answer: Answer::NoPanic }
}
