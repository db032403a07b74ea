//! A model file is run as it says, or refused: an edited small Llama is either an error of one line that names the key
//! or the tensor, or gives the scores that a plain evaluation of the edited file gives.

mod drawn;
mod reference;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use common::gguf::{Gguf, Tensor, Value, tiny_llama};
use drawn::Answer;
use engine::{Checkpoint, Service, Setup};
use tpu_rpa::runtime::Client;
use tpu_rpa::score::ScoreRequest;
use tpu_rpa::spec::DType;

const QUERY: [i32; 7] = [3, 14, 15, 92, 65, 35, 89];
const ITEMS: [&[i32]; 3] = [&[7, 9], &[3, 2, 38, 46], &[26]];
const LABELS: [i32; 3] = [1, 64, 127];

type Edit = fn(&mut Gguf);

/// What came of a file: scores, or the words of a refusal.
type Outcome = Result<Vec<Vec<f32>>, String>;

/// One client for all, so that equal programs are compiled once.
static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let setup = Setup {
        model: engine::model_path(),
        plugin: None,
        dtype: DType::F32,
        cache: None,
        interpreted: None,
    };
    setup.client().unwrap_or_else(|error| panic!("{error}"))
});

fn score(path: &Path, dtype: DType) -> Outcome {
    let load = || Service::load(CLIENT.clone(), Checkpoint::open(path)?, dtype, &mut |_, _| ());
    let mut service = load().map_err(|error| error.to_string())?;
    let request = ScoreRequest {
        query: QUERY.to_vec(),
        items: ITEMS.map(<[i32]>::to_vec).to_vec(),
        label_token_ids: LABELS.to_vec(),
        apply_softmax: false,
        item_first: false,
    };
    match service.scorer.score(&request) {
        Ok(response) => Ok(response.logprobs),
        // Longer than a context that the file made short.
        Err(error) if error.is_invalid_request() => Err(error.to_string()),
        Err(error) => panic!("loaded, and then: {error}"),
    }
}

/// Loads the file and scores; a panic fails the test with the case.
fn outcome_in(dtype: DType, case: &str, bytes: &[u8]) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).expect("the file is written");
    let outcome = catch_unwind(AssertUnwindSafe(|| score(&path, dtype)));
    let outcome = outcome.unwrap_or_else(|_| panic!("{case}: a panic"));
    if let Err(words) = &outcome {
        let one_line = !words.chars().any(char::is_control) && words.len() < 400;
        assert!(one_line, "{case}: no short line: {words:?}");
    }
    outcome
}

fn outcome(case: &str, bytes: &[u8]) -> Outcome {
    outcome_in(DType::F32, case, bytes)
}

/// How far scores are from what the document says.
fn distance(file: &Gguf, found: &[Vec<f32>]) -> f64 {
    assert_eq!(found.len(), ITEMS.len());
    let mut furthest = 0f64;
    for (item, found) in ITEMS.iter().zip(found) {
        let expected = reference::logprobs(file, &[&QUERY, *item].concat(), &LABELS);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let off = (f64::from(*found) - expected).abs();
            furthest = if off.is_nan() { f64::INFINITY } else { furthest.max(off) };
        }
    }
    furthest
}

/// f32 sums against f64.
const TOLERANCE: f64 = 2e-4;

fn assert_as_it_says(case: &str, file: &Gguf, scores: &[Vec<f32>]) {
    let off = distance(file, scores);
    assert!(off < TOLERANCE, "{case}: {off:.1e} from what the file says");
}

fn is_refused(case: &str, bytes: &[u8], name: &str) {
    match outcome(case, bytes) {
        Ok(_) => panic!("{case}: accepted"),
        Err(words) => assert!(words.contains(name), "{case}: {name} is not named: {words}"),
    }
}

