//! The `bench_score` program: the smoke profile on the real engine, the gate against a server that gets slower, reports.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use serve_testing::{Options, Server};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench_score"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("the program starts")
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a report")).expect("JSON")
}

#[test]
fn the_smoke_profile_ends_within_a_minute_and_says_what_it_measured() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (report, csv, trace) =
        (folder.path().join("a.json"), folder.path().join("a.csv"), folder.path().join("t.json"));
    let start = Instant::now();
    let output =
        run(&["--profile", "smoke", "--json", path(&report), "--csv", path(&csv), "--trace", path(&trace)]);
    let took = start.elapsed();
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", text(&output));
    assert!(took < Duration::from_secs(60), "{took:?}");
    let report = json(&report);
    for case in report["cases"].as_array().expect("cases") {
        assert!(case["requests"].as_u64() > Some(0), "{case}");
        assert_eq!(case["errors"], serde_json::json!({}));
        if case["workload"]["concurrency"] == 1 {
            assert_eq!(case["cache_misses"], 0, "warm-up had compiled everything: {case}");
        }
        let l = |name: &str| case["latency_ms"][name].as_f64().expect("a number");
        assert!(l("min") <= l("p50") && l("p50") <= l("p95") && l("p99") <= l("max"));
        let rate = case["items_per_second"].as_f64().expect("a number");
        let items = case["requests"].as_f64().expect("a number") * 8.0;
        let expected = items / case["elapsed_seconds"].as_f64().expect("a number");
        assert!((rate / expected - 1.0).abs() < 1e-6);
    }
    let e = &report["environment"];
    assert_eq!((&e["dtype"], &e["seed"]), (&Value::from("f32"), &Value::from(1)));
    assert_eq!(e["model_sha256"].as_str().map(str::len), Some(64));
    assert!(report["cold_start"]["load"].as_f64() > Some(0.0));
    let lines = std::fs::read_to_string(&csv).expect("the CSV");
    assert_eq!(lines.lines().count(), 3, "{lines}");

    let events: Vec<Value> = serde_json::from_value(json(&trace)).expect("a list of events");
    let plugin = events.iter().find(|event| event["name"] == "PJRT plugin").expect("what the plugin offers");
    let extensions = plugin["args"]["extensions"].as_array().expect("a list");
    let devices = events.iter().any(|event| event["cat"] == "op");
    assert_eq!(devices, extensions.contains(&"Profiler".into()), "{plugin}");

    let ends = |phase: &str| {
        let of_requests = events.iter().filter(|e| e["cat"] == "request" && e["ph"] == phase);
        of_requests.map(|e| e["id"].as_str().expect("an id")).collect::<BTreeSet<_>>()
    };
    let measured: u64 =
        report["cases"].as_array().expect("cases").iter().filter_map(|case| case["requests"].as_u64()).sum();
    assert!(ends("b").len() as u64 > measured, "warm-up and cold start are traced too");
    assert_eq!(ends("b"), ends("e"), "every request ends");
    let passes = events.iter().filter(|e| e["name"] == "pass" && e["ph"] == "B");
    let named: BTreeSet<String> = passes
        .flat_map(|e| {
            serde_json::from_str::<Vec<u64>>(e["args"]["requests"].as_str().expect("a list")).expect("ids")
        })
        .map(|id| id.to_string())
        .collect();
    assert!(named.iter().map(String::as_str).eq(ends("b")), "every request takes part in passes");

    let stages = run(&["stages", path(&trace)]);
    assert!(stages.status.success(), "{}", text(&stages));
    for stage in ["plan", "upload", "execute", "download", "pass"] {
        assert!(text(&stages).contains(stage), "{}", text(&stages));
    }
}

