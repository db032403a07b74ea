//! What `/v1/score` promises, through HTTP: shapes, every error code, limits, cancellation, shutdown.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::hashing::expected;
use serde_json::{Value, json};
use serve_testing::{MODEL, Options, SECRET, Server};
use tpu_rpa::score::ScoreRequest;

/// Codes of the API, each with its status.
const CODES: [(&str, u16); 19] = [
    ("missing_query", 400),
    ("empty_query", 400),
    ("invalid_query_type", 400),
    ("missing_items", 400),
    ("empty_items", 400),
    ("invalid_items_type", 400),
    ("mixed_input_types", 400),
    ("missing_label_token_ids", 400),
    ("empty_label_token_ids", 400),
    ("negative_token_id", 400),
    ("invalid_token_id_type", 400),
    ("invalid_label_token_ids_type", 400),
    ("invalid_apply_softmax_type", 400),
    ("invalid_item_first_type", 400),
    ("model_not_found", 400),
    ("token_id_exceeds_vocab", 422),
    ("prompt_too_long", 422),
    ("rate_limit_exceeded", 429),
    ("internal_error", 500),
];

fn check(answer: &(u16, Value), code: &str, status: u16, param: &Value) {
    let (found, body) = answer;
    let error = &body["error"];
    assert_eq!((*found, &error["code"]), (status, &json!(code)), "{body}");
    assert_eq!(&error["param"], param, "{body}");
    let keys: BTreeSet<&str> = error.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["message", "type", "param", "code"]));
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1));
    let kind = match status {
        429 => "rate_limit_error",
        500 => "server_error",
        _ => "invalid_request_error",
    };
    assert_eq!(error["type"], kind);
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
}

