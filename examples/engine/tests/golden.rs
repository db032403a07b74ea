//! The example engine on a real model, against scores of an independent implementation: transformers in float32, one
//! prompt at a time (`produced_with` in tests/data/golden/golden.json says exactly what).

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};
use tpu_rpa::kernels::TpuKind;
use tpu_rpa::score::{Algorithm, ScoreRequest, ScoreResponse};
use tpu_rpa::spec::DType;

use engine::{Service, Setup};

#[derive(Deserialize)]
struct Golden {
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    id: String,
    item_first: bool,
    query: Text,
    items: Vec<Text>,
    labels: Vec<Label>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Text {
    text: Option<String>,
    token_ids: Vec<i32>,
}

#[derive(Deserialize)]
struct Label {
    token_id: i32,
}

#[derive(Deserialize)]
struct Expected {
    logprobs: Vec<Vec<f64>>,
    softmax: Vec<Vec<f64>>,
}

impl Request {
    fn tokens(&self) -> ScoreRequest {
        ScoreRequest {
            query: self.query.token_ids.clone(),
            items: self.items.iter().map(|item| item.token_ids.clone()).collect(),
            label_token_ids: self.labels.iter().map(|label| label.token_id).collect(),
            apply_softmax: true,
            item_first: self.item_first,
        }
    }

    fn longest(&self) -> usize {
        let item = self.items.iter().map(|item| item.token_ids.len()).max().unwrap_or(0);
        self.query.token_ids.len() + item
    }
}

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    serde_json::from_str(include_str!("data/golden/golden.json")).expect("the recorded requests are JSON")
});

fn golden(id: &str) -> &'static Request {
    GOLDEN.requests.iter().find(|request| request.id.starts_with(id)).expect("a recorded request")
}

fn open(dtype: DType, interpreted: Option<TpuKind>) -> Service {
    let setup = Setup {
        model: engine::model_path(),
        plugin: None,
        dtype,
        cache: engine::cache_folder(),
        interpreted,
    };
    Service::open(&setup, &mut |_, _| ()).unwrap_or_else(|error| panic!("{error}"))
}

/// One f32 engine for all tests, set back to packed passes without a budget of their own.
fn service() -> MutexGuard<'static, Service> {
    static SERVICE: LazyLock<Mutex<Service>> = LazyLock::new(|| Mutex::new(open(DType::F32, None)));
    let mut service = SERVICE.lock().unwrap_or_else(PoisonError::into_inner);
    let pass_tokens = service.scorer.limits().pass_tokens;
    service.scorer.set_algorithm(Algorithm::Packed);
    service.scorer.set_token_budget(pass_tokens);
    service
}

fn score(service: &mut Service, request: &ScoreRequest) -> ScoreResponse {
    service.scorer.score(request).unwrap_or_else(|error| panic!("{error}"))
}

/// Largest absolute difference of two tables.
fn difference<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[Vec<A>], b: &[Vec<B>]) -> f64 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b).flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b)
    });
    pairs.map(|(&a, &b)| (a.into() - b.into()).abs()).fold(0.0, f64::max)
}

/// Largest difference relative to the value.
fn relative(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs() / f64::from(b).abs()).fold(0.0, f64::max)
}

fn bits(logprobs: &[f32]) -> Vec<u32> {
    logprobs.iter().map(|l| l.to_bits()).collect()
}

#[test]
fn f32_scores_are_those_of_the_reference() {
    f32_scores(&mut service());
}

/// What a TPU's user runs: the engine's program for TPU, its attention, KV write and label log-probs in the emulator. Queries
/// are written to pages, which are donated and updated in place, by one pass and read by the next.
#[cfg(feature = "emulator")]
#[test]
fn f32_scores_on_an_interpreted_tpu_are_those_of_the_reference() {
    let mut service = open(DType::F32, Some(TpuKind::V6e));
    service.scorer.set_token_budget(100);
    f32_scores(&mut service);
}

#[cfg(feature = "emulator")]
#[test]
fn bf16_scores_on_an_interpreted_tpu_are_near_the_reference() {
    bf16_scores(&mut open(DType::Bf16, Some(TpuKind::V7x)));
}

fn f32_scores(service: &mut Service) {
    for request in &GOLDEN.requests {
        let response = score(service, &request.tokens());
        let logprob = difference(&response.logprobs, &request.expected.logprobs);
        let softmax = difference(&response.scores, &request.expected.softmax);
        println!("{}: log-probs within {logprob:.1e}, softmax within {softmax:.1e}", request.id);
        let tolerance = if request.longest() > 1000 { 1e-3 } else { 5e-4 };
        assert!(logprob <= tolerance, "{}: log-probs differ by {logprob:.1e}", request.id);
        assert!(softmax <= 1e-4, "{}: softmax differs by {softmax:.1e}", request.id);
    }
}