/// A server whose engine sleeps for a known time: what the program says is wrong or right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_fails_on_a_slowdown_and_on_nothing_else() {
    let server = Server::start(Options::default()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (fast, slow) = (folder.path().join("fast.json"), folder.path().join("slow.json"));
    let measure = async |delay: u64, more: &[&str]| {
        *server.control.delay.lock().expect("no panic") = Duration::from_millis(delay);
        let url = server.url("");
        let mut arguments = vec!["--url", &url, "--query-tokens", "100", "--items", "8", "--warm-up", "0.5"];
        arguments.extend(["--duration", "2.5", "--regression-threshold", "30"]);
        arguments.extend(more);
        tokio::task::block_in_place(|| run(&arguments))
    };
    let first = measure(50, &["--json", path(&fast)]).await;
    assert!(first.status.success(), "{}", text(&first));
    let l = json(&fast)["cases"][0]["latency_ms"]["p50"].as_f64().expect("a number");
    assert!((50.0..75.0).contains(&l), "p50 is {l} ms, the engine takes 50");

    let same = measure(50, &["--baseline", path(&fast)]).await;
    assert_eq!(same.status.code(), Some(0), "{}", text(&same));
    assert!(text(&same).contains("ok: custom: items/s"));

    let slower = measure(100, &["--baseline", path(&fast), "--json", path(&slow)]).await;
    assert_eq!(slower.status.code(), Some(2), "{}", text(&slower));
    assert!(text(&slower).contains("REGRESSION: custom: items/s -"), "{}", text(&slower));
    assert!(text(&slower).contains("REGRESSION: custom: p95 +"), "{}", text(&slower));

    // Another workload cannot be judged by this baseline.
    let other = measure(50, &["--baseline", path(&fast), "--labels", "3"]).await;
    assert_eq!(other.status.code(), Some(1), "{}", text(&other));

    let (markdown, html) = (folder.path().join("r.md"), folder.path().join("r.html"));
    let reports = ["compare", path(&fast), path(&slow), "--markdown", path(&markdown), "--html", path(&html)];
    let compared = run(&reports);
    assert!(compared.status.success(), "{}", text(&compared));
    let markdown = std::fs::read_to_string(markdown).expect("the Markdown");
    let row = markdown.lines().find(|line| line.starts_with("| items/s |")).expect("a row");
    assert!(row.contains("(0.4") || row.contains("(0.5"), "half as fast: {row}");
    let html = std::fs::read_to_string(html).expect("the page");
    assert_eq!(html.matches("<svg").count(), 2, "one plot of rates, one of the case");
    assert!(!html.contains("src=") && !html.contains("href="), "self-contained");

    // Random arrivals come at the asked rate, whatever the engine does.
    let random =
        measure(0, &["--rps", "40", "--poisson", "--concurrency", "64", "--json", path(&slow)]).await;
    assert!(random.status.success(), "{}", text(&random));
    let requests = json(&slow)["cases"][0]["requests"].as_f64().expect("a number");
    assert!((60.0..150.0).contains(&requests), "{requests} requests, 100 expected");

    // Errors are counted by code, and are a regression.
    server.control.failing.store(true, std::sync::atomic::Ordering::SeqCst);
    let failing = measure(50, &[]).await;
    assert_eq!(failing.status.code(), Some(1));
    assert!(text(&failing).contains("internal_error"), "{}", text(&failing));
    server.ended().await;
}

/// `/v1/score` as SGLang documents it: a request is what its `ScoringRequest` takes, a response has the fields of its
/// `ScoringResponse` (<https://github.com/sgl-project/sglang/pull/18381>), an error is flat in old versions and in an
/// envelope in new ones, its code an integer.
mod sglang {
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde_json::{Value, json};

    fn valid(request: &Value) -> Option<(usize, usize)> {
        let ids = |value: &Value| value.as_array().filter(|ids| ids.iter().all(Value::is_u64)).map(Vec::len);
        let fields = request.as_object()?;
        let known = ["query", "items", "label_token_ids", "apply_softmax", "item_first", "model"];
        let model = fields.get("model").is_none_or(Value::is_string);
        let flags = ["apply_softmax", "item_first"].iter().all(|flag| request[flag].is_boolean());
        if !model || !flags || !fields.keys().all(|field| known.contains(&field.as_str())) {
            return None;
        }
        ids(&request["query"])?;
        let items = request["items"].as_array()?;
        items.iter().map(ids).collect::<Option<Vec<_>>>()?;
        Some((items.len(), ids(&request["label_token_ids"])?))
    }

    fn refuse(enveloped: bool) -> axum::response::Response {
        let mut error = json!({"object": "error", "message": "no", "type": "BadRequestError", "param": null, "code": 400});
        if enveloped {
            error.as_object_mut().expect("an object").remove("object");
            error = json!({"error": error});
        }
        (StatusCode::BAD_REQUEST, Json(error)).into_response()
    }