fn edited(edit: impl FnOnce(&mut Gguf)) -> Gguf {
    let mut file = tiny_llama(1);
    edit(&mut file);
    file
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// Keys at values that ask for what this engine does not do, or for nothing that makes sense.
#[test]
fn a_key_that_asks_for_more_is_refused_by_name() {
    use Value::{F32, F64, Flag, I32, U32, U64};
    let cases = [
        // What relatives of the architecture do.
        ("llama.expert_count", U32(8)),
        ("llama.attention.sliding_window", U32(16)),
        ("llama.rope.scale_linear", F32(8.0)),
        ("llama.rope.scaling.factor", F32(8.0)),
        ("llama.rope.scaling.type", text("linear")),
        ("llama.rope.scaling.original_context_length", U32(64)),
        ("llama.attention.key_length", U32(32)),
        ("llama.attention.value_length", U32(32)),
        ("llama.logit_scale", F32(0.5)),
        ("llama.embedding_scale", F32(12.0)),
        ("llama.residual_scale", F32(0.22)),
        ("llama.attention.scale", F32(0.5)),
        ("llama.attn_logit_softcapping", F32(50.0)),
        ("llama.final_logit_softcapping", F32(30.0)),
        ("llama.attention.causal", Flag(false)),
        ("llama.rope.dimension_count", U32(32)),
        ("llama.something_new", U32(1)),
        ("split.count", U32(3)),
        ("split.no", U32(1)),
        ("split.tensors.count", U32(60)),
        ("general.type", text("adapter")),
        ("general.architecture", text("qwen2")),
        ("general.quantization_version", U32(1)),
        ("tokenizer.ggml.add_bos_token", Flag(true)),
        ("tokenizer.ggml.add_eos_token", Flag(true)),
        ("tokenizer.ggml.add_space_prefix", Flag(true)),
        ("tokenizer.ggml.pre", text("llama-bpe")),
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.precompiled_charsmap", text("")),
        ("tokenizer.huggingface.json", text("{}")),
        // Nonsense.
        ("general.alignment", U32(0)),
        ("general.alignment", U32(48)),
        ("general.alignment", U32(1)),
        ("general.alignment", U32(4)),
        ("llama.block_count", U32(0)),
        ("llama.block_count", U32(1)),
        ("llama.block_count", U32(3)),
        ("llama.block_count", U32(4_000_000_000)),
        ("llama.block_count", I32(-2)),
        ("llama.block_count", text("2")),
        ("llama.context_length", U32(0)),
        ("llama.context_length", U64(1 << 40)),
        ("llama.attention.layer_norm_rms_epsilon", F32(f32::NAN)),
        ("llama.attention.layer_norm_rms_epsilon", F32(0.0)),
        ("llama.attention.layer_norm_rms_epsilon", F32(-1e-5)),
        ("llama.attention.layer_norm_rms_epsilon", F64(1e-300)),
        ("llama.rope.freq_base", F32(0.0)),
        ("llama.rope.freq_base", F32(f32::INFINITY)),
        ("llama.rope.freq_base", F32(f32::NAN)),
        ("llama.rope.freq_base", F64(1e300)),
        ("llama.attention.head_count", U32(0)),
        ("llama.attention.head_count", U32(3)),
        ("llama.attention.head_count_kv", U32(0)),
        ("llama.attention.head_count_kv", U32(4)),
        ("llama.vocab_size", U32(127)),
        ("tokenizer.ggml.token_type", Value::Integers(vec![1; 127])),
        ("tokenizer.ggml.token_type", Value::Integers(vec![4; 128])),
        ("tokenizer.ggml.tokens", Value::Texts(vec!["a".into(); 128])),
        ("tokenizer.ggml.merges", Value::Texts(vec!["th".into()])),
        ("tokenizer.ggml.merges", Value::Texts(vec!["t h".into(), "t h".into()])),
        ("tokenizer.ggml.merges", Value::Texts(vec!["q\n z\x1b[31m".into()])),
    ];
    for (key, value) in cases {
        let case = format!("{key} = {value:?}");
        is_refused(&case, &edited(|file| file.set(key, value)).bytes(), key);
    }
    for key in
        ["general.architecture", "llama.block_count", "llama.attention.head_count", "tokenizer.ggml.tokens"]
    {
        is_refused(&format!("without {key}"), &edited(|file| file.remove(key)).bytes(), key);
    }
    let hostile = edited(|file| file.set("llama.\n\x1b[31m", U32(1)));
    is_refused("a key with control characters", &hostile.bytes(), "llama.\\n\\u{1b}[31m");
    let repeated = edited(|file| file.entries.push(("llama.block_count".into(), U32(2))));
    is_refused("a key twice", &repeated.bytes(), "20 keys, 19 of them different");
    let wide = edited(|file| file.set("llama.context_length", U64(1 << 24)));
    let wide = outcome("a context as long as positions count", &wide.bytes());
    assert!(wide.is_ok() || wide.is_err_and(|words| words.contains("context_length is 16777216")));
}

#[test]
fn a_tensor_that_is_not_used_as_it_is_is_refused_by_name() {
    let bias = |name: &str, count: usize| Tensor::f32(name, &[count as u64], &vec![0.1; count]);
    let refused =
        |case: &str, name: &str, edit: &dyn Fn(&mut Gguf)| is_refused(case, &edited(edit).bytes(), name);
    for (name, count) in [
        ("rope_freqs.weight", 32),
        ("blk.0.attn_q.bias", 128),
        ("blk.1.attn_q_norm.weight", 64),
        ("blk.0.ffn_gate.scale", 1),
        ("output.bias", 128),
        ("blk.-1.attn_q.weight", 1),
    ] {
        refused(name, name, &|file| file.tensors.push(bias(name, count)));
    }
    // A block that the count leaves out is named by the key.
    refused("a third block", "llama.block_count", &|file| {
        file.tensors.push(bias("blk.2.attn_norm.weight", 128))
    });
    refused("too few values", "output.weight", &|file| file.tensors.push(bias("output.weight", 128)));
    refused("missing", "blk.1.ffn_up.weight", &|file| {
        file.tensors.retain(|t| t.name != "blk.1.ffn_up.weight")
    });
    refused("turned", "blk.1.ffn_up.weight", &|file| file.tensor_mut("blk.1.ffn_up.weight").dims.reverse());
    refused("twice", "output_norm.weight", &|file| file.tensors.push(bias("output_norm.weight", 128)));
    for offset in [4, 32, 1 << 60] {
        let name = "output_norm.weight";
        refused("moved", name, &|file| file.tensor_mut(name).offset = Some(offset));
    }
    let mut apart = edited(|file| {
        let offset = file.tensors.iter().map(|tensor| tensor.data.len() as u64).sum::<u64>();
        file.tensor_mut("output_norm.weight").offset = Some(offset);
    });
    apart.tensors.push(bias("nothing", 256));
    is_refused("a gap", &apart.bytes(), "output_norm.weight");
    let mut longer = tiny_llama(1).bytes();
    longer.extend([0; 32]);
    is_refused("bytes behind the last", &longer, "output_norm.weight");
    for (value, index) in [(f32::NAN, 0), (f32::INFINITY, 96 * 128 - 1), (f32::NEG_INFINITY, 700)] {
        refused("not finite", &format!("blk.1.ffn_up.weight[{}, {}]", index / 128, index % 128), &|file| {
            file.replace("blk.1.ffn_up.weight", &[96, 128], |mut values| {
                values[index] = value;
                values
            });
        });
    }
    // Finite in the file, not in bf16.
    let large = edited(|file| {
        file.replace("blk.0.attn_v.weight", &[64, 128], |mut values| {
            values[130] = f32::MAX;
            values
        });
    });
    let words = outcome_in(DType::Bf16, "large", &large.bytes()).expect_err("not a bf16");
    assert!(words.contains("blk.0.attn_v.weight[1, 2]") && words.contains("bf16"), "{words}");
}

/// Keys that change nothing, and what is used: the scores are those of the file.
#[test]
fn a_file_is_run_as_it_says() {
    use Value::{F32, Flag, U8, U32, U64};
    let plain = outcome("as it is", &tiny_llama(1).bytes()).expect("a model");
    assert_as_it_says("as it is", &tiny_llama(1), &plain);
    for (key, value) in [
        ("general.name", text("another")),
        ("general.file_type", U32(7)),
        ("general.license", text("none")),
        ("general.quantization_version", U32(2)),
        ("general.alignment", U32(32)),
        ("quantize.imatrix.file", text("calibration.dat")),
        ("somebody.notes", text("quantised at night")),
        ("tokenizer.chat_template", text("{{ messages }}")),
        ("tokenizer.chat_template.tool_use", text("{{ messages }}")),
        ("tokenizer.ggml.bos_token_id", U32(1)),
        ("tokenizer.ggml.eos_token_id", U32(2)),
        ("tokenizer.ggml.add_eos_token", Flag(false)),
        ("split.count", U32(1)),
        ("split.tensors.count", U32(20)),
        ("llama.expert_count", U32(0)),
        ("llama.rope.scaling.type", text("none")),
        ("llama.rope.scaling.finetuned", Flag(true)),
        ("llama.rope.scale_linear", F32(1.0)),
        ("llama.attention.key_length", U32(64)),
        ("llama.attention.value_length", U8(64)),
        ("llama.attention.scale", F32(0.125)),
        ("llama.attention.sliding_window", U32(256)),
        ("llama.attn_logit_softcapping", F32(0.0)),
        ("llama.logit_scale", F32(1.0)),
        ("llama.block_count", U64(2)),
    ] {
        let case = format!("{key} = {value:?}");
        let scores = outcome(&case, &edited(|file| file.set(key, value)).bytes());
        assert_eq!(scores.as_ref(), Ok(&plain), "{case}");
    }

    let used: [(&str, Edit); 7] = [
        ("another epsilon", |file| file.set("llama.attention.layer_norm_rms_epsilon", F32(0.1))),
        ("another base", |file| file.set("llama.rope.freq_base", F32(50.0))),
        ("an LM head", |file| {
            let table: Vec<f32> = file.tensors[0].values().into_iter().rev().collect();
            file.tensors.push(Tensor::f32("output.weight", &[128, 128], &table));
        }),
        ("one block", |file| {
            file.set("llama.block_count", U32(1));
            file.tensors.retain(|tensor| !tensor.name.starts_with("blk.1."));
        }),
        ("one head of 128", |file| {
            file.set("llama.attention.head_count", U32(1));
            file.set("llama.rope.dimension_count", U32(128));
            for layer in 0..2 {
                for name in ["attn_k", "attn_v"].map(|name| format!("blk.{layer}.{name}.weight")) {
                    file.replace(&name, &[128, 128], |values| values.repeat(2));
                }
            }
        }),
        ("another alignment", |file| {
            file.alignment = 256;
            file.set("general.alignment", U32(256));
        }),
        ("tensors in another order", |file| file.tensors.reverse()),
    ];
    for (case, edit) in used {
        let file = edited(edit);
        let scores = outcome(case, &file.bytes()).unwrap_or_else(|words| panic!("{case}: {words}"));
        assert_as_it_says(case, &file, &scores);
        let same = ["another alignment", "tensors in another order"].contains(&case);
        assert_eq!(scores == plain, same, "{case}");
    }
    // Left out, they are what llama.cpp takes for them.
    let short = edited(|file| {
        file.remove("llama.rope.freq_base");
        file.remove("llama.rope.dimension_count");
        file.remove("llama.vocab_size");
    });
    assert_eq!(outcome("defaults", &short.bytes()), Ok(plain));
}

/// Edits at random, new ones every time. `MODEL_EDIT_SEED` draws one again.
#[test]
fn no_edit_is_run_otherwise_than_it_says() {
    let again: Option<u64> = std::env::var("MODEL_EDIT_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = again.unwrap_or_else(|| rand::random::<u32>().into());
    let (start, mut accepted, mut refused) = (Instant::now(), 0, 0);
    for seed in first..first + if again.is_some() { 1 } else { 300 } {
        if start.elapsed() > Duration::from_secs(10) {
            break;
        }
        let edit = drawn::draw(seed);
        let case = format!("MODEL_EDIT_SEED={seed}: {}", edit.case);
        match (outcome(&case, &edit.bytes), edit.answer) {
            (_, Answer::NoPanic) => {}
            (Ok(_), Answer::Refusal) => panic!("{case}: accepted"),
            (Ok(scores), Answer::Either) => {
                assert_as_it_says(&case, &edit.document, &scores);
                accepted += 1;
            }
            (Err(words), _) => {
                let keys = edit.document.entries.iter().map(|(key, _)| key);
                let tensors = edit.document.tensors.iter().map(|tensor| &tensor.name);
                let named = keys.chain(tensors).chain([&edit.name]).any(|name| words.contains(name));
                // The reader of the file does not say which tensor has a type or a size that there is not.
                let type_named = words.contains("ggml_type") || words.contains("multiple of block size");
                let named = named || words.contains("context") || (type_named && case.ends_with("type"));
                assert!(named, "{case}: nothing is named: {words}");
                refused += 1;
            }
        }
    }
    println!("{accepted} accepted, {refused} refused from {first}, {:?}", start.elapsed());
    assert!(again.is_some() || (accepted > 5 && refused > 30), "{accepted} accepted, {refused} refused");
}
