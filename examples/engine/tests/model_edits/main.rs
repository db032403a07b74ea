//! A model file is run as it says, or refused: every edit of a small Llama is either an error of one line that names the
//! key or the tensor, or gives the scores that a plain evaluation of the edited file gives.

mod reference;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::gguf::{Gguf, Tensor, Value, tiny_llama};
use engine::{Service, Setup};
use tpu_rpa::score::ScoreRequest;
use tpu_rpa::spec::DType;

const QUERY: [i32; 7] = [3, 14, 15, 92, 65, 35, 89];
const ITEMS: [&[i32]; 3] = [&[7, 9], &[3, 2, 38, 46], &[26]];
const LABELS: [i32; 3] = [1, 64, 127];

/// What came of a file: scores, or the words of a refusal.
type Outcome = Result<Vec<Vec<f32>>, String>;

fn score(path: &Path) -> Outcome {
    let setup = Setup { model: path.into(), plugin: None, dtype: DType::F32, cache: None };
    let mut service = Service::open(&setup, &mut |_, _| ()).map_err(|error| error.to_string())?;
    let request = ScoreRequest {
        query: QUERY.to_vec(),
        items: ITEMS.map(<[i32]>::to_vec).to_vec(),
        label_token_ids: LABELS.to_vec(),
        apply_softmax: false,
        item_first: false,
    };
    // A file that loads scores: what it cannot do is said when it is loaded.
    let response = service.scorer.score(&request).unwrap_or_else(|error| panic!("loaded, then {error}"));
    Ok(response.logprobs)
}

/// Loads the file and scores; a panic fails the test with the case.
fn outcome(case: &str, bytes: &[u8]) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).expect("the file is written");
    let outcome = catch_unwind(AssertUnwindSafe(|| score(&path)));
    let outcome = outcome.unwrap_or_else(|_| panic!("{case}: a panic"));
    if let Err(words) = &outcome {
        assert!(!words.chars().any(char::is_control) && words.len() < 600, "{case}: one short line: {words:?}");
    }
    outcome
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

fn runs_as_it_says(case: &str, file: &Gguf) {
    match outcome(case, &file.bytes()) {
        Ok(scores) => {
            let off = distance(file, &scores);
            assert!(off < TOLERANCE, "{case}: {off:.1e} from what the file says");
        }
        Err(words) => panic!("{case}: {words}"),
    }
}

fn is_refused(case: &str, bytes: &[u8], name: &str) {
    match outcome(case, bytes) {
        Ok(_) => panic!("{case}: accepted"),
        Err(words) => assert!(words.contains(name), "{case}: {name} is not named: {words}"),
    }
}

#[test]
fn scores_are_those_of_a_plain_evaluation() {
    let start = std::time::Instant::now();
    runs_as_it_says("as it is", &tiny_llama(1));
    println!("{:?}", start.elapsed());
}

/// Prints what becomes of edits.
#[test]
fn probe() {
    let edits: Vec<(&str, Box<dyn Fn(&mut Gguf)>)> = vec![
        ("align 0", Box::new(|g| g.set("general.alignment", Value::U32(0)))),
        ("align 0 u64", Box::new(|g| g.set("general.alignment", Value::U64(0)))),
        ("align 1", Box::new(|g| g.set("general.alignment", Value::U32(1)))),
        ("align 4", Box::new(|g| g.set("general.alignment", Value::U32(4)))),
        ("align 64", Box::new(|g| g.set("general.alignment", Value::U32(64)))),
        ("offset", Box::new(|g| g.tensor_mut("output_norm.weight").offset = Some(4))),
        ("blocks 0", Box::new(|g| g.set("llama.block_count", Value::U32(0)))),
        ("blocks 1", Box::new(|g| g.set("llama.block_count", Value::U32(1)))),
        ("blocks", Box::new(|g| g.set("llama.block_count", Value::U32(4_000_000_000)))),
        ("freq 0", Box::new(|g| g.set("llama.rope.freq_base", Value::F32(0.0)))),
        ("freq inf", Box::new(|g| g.set("llama.rope.freq_base", Value::F32(f32::INFINITY)))),
        ("eps nan", Box::new(|g| g.set("llama.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)))),
        ("context 0", Box::new(|g| g.set("llama.context_length", Value::U32(0)))),
        ("context big", Box::new(|g| g.set("llama.context_length", Value::U64(1 << 40)))),
        ("rope_freqs", Box::new(|g| g.tensors.push(Tensor::f32("rope_freqs.weight", &[32], &[8.0; 32])))),
        ("heads 3", Box::new(|g| g.set("llama.attention.head_count", Value::U32(3)))),
        ("kv heads 0", Box::new(|g| g.set("llama.attention.head_count_kv", Value::U32(0)))),
        ("pre", Box::new(|g| g.set("tokenizer.ggml.merges", Value::Texts(vec!["q z".into()])))),
    ];
    for (case, edit) in edits {
        let mut file = tiny_llama(1);
        edit(&mut file);
        let start = std::time::Instant::now();
        let out = catch_unwind(AssertUnwindSafe(|| outcome(case, &file.bytes())));
        println!("== {case} {:?}: {out:?}", start.elapsed());
    }
}