    /// Serves on a free port; `/v1/models` may be missing, and every request may be refused.
    pub async fn serve(models: bool, refused: Option<bool>) -> String {
        let score = move |Json(request): Json<Value>| async move {
            if let Some(enveloped) = refused {
                return refuse(enveloped);
            }
            let Some((items, labels)) = valid(&request) else { return refuse(true) };
            let usage = json!({"prompt_tokens": 29, "total_tokens": 29, "completion_tokens": 0,
                "prompt_tokens_details": null, "reasoning_tokens": 0});
            let model = request["model"].as_str().unwrap_or("default");
            let scores = vec![vec![0.25; labels]; items];
            Json(json!({"scores": scores, "model": model, "usage": usage, "object": "scoring"}))
                .into_response()
        };
        let mut app = Router::new().route("/v1/score", post(score));
        if models {
            let card = json!({"id": "Qwen/Qwen3-0.6B", "object": "model", "created": 1770000000, "owned_by": "sglang",
                "root": "Qwen/Qwen3-0.6B", "parent": null, "max_model_len": 40960});
            let list = Json(json!({"object": "list", "data": [card]}));
            app = app.route("/v1/models", get(|| async { list }));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async { axum::serve(listener, app).await });
        format!("http://{address}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_measures_a_server_that_speaks_as_sglang_does() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("sglang.json");
    let measure = async |url: &str| {
        let arguments =
            ["--url", url, "--query-tokens", "40", "--items", "3", "--labels", "4", "--warm-up", "0"];
        let more = ["--duration", "0.3", "--json", path(&file)];
        tokio::task::block_in_place(|| run(&[&arguments[..], &more].concat()))
    };
    for (models, model) in [(true, "Qwen/Qwen3-0.6B"), (false, "unknown")] {
        let output = measure(&sglang::serve(models, None).await).await;
        assert!(output.status.success(), "{}", text(&output));
        let report = json(&file);
        let case = &report["cases"][0];
        assert!(case["requests"].as_u64() > Some(0) && case["errors"] == serde_json::json!({}), "{case}");
        assert_eq!(report["environment"]["model"], model);
        assert_eq!(case["cache_misses"], Value::Null, "it does not tell");
    }
    for enveloped in [false, true] {
        let output = measure(&sglang::serve(true, Some(enveloped)).await).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("400 BadRequestError"), "{}", text(&output));
    }
}

/// A profile of three runs of a loop of six iterations, as XLA records it.
const JAX: &str = "
import sys, jax, jax.numpy as jnp
step = lambda i, x: jnp.tanh(x @ x * 0.01)
run = jax.jit(lambda x: jax.lax.fori_loop(0, 6, step, x))
x = jnp.ones((128, 128))
run(x).block_until_ready()
with jax.profiler.trace(sys.argv[1]):
    for _ in range(3):
        run(x).block_until_ready()
";

#[test]
fn a_profile_of_xla_becomes_spans_of_operations_and_layers() {
    let jax = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/py-jax");
    if !Path::new(jax).is_dir() {
        eprintln!("SKIPPED: no JAX: sh .ci/tools.sh jax fetches it");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut python = Command::new("python3");
    python.args(["-c", JAX, path(folder.path())]).env("PYTHONPATH", jax).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = python.env("JAX_PLATFORMS", "cpu").output().expect("python3 starts");
    assert!(output.status.success(), "{}", text(&output));
    let runs = std::fs::read_dir(folder.path().join("plugins/profile")).expect("a profile");
    let run = runs.map(|run| run.expect("a run").path()).next().expect("a run");
    let mut files = std::fs::read_dir(run).expect("files").map(|file| file.expect("a file").path());
    let file = files.find(|file| path(file).ends_with(".xplane.pb")).expect("a space");
    let space = std::fs::read(file).expect("it is readable");

    // JAX's profiles count from the profiler's start.
    let clock = bench_score::xplane::Clock { epoch: 0, started: 5_000_000_000 };
    let events = bench_score::xplane::trace_events(&space, clock, 6).expect("a space");
    let of = |category: &str| events.iter().filter(|event| event["cat"] == category).collect::<Vec<_>>();
    let (layers, operations) = (of("layer"), of("op"));
    assert_eq!(layers.len(), 18, "{layers:?}");
    let number = |event: &Value, field: &str| event[field].as_f64().expect("a number");
    for (i, layer) in layers.iter().enumerate() {
        assert_eq!(layer["name"], format!("layer {}", i % 6));
        let (start, end) = (number(layer, "ts"), number(layer, "ts") + number(layer, "dur"));
        let inside = operations.iter().filter(|op| op["pid"] == layer["pid"]);
        let inside = inside.filter(|op| (start..end).contains(&number(op, "ts")));
        assert!(inside.count() >= 2, "the layer contains its operations");
    }
    let last = number(layers[17], "ts") / 1e6;
    assert!((5.0..60.0).contains(&last), "{last} s");
    assert!(
        bench_score::xplane::trace_events(&space, clock, 7)
            .expect("a space")
            .iter()
            .all(|event| event["cat"] != "layer")
    );
}

#[test]
fn what_makes_no_sense_is_said_in_one_line() {
    for (arguments, words) in [
        (&["--items", "0"][..], "--items is 0"),
        (&["--url", "http://127.0.0.1:9"], "127.0.0.1:9"),
        (&["--baseline", "/nonexistent.json"], "/nonexistent.json"),
        (&["--rps", "0"], "--rps is 0"),
        (&["compare", "Cargo.toml", "Cargo.toml"], "Cargo.toml"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let text = text(&output);
        assert!(text.starts_with("error: ") && text.contains(words) && text.lines().count() == 1, "{text}");
    }
}