/// bf16 weights and arithmetic are up to 0.30 away in the implementation that made the reference.
#[test]
fn bf16_scores_are_near_the_reference() {
    bf16_scores(&mut open(DType::Bf16, None));
}

fn bf16_scores(service: &mut Service) {
    for request in &GOLDEN.requests {
        let response = score(service, &request.tokens());
        let logprob = difference(&response.logprobs, &request.expected.logprobs);
        println!("{}: bf16 log-probs within {logprob:.1e}", request.id);
        assert!(logprob <= 0.30, "{}: log-probs differ by {logprob:.1e}", request.id);
    }
}

#[test]
fn tokenizer_gives_the_recorded_ids() {
    let cases: Vec<Text> =
        serde_json::from_str(include_str!("data/golden/tokenizer-cases.json")).expect("JSON");
    let service = service();
    let requests = GOLDEN.requests.iter().flat_map(|r| r.items.iter().chain([&r.query]));
    let mut checked = 0;
    for Text { text, token_ids } in cases.iter().chain(requests) {
        let Some(text) = text else { continue };
        assert_eq!(&service.tokenizer.encode(text).expect("any text has ids"), token_ids, "{text:?}");
        checked += 1;
    }
    assert!(checked > 84, "{checked} texts");
}

#[test]
fn algorithm_and_budget_do_not_change_scores() {
    let mut service = service();
    for id in ["a01", "a06", "a11", "a13"] {
        let request = golden(id).tokens();
        let packed = score(&mut service, &request).logprobs;
        for budget in [20, 64, 150] {
            service.scorer.set_token_budget(budget);
            let chunked = score(&mut service, &request).logprobs;
            let r = relative(&chunked, &packed);
            println!("{id}: budget {budget} within {r:.1e}");
            assert!(r <= 1e-6, "{id}: a budget of {budget} changes log-probs by {r:.1e}");
        }
        let pass_tokens = service.scorer.limits().pass_tokens;
        service.scorer.set_token_budget(pass_tokens);
        service.scorer.set_algorithm(Algorithm::Serial);
        let serial = score(&mut service, &request).logprobs;
        service.scorer.set_algorithm(Algorithm::Packed);
        let r = relative(&serial, &packed);
        println!("{id}: serial within {r:.1e}");
        assert!(r <= 1e-6, "{id}: serial log-probs differ by {r:.1e}");
    }
}

/// A query that is itself cut, at key tiles, and carried through pages.
#[test]
fn a_query_in_parts_scores_the_same() {
    let mut service = service();
    let mut request = golden("a05").tokens();
    request.items.truncate(4);
    let whole = score(&mut service, &request).logprobs;
    service.scorer.set_token_budget(512);
    let parts = score(&mut service, &request).logprobs;
    let r = relative(&parts, &whole);
    println!("within {r:.1e}");
    assert!(r <= 1e-6, "cutting the query changes log-probs by {r:.1e}");
}

#[test]
fn an_item_does_not_depend_on_its_siblings() {
    let mut service = service();
    let query = golden("a01").tokens().query;
    let item = |seed: i32, length: i32| (0..length).map(|i| 1000 + seed * 997 + i * 31).collect::<Vec<_>>();
    let request = |items: Vec<Vec<i32>>| ScoreRequest {
        query: query.clone(),
        items,
        label_token_ids: vec![9805, 787],
        ..ScoreRequest::default()
    };
    let items: Vec<_> = (0..6).map(|seed| item(seed, 20)).collect();
    let base = score(&mut service, &request(items.clone())).logprobs;

    let mut others = items.clone();
    for (seed, other) in others.iter_mut().enumerate().skip(1) {
        *other = item(20 + seed as i32, 20);
    }
    let with_others = score(&mut service, &request(others)).logprobs;
    assert_eq!(bits(&with_others[0]), bits(&base[0]), "content of siblings");

    let reversed = score(&mut service, &request(items.iter().rev().cloned().collect())).logprobs;
    for (i, logprobs) in reversed.iter().rev().enumerate() {
        assert_eq!(bits(logprobs), bits(&base[i]), "permutation of equal lengths");
    }

    // Another number, other lengths around it: other matrix shapes, other packing.
    for siblings in [vec![], vec![item(40, 3); 17], vec![item(41, 57), item(42, 130)]] {
        let mut items = siblings.clone();
        items.push(item(0, 20));
        let count = items.len();
        let logprobs = score(&mut service, &request(items)).logprobs;
        let r = relative(&logprobs[count - 1..], &base[..1]);
        println!("{} siblings of other lengths: within {r:.1e}", siblings.len());
        assert!(r <= 1e-6, "{} siblings change log-probs by {r:.1e}", siblings.len());
    }
}

