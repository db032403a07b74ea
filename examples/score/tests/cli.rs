//! The `score` program as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

use common::gguf::{Gguf, Tensor, Value as Entry, tiny_llama};
use serde_json::{Value, json};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_score"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("RUST_BACKTRACE", "1");
    command.output().expect("the program starts")
}

fn error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked"), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one line: {text}");
    errors[0].to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn every_line_gets_its_response_in_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (requests, responses) = (folder.path().join("requests.jsonl"), folder.path().join("responses.jsonl"));
    let text = json!({"query": "The capital of France is", "items": [" Paris", " Rome", ""],
        "label_token_ids": [30, 28], "apply_softmax": true, "model": "ignored"});
    let ids = json!({"query": [504, 3575], "items": [[282], [282, 4649]], "label_token_ids": [30], "item_first": true});
    let lines: Vec<Vec<u8>> = vec![
        text.to_string().into_bytes(),
        b"not JSON".to_vec(),
        Vec::new(),
        b"\"\xff\xfe\"".to_vec(),
        ids.to_string().into_bytes(),
        text.to_string().into_bytes(),
    ];
    std::fs::write(&requests, lines.join(&b'\n')).expect("the requests are written");
    let output = run(&["--requests", path(&requests), "--output", path(&responses)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let written = std::fs::read_to_string(&responses).expect("the responses are there");
    let answers: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let codes: Vec<&Value> = answers.iter().map(|answer| &answer["error"]["code"]).collect();
    assert_eq!(
        codes,
        [
            &Value::Null,
            &json!("invalid_json"),
            &json!("empty_line"),
            &json!("invalid_utf8"),
            &Value::Null,
            &Value::Null
        ]
    );
    assert_eq!(answers[0], answers[5], "what failed between leaves no trace");
    assert_eq!(answers[0]["object"], "scoring");
    for scores in answers[0]["scores"].as_array().expect("scores") {
        let sum: f64 = scores.as_array().expect("one list an item").iter().filter_map(Value::as_f64).sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
    assert_eq!(answers[4]["logprobs"].as_array().map(Vec::len), Some(2));
    assert_eq!(answers[4]["usage"], json!({"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}));
}

#[test]
fn what_is_missing_is_said_in_one_line() {
    let no_model = run(&["--model", "/nonexistent/model.gguf"]);
    assert!(!no_model.status.success());
    assert!(error(&no_model).contains("run `make tools`"), "{}", error(&no_model));

    let no_plugin = run(&["--plugin", "/nonexistent/plugin.so"]);
    assert!(!no_plugin.status.success());
    assert!(error(&no_plugin).contains("run `make tools`"), "{}", error(&no_plugin));

    let not_a_model = run(&["--model", "Cargo.toml"]);
    assert!(!not_a_model.status.success());
    assert!(error(&not_a_model).contains("Cargo.toml"), "{}", error(&not_a_model));

    let no_requests = run(&["--requests", "/nonexistent/requests.jsonl"]);
    assert!(!no_requests.status.success());
    assert!(error(&no_requests).contains("/nonexistent/requests.jsonl"), "{}", error(&no_requests));
}

type Edit = fn(&mut Gguf);

/// Writes a small Llama with an edit, and runs it on a request.
fn with_model(edit: Edit) -> (Output, Option<String>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    let mut model = tiny_llama(1);
    edit(&mut model);
    std::fs::write(file("model.gguf"), model.bytes()).expect("the model is written");
    let request = json!({"query": [3, 14], "items": [[15], [92, 65]], "label_token_ids": [7, 8]});
    std::fs::write(file("requests.jsonl"), request.to_string()).expect("the request is written");
    let (model, requests, responses) = (file("model.gguf"), file("requests.jsonl"), file("responses.jsonl"));
    let output = run(&["--model", path(&model), "--requests", path(&requests), "--output", path(&responses)]);
    (output, std::fs::read_to_string(responses).ok())
}

#[test]
fn a_model_that_is_not_run_as_it_says_is_refused_before_anything_is_written() {
    let cases: [(&str, Edit); 6] = [
        ("rope_freqs.weight", |m| m.tensors.push(Tensor::f32("rope_freqs.weight", &[32], &[8.0; 32]))),
        ("llama.expert_count is 8", |m| m.set("llama.expert_count", Entry::U32(8))),
        ("llama.block_count is 4000000000", |m| m.set("llama.block_count", Entry::U32(4_000_000_000))),
        ("general.alignment", |m| m.set("general.alignment", Entry::U32(0))),
        ("layer_norm_rms_epsilon is NaN", |m| {
            m.set("llama.attention.layer_norm_rms_epsilon", Entry::F32(f32::NAN));
        }),
        ("output_norm.weight[5] is NaN", |m| {
            m.replace("output_norm.weight", &[128], |mut values| {
                values[5] = f32::NAN;
                values
            });
        }),
    ];
    for (name, edit) in cases {
        let (output, written) = with_model(edit);
        assert_eq!((output.status.code(), written), (Some(1), None), "{name}");
        assert!(error(&output).contains(name), "{name}: {}", error(&output));
    }
}

#[test]
fn a_model_that_answers_with_nan_is_said_to_and_for_which_item() {
    let (output, written) = with_model(|model| {
        for name in ["blk.0.ffn_up.weight", "blk.0.ffn_gate.weight"] {
            model.replace(name, &[96, 128], |values| values.into_iter().map(|value| value * 1e37).collect());
        }
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_str(&written.expect("a response")).expect("JSON");
    let message = answer["error"]["message"].as_str().expect("an error");
    assert!(message.contains("NaN") && message.contains("items[0]"), "{message}");
    assert!(!message.contains("server"), "there is no server: {message}");
}