/// A valid request with other values for some fields; `null` leaves one out.
fn with(changes: Value) -> String {
    let mut request = json!({"query": [1, 2], "items": [[3], [4, 5]], "label_token_ids": [6, 7]});
    for (field, value) in changes.as_object().expect("fields") {
        request[field] = value.clone();
    }
    request.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    request.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_has_the_documented_form() {
    let server = Server::start(Options::default()).await;
    let (status, body) = server.post(with(json!({"model": MODEL, "apply_softmax": true}))).await;
    assert_eq!(status, 200, "{body}");
    let keys: BTreeSet<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["object", "model", "scores", "usage", "created"]));
    assert_eq!((&body["object"], &body["model"]), (&json!("scoring"), &json!(MODEL)));
    assert_eq!(body["usage"], json!({"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}));
    assert!(body["created"].as_u64().is_some_and(|created| created > 1_700_000_000));

    // Text is what its token ids are; item_first is its own prompt; scores are those of the definition.
    for (request, text) in [
        (json!({"query": [504, 3575], "items": [[282], [282, 4649]]}), None),
        (json!({"query": "2 + 2 =", "items": [" 4", " 5", ""]}), Some(["2 + 2 =", " 4", " 5", ""])),
        (json!({"query": "a b", "items": [" c"], "item_first": true}), Some(["a b", " c", "", ""])),
        (json!({"query": "", "items": ["c"]}), Some(["", "c", "", ""])),
        (json!({"query": "2 + 2 =", "items": " 4"}), Some(["2 + 2 =", " 4", "", ""])),
    ] {
        let (status, body) = server.post(with(request.clone())).await;
        assert_eq!(status, 200, "{body}");
        let ids = |value: &Value| match value.as_str() {
            Some(text) => tokenizer().encode(text).expect("any text has ids"),
            None => serde_json::from_value(value.clone()).expect("ids"),
        };
        let definition = ScoreRequest {
            query: ids(&request["query"]),
            items: match &request["items"] {
                Value::Array(items) => items.iter().map(ids).collect(),
                one => vec![ids(one)],
            },
            label_token_ids: vec![6, 7],
            apply_softmax: false,
            item_first: request["item_first"] == true,
        };
        let scores: Vec<Vec<f32>> = serde_json::from_value(body["scores"].clone()).expect("numbers");
        let expected: Vec<Vec<f32>> = expected(&definition)
            .iter()
            .map(|item| item.iter().map(|&l| f64::from(l).exp() as f32).collect())
            .collect();
        assert_eq!(scores, expected, "{text:?}");
    }

    let models: Value = serde_json::from_str(&server.text("/v1/models").await).expect("JSON");
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!(MODEL)));
    assert_eq!(server.text("/health").await, r#"{"status":"ok"}"#);
    assert_eq!(server.metric("tpu_rpa_requests_total", "status=\"200\"").await, 6.0);
    assert!(server.metric("tpu_rpa_prefix_lookups_total", "").await >= 3.0);
    server.ended().await;
}

fn tokenizer() -> engine::Tokenizer {
    let checkpoint = engine::Checkpoint::open(&engine::model_path());
    checkpoint.expect("`make tools` fetched the model").tokenizer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_code_comes_over_http() {
    let mut server = Server::start(Options { queue: 2, ..Options::default() }).await;
    let good = with(json!({}));
    let answer = server.post(good.clone()).await;
    assert_eq!(answer.0, 200);
    let words = "word ".repeat(700);
    let cases = [
        (with(json!({"query": null})), "missing_query", json!("query")),
        (with(json!({"query": [], "items": [[1], []]})), "empty_query", json!("query")),
        (with(json!({"query": "", "items": ["a", ""]})), "empty_query", json!("query")),
        (with(json!({"query": 5})), "invalid_query_type", json!("query")),
        (with(json!({"query": {"a": 1}})), "invalid_query_type", json!("query")),
        (with(json!({"items": null})), "missing_items", json!("items")),
        (with(json!({"items": []})), "empty_items", json!("items")),
        (with(json!({"items": 7})), "invalid_items_type", json!("items")),
        (with(json!({"items": "a"})), "mixed_input_types", json!("items")),
        (with(json!({"items": [[1], 2]})), "invalid_items_type", json!("items[1]")),
        (with(json!({"items": [[1], "a"]})), "mixed_input_types", json!("items")),
        (with(json!({"query": "q"})), "mixed_input_types", json!("items")),
        (with(json!({"label_token_ids": null})), "missing_label_token_ids", json!("label_token_ids")),
        (with(json!({"label_token_ids": []})), "empty_label_token_ids", json!("label_token_ids")),
        (with(json!({"label_token_ids": 7})), "invalid_label_token_ids_type", json!("label_token_ids")),
        (with(json!({"label_token_ids": [1, -1]})), "negative_token_id", json!("label_token_ids[1]")),
        (with(json!({"query": [-5]})), "negative_token_id", json!("query[0]")),
        (with(json!({"items": [[3], [4, -1e30]]})), "negative_token_id", json!("items[1][1]")),
        (with(json!({"label_token_ids": [1.5]})), "invalid_token_id_type", json!("label_token_ids[0]")),
        (with(json!({"query": [1, "x"]})), "invalid_token_id_type", json!("query[1]")),
        (with(json!({"items": [[[1]]]})), "invalid_token_id_type", json!("items[0][0]")),
        (with(json!({"apply_softmax": "yes"})), "invalid_apply_softmax_type", json!("apply_softmax")),
        (with(json!({"item_first": 1})), "invalid_item_first_type", json!("item_first")),
        (with(json!({"model": "gpt-2"})), "model_not_found", json!("model")),
        (with(json!({"model": 3})), "model_not_found", json!("model")),
        (with(json!({"query": [49152]})), "token_id_exceeds_vocab", json!("query[0]")),
        (with(json!({"items": [[1u64 << 63]]})), "token_id_exceeds_vocab", json!("items[0][0]")),
        (with(json!({"label_token_ids": [1e40]})), "token_id_exceeds_vocab", json!("label_token_ids[0]")),
        (with(json!({"items": [vec![1; 599]]})), "prompt_too_long", json!("items[0]")),
        (with(json!({"query": words, "items": ["a"]})), "prompt_too_long", json!("items[0]")),
    ];
    let mut seen = BTreeSet::new();
    let status = |code: &str| CODES.iter().find(|known| known.0 == code).expect("a documented code").1;
    for (body, code, param) in cases {
        check(&server.post(body).await, code, status(code), &param);
        seen.insert(code);
        let again = server.post(good.clone()).await;
        assert_eq!((again.0, &again.1["scores"]), (200, &answer.1["scores"]), "after {code}");
    }

    // The queue takes two.
    server.control.hold();
    let post = |body: String| {
        let request = server.client.post(server.url("/v1/score")).body(body);
        tokio::spawn(async move { request.send().await.expect("a response").status().as_u16() })
    };
    let waiting = [post(good.clone()), post(with(json!({"query": [9]})))];
    server.until("tpu_rpa_pending_requests", "", 2.0).await;
    check(&server.post(good.clone()).await, "rate_limit_exceeded", 429, &Value::Null);
    seen.insert("rate_limit_exceeded");
    server.control.release();
    for waiting in waiting {
        assert_eq!(waiting.await.expect("no panic"), 200);
    }
    assert_eq!(server.post(good.clone()).await.0, 200, "there is room again");

    // The engine fails.
    server.control.failing.store(true, Ordering::SeqCst);
    let failed = server.post(good.clone()).await;
    check(&failed, "internal_error", 500, &Value::Null);
    seen.insert("internal_error");
    let text = failed.1.to_string();
    assert!(!text.contains(SECRET) && !text.contains("accel") && !text.contains("engine"), "{text}");
    server.control.failing.store(false, Ordering::SeqCst);
    let after = server.post(good.clone()).await;
    assert_eq!((after.0, &after.1["scores"]), (200, &answer.1["scores"]), "what was in pages is not trusted");

    // It answers, and not with a number: for which item is no secret.
    server.control.broken.store(true, Ordering::SeqCst);
    let broken = server.post(good.clone()).await;
    check(&broken, "internal_error", 500, &Value::Null);
    let message = broken.1["error"]["message"].as_str().expect("a message");
    assert!(message.contains("items[0]") && message.contains("NaN"), "{message}");
    server.control.broken.store(false, Ordering::SeqCst);

    assert_eq!(seen, CODES.iter().map(|known| known.0).collect());
    server.stop();
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_gets_an_error_in_the_same_form() {
    let server = Server::start(Options::default()).await;
    let nested = "[".repeat(100_000);
    for (body, code) in [
        (b"{\"query\": ".to_vec(), "invalid_json"),
        (b"".to_vec(), "invalid_json"),
        (b"{\"query\": \"\xff\"}".to_vec(), "invalid_utf8"),
        (nested.into_bytes(), "invalid_json"),
    ] {
        check(&server.post(body).await, code, 400, &Value::Null);
    }
    check(&server.post("[1]").await, "invalid_request_type", 400, &json!("request"));
    let many = with(json!({"items": vec![json!([1]); 1001]}));
    check(&server.post(many).await, "too_many_items", 422, &json!("items"));
    let many = with(json!({"label_token_ids": vec![1; 21]}));
    check(&server.post(many).await, "too_many_labels", 422, &json!("label_token_ids"));
    let many = with(json!({"items": vec![vec![1; 590]; 100]}));
    check(&server.post(many).await, "too_many_tokens", 422, &json!("items"));
    check(&server.post(vec![b' '; (1 << 20) + 1]).await, "request_too_large", 413, &Value::Null);

    // An id is reported as it was sent, whatever its size.
    for (body, code, status, param, sent) in [
        (
            r#"{"query": [1], "items": [[2]], "label_token_ids": [6, 1180591620717411303425]}"#,
            "token_id_exceeds_vocab",
            422,
            "label_token_ids[1]",
            "1180591620717411303425",
        ),
        (
            r#"{"query": [1], "items": [[2], [3, -98765432109876543210]], "label_token_ids": [6]}"#,
            "negative_token_id",
            400,
            "items[1][1]",
            "-98765432109876543210",
        ),
        (
            r#"{"query": [1e40], "items": [[2]], "label_token_ids": [6]}"#,
            "token_id_exceeds_vocab",
            422,
            "query[0]",
            "1e40",
        ),
        (
            r#"{"query": [9223372036854775807], "items": [[2]], "label_token_ids": [6]}"#,
            "token_id_exceeds_vocab",
            422,
            "query[0]",
            "9223372036854775807",
        ),
    ] {
        let answer = server.post(body).await;
        check(&answer, code, status, &json!(param));
        let message = answer.1["error"]["message"].as_str().expect("a message");
        assert_eq!(message, format!("{param} is {sent}; it must be in 0..49152"));
    }

    // A body that would have to be decoded first.
    for (encoding, status) in [("gzip", 415), ("br", 415), ("identity", 200), ("Identity", 200)] {
        let request = server.client.post(server.url("/v1/score")).header("content-encoding", encoding);
        let body = if status == 200 { with(json!({})).into_bytes() } else { vec![0x1f, 0x8b, 8, 0] };
        let response = request.body(body).send().await.expect("a response");
        let found = response.status().as_u16();
        let body: Value = response.json().await.expect("JSON");
        assert_eq!(found, status, "{body}");
        if status == 415 {
            assert!(
                body["error"]["message"].as_str().is_some_and(|message| message.contains(encoding)),
                "{body}"
            );
            check(&(found, body), "unsupported_content_encoding", 415, &Value::Null);
        }
    }

    let get = |path: &str| server.client.get(server.url(path)).send();
    for (response, code, status) in [
        (get("/v1/score").await, "method_not_allowed", 405),
        (get("/v2").await, "not_found", 404),
        (get("/v1/models/gpt-2").await, "model_not_found", 404),
    ] {
        let response = response.expect("a response");
        let status_found = response.status().as_u16();
        check(&(status_found, response.json().await.expect("JSON")), code, status, &Value::Null);
    }
    server.ended().await;
}

/// Writes raw bytes, and returns what comes back until the server closes.
fn raw(server: &Server, bytes: Vec<u8>) -> tokio::task::JoinHandle<String> {
    let address = server.address;
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(&bytes).ok();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).ok();
        String::from_utf8_lossy(&text).into_owned()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_oversized_clients_are_sent_away() {
    let soon = Duration::from_millis(300);
    let body = serve::BodyLimits { bytes: 1000, time: soon };
    let server = Server::start(Options { body, header_time: soon, ..Options::default() }).await;
    let start = |length: &str| format!("POST /v1/score HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n");
    let declared = raw(&server, start("content-length: 1000000000000").into()).await.expect("no panic");
    assert!(declared.starts_with("HTTP/1.1 413"), "refused unread: {declared}");
    let mut chunked = start("transfer-encoding: chunked").into_bytes();
    for _ in 0..20 {
        chunked.extend_from_slice(format!("64\r\n{}\r\n", " ".repeat(100)).as_bytes());
    }
    let chunked = raw(&server, chunked).await.expect("no panic");
    assert!(chunked.starts_with("HTTP/1.1 413"), "{chunked}");
    let half = raw(&server, (start("content-length: 100") + "{\"query\"").into()).await.expect("no panic");
    assert!(half.starts_with("HTTP/1.1 408"), "{half}");
    let header = raw(&server, b"POST /v1/sc".to_vec()).await.expect("no panic");
    assert!(header.is_empty() || header.starts_with("HTTP/1.1 408"), "half a header: {header}");
    let garbage = raw(&server, b"\x16\x03\x01 not HTTP\r\n\r\n".to_vec()).await.expect("no panic");
    assert!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    assert_eq!(server.post(with(json!({}))).await.0, 200);
    assert_eq!(server.control.passes(), 1);
    server.ended().await;
}

/// A client that asks for more than fits into socket buffers and reads nothing: the one place for connections has to
/// come free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_sent_away() {
    let write_time = Duration::from_millis(300);
    let server = Server::start(Options { connections: 1, write_time, ..Options::default() }).await;
    let items = vec![json!([3]); 1000];
    let body = with(json!({"items": items, "label_token_ids": (0..20).collect::<Vec<i32>>()}));
    let request =
        format!("POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    let greedy = tokio::task::spawn_blocking(move || {
        stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        // Responses of 200 kB each; the server stops reading requests once it cannot write.
        (0..100).take_while(|_| stream.write_all(request.as_bytes()).is_ok()).count();
        stream
    });
    let good = tokio::time::timeout(Duration::from_secs(15), server.post(with(json!({})))).await;
    assert_eq!(good.expect("a place within the time").0, 200);
    let answered = server.metric("tpu_rpa_requests_total", "status=\"200\"").await;
    assert!((2.0..100.0).contains(&answered), "the greedy client was cut off half-way: {answered}");
    drop(greedy.await.expect("no panic"));
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_client_left_takes_no_further_pass() {
    let server = Server::start(Options::default()).await;
    server.control.hold();
    // 40 passes of one item each.
    let large = with(json!({"items": vec![vec![1; 590]; 40]}));
    let request = server.client.post(server.url("/v1/score")).body(large);
    let task = tokio::spawn(request.timeout(Duration::from_millis(300)).send());
    server.until("tpu_rpa_pending_requests", "", 1.0).await;
    assert!(task.await.expect("no panic").expect_err("the client does not wait").is_timeout());
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.control.release();
    server.until("tpu_rpa_pending_requests", "", 0.0).await;
    assert!(server.control.passes() < 10, "{} passes", server.control.passes());
    assert_eq!(server.post(with(json!({}))).await.0, 200);
    assert_eq!(server.metric("tpu_rpa_cancelled_requests_total", "").await, 1.0);
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_finishes_what_was_accepted() {
    let mut server = Server::start(Options::default()).await;
    server.control.hold();
    let answers: Vec<_> = (0..8)
        .map(|i| {
            let body = with(json!({"query": [i, 2]}));
            tokio::spawn(server.client.post(server.url("/v1/score")).body(body).send())
        })
        .collect();
    server.until("tpu_rpa_pending_requests", "", 8.0).await;
    server.stop();
    for _ in 0..200 {
        if TcpStream::connect(server.address).is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(TcpStream::connect(server.address).is_err(), "nobody new is let in");
    server.control.release();
    for answer in answers {
        assert_eq!(answer.await.expect("no panic").expect("a response").status(), 200);
    }
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_reads_it() {
    let server = Server::start(Options::default()).await;
    let (url, body) = (server.url("/v1/score"), with(json!({})));
    let output = tokio::task::spawn_blocking(move || {
        let format = "\n%{http_code}";
        Command::new("curl").args(["--silent", "--noproxy", "*", "-w", format, &url, "-d", &body]).output()
    });
    match output.await.expect("no panic") {
        Ok(output) => {
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            let (json, status) = text.rsplit_once('\n').expect("a status");
            let json: Value = serde_json::from_str(json).expect("JSON");
            assert_eq!((status, &json["object"]), ("200", &json!("scoring")));
        }
        Err(error) => eprintln!("SKIPPED: curl: {error}"),
    }
    server.ended().await;
}

/// The document that the server serves names every code that the tests above got.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openapi_document_names_every_code() {
    let server = Server::start(Options::default()).await;
    let document: Value = serde_json::from_str(&server.text("/openapi.json").await).expect("JSON");
    let responses = &document["paths"]["/v1/score"]["post"]["responses"];
    for (code, status) in CODES.into_iter().chain([("unsupported_content_encoding", 415)]) {
        let schema = &responses[status.to_string()]["content"]["application/json"]["schema"];
        let codes = &schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"];
        assert!(codes.as_array().is_some_and(|codes| codes.contains(&json!(code))), "{code}: {codes}");
    }
    server.ended().await;
}