#[test]
fn a_second_request_compiles_nothing() {
    let mut service = service();
    let request = golden("a02").tokens();
    score(&mut service, &request);
    let before = service.scorer.engine().cache_stats();
    score(&mut service, &request);
    // Other content, other lengths, another number of items and labels: still the same bucket.
    let mut other = request;
    other.items.pop();
    other.items[0].reverse();
    other.items[1].pop();
    other.label_token_ids.push(100);
    score(&mut service, &other);
    assert_eq!(service.scorer.engine().cache_stats(), before, "the same bucket asked for a program again");
}

#[test]
fn hostile_requests_are_refused_and_the_next_one_is_served() {
    let good = json!({"query": "2 + 2 =", "items": [" 4", " 5"], "label_token_ids": [198, 30]}).to_string();
    let long = "word ".repeat(9000);
    let cases: Vec<(Vec<u8>, &str, Value)> = vec![
        (b"{\"query\": ".to_vec(), "invalid_json", Value::Null),
        (b"{\"query\": \"\xff\"}".to_vec(), "invalid_utf8", Value::Null),
        ("[".repeat(100_000).into_bytes(), "invalid_json", Value::Null),
        (b"[1, 2]".to_vec(), "invalid_request_type", json!("request")),
        (json!({"items": ["a"], "label_token_ids": [1]}).to_string().into(), "missing_query", json!("query")),
        (
            json!({"query": "q", "items": 5, "label_token_ids": [1]}).to_string().into(),
            "invalid_items_type",
            json!("items"),
        ),
        (
            json!({"query": "q", "items": ["a", [1]], "label_token_ids": [1]}).to_string().into(),
            "mixed_input_types",
            json!("items"),
        ),
        (
            json!({"query": [1], "items": [[2, "x"]], "label_token_ids": [1]}).to_string().into(),
            "invalid_token_id_type",
            json!("items[0][1]"),
        ),
        (
            json!({"query": "q", "items": ["a"], "label_token_ids": [1.5]}).to_string().into(),
            "invalid_token_id_type",
            json!("label_token_ids[0]"),
        ),
        (
            json!({"query": "q", "items": ["a"], "label_token_ids": [1], "apply_softmax": "yes"})
                .to_string()
                .into(),
            "invalid_apply_softmax_type",
            json!("apply_softmax"),
        ),
        (
            json!({"query": [1], "items": [[2]], "label_token_ids": [1u64 << 63]}).to_string().into(),
            "token_id_exceeds_vocab",
            json!("label_token_ids[0]"),
        ),
        (
            json!({"query": [1], "items": [[3], [-1]], "label_token_ids": [1]}).to_string().into(),
            "negative_token_id",
            json!("items[1][0]"),
        ),
        (
            json!({"query": [49152], "items": [[3]], "label_token_ids": [1]}).to_string().into(),
            "token_id_exceeds_vocab",
            json!("query[0]"),
        ),
        (
            json!({"query": "q", "items": [], "label_token_ids": [1]}).to_string().into(),
            "empty_items",
            json!("items"),
        ),
        (
            json!({"query": "q", "items": ["a"], "label_token_ids": []}).to_string().into(),
            "empty_label_token_ids",
            json!("label_token_ids"),
        ),
        (
            json!({"query": "", "items": ["a", ""], "label_token_ids": [1]}).to_string().into(),
            "empty_query",
            json!("query"),
        ),
        (
            json!({"query": long, "items": ["a"], "label_token_ids": [1]}).to_string().into(),
            "prompt_too_long",
            json!("items[0]"),
        ),
    ];
    let mut service = service();
    let answer = service.answer(good.as_bytes()).expect("a valid request");
    for (line, code, param) in cases {
        let error = service.answer(&line).expect_err(code).to_json();
        assert_eq!((&error["error"]["code"], &error["error"]["param"]), (&json!(code), &param), "{error}");
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert_eq!(service.answer(good.as_bytes()).expect("a valid request"), answer, "after {code}");
    }
}
