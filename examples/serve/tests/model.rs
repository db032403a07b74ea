//! The `serve` program as a user runs it, with the real model: results together and alone, prefix reuse, shutdown.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

struct Server {
    child: Child,
    url: String,
    client: reqwest::Client,
}

impl Server {
    fn start() -> Self {
        Server::logging_to(Stdio::null())
    }

    fn logging_to(log: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_serve"));
        command.args(["--port", "0"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(log)
            .env_remove("NO_COLOR")
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("listening on ").expect("where it listens").to_owned();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Server { child, url, client }
    }

    fn score(&self, body: &Value) -> impl Future<Output = Value> + Send + 'static {
        let request = self.client.post(format!("{}/v1/score", self.url)).body(body.to_string());
        async {
            let response = request.send().await.expect("a response");
            let status = response.status();
            let body: Value = response.json().await.expect("JSON");
            assert_eq!(status, 200, "{body}");
            body
        }
    }

    /// Stops it as a supervisor does, and expects a clean end.
    fn stop(mut self) {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(kill.success());
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn ids(rng: &mut StdRng, n: usize) -> Vec<i32> {
    (0..n).map(|_| rng.random_range(1000..40_000)).collect()
}

/// Small requests of many kinds.
fn mixed() -> Vec<Value> {
    let rng = &mut StdRng::seed_from_u64(3);
    let words = ["Apple", "Car", "a red bicycle", "the moon", "Rain falls on the roof"];
    (0..25)
        .map(|i| {
            let items = 1 + i % 4;
            let mut request = if i % 2 == 0 {
                let query = ["Is this a fruit? Answer yes or no.", "Topic of the text:", "2 + 2 ="][i % 3];
                let items: Vec<String> = (0..items).map(|j| format!(" {}:", words[(i + j) % 5])).collect();
                json!({"query": query, "items": items})
            } else {
                let (query, length) = (rng.random_range(1..40), rng.random_range(1..8));
                let items: Vec<Vec<i32>> = (0..items).map(|_| ids(rng, length)).collect();
                json!({"query": ids(rng, query), "items": items})
            };
            request["label_token_ids"] = json!(ids(rng, 1 + i % 3));
            request["apply_softmax"] = json!(i % 3 == 0);
            request["item_first"] = json!(i % 8 == 0);
            request
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_get_what_each_gets_alone() {
    let server = Server::start();
    let requests = mixed();
    let mut alone = Vec::new();
    for request in &requests {
        alone.push(server.score(request).await);
    }
    let start = Instant::now();
    let tasks: Vec<_> =
        (0..200).map(|i| tokio::spawn(server.score(&requests[(i * 7) % requests.len()]))).collect();
    let mut together = Vec::new();
    for task in tasks {
        together.push(task.await.expect("no panic"));
    }
    println!("200 requests at once: {:.1} s", start.elapsed().as_secs_f64());
    let (mut scores, mut other_bits, mut furthest) = (0, 0, 0f64);
    for (i, response) in together.iter().enumerate() {
        let expected = &alone[(i * 7) % requests.len()];
        assert_eq!(response["usage"], expected["usage"]);
        let table = |value: &Value| -> Vec<Vec<f32>> {
            serde_json::from_value(value["scores"].clone()).expect("numbers")
        };
        let (found, expected) = (table(response), table(expected));
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
            scores += 1;
            other_bits += usize::from(a.to_bits() != b.to_bits());
            furthest = furthest.max(f64::from((a - b).abs()));
        }
    }
    println!("{other_bits} of {scores} scores have other bits; the furthest is {furthest:.1e} away");
    assert!(furthest <= 1e-5);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_query_is_faster_and_gives_the_same_bits() {
    let server = Server::start();
    let rng = &mut StdRng::seed_from_u64(5);
    let request = |query: &[i32], items: &[Vec<i32>]| json!({"query": query, "items": items, "label_token_ids": [9805, 787]});
    let items = |rng: &mut StdRng| (0..64).map(|_| ids(rng, 8)).collect::<Vec<_>>();
    let mut ratios = Vec::new();
    for round in 0..4 {
        let query = ids(rng, 500);
        let time = async |items: &[Vec<i32>]| {
            let start = Instant::now();
            let response = server.score(&request(&query, items)).await;
            (start.elapsed(), response)
        };
        let (first_items, new_items) = (items(rng), items(rng));
        let (first, alone) = time(&first_items).await;
        let (again, _) = time(&new_items).await;
        // The same items once more: by way of pages this time.
        let (_, reused) = time(&first_items).await;
        assert_eq!(reused["scores"], alone["scores"], "a hit changes no bit");
        // The first round compiles.
        if round > 0 {
            ratios.push(first.as_secs_f64() / again.as_secs_f64());
        }
    }
    println!("the first time is {ratios:.2?} times as long as a repeated query with new items");
    ratios.sort_by(f64::total_cmp);
    assert!(ratios[1] >= 1.5, "{ratios:.2?}");
    let metrics = server.client.get(format!("{}/metrics", server.url)).timeout(Duration::from_secs(5));
    let metrics = metrics.send().await.expect("a response").text().await.expect("text");
    assert!(metrics.contains("tpu_rpa_prefix_hits_total 8\n"), "{metrics}");
    assert!(metrics.contains("tpu_rpa_prefix_hit_tokens_total 4000\n"), "{metrics}");
    server.stop();
}

/// The first command of a block of the README's, and the JSON of the block behind it.
fn documented() -> (Value, Value) {
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("/v1/score -d '").expect("a curl command");
    let (body, rest) = rest.split_once("'\n").expect("its end");
    let (_, rest) = rest.split_once("```json\n").expect("the response");
    let (response, _) = rest.split_once("```").expect("its end");
    (serde_json::from_str(body).expect("JSON"), serde_json::from_str(response).expect("JSON"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_shows_what_comes_back() {
    let server = Server::start();
    let (body, documented) = documented();
    let response = server.score(&body).await;
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&response), keys(&documented));
    for field in ["object", "model", "usage"] {
        assert_eq!(response[field], documented[field]);
    }
    // Another processor may sum in another order.
    let scores =
        |value: &Value| serde_json::from_value::<Vec<[f64; 2]>>(value["scores"].clone()).expect("pairs");
    for (found, shown) in scores(&response).iter().flatten().zip(scores(&documented).iter().flatten()) {
        assert!((found - shown).abs() < 1e-4, "{found}, {shown} in the README");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_a_file_has_no_colours() {
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    Server::logging_to(log.reopen().expect("the file again").into()).stop();
    let log = std::fs::read_to_string(log.path()).expect("the log is text");
    assert!(log.contains("model loaded") && log.contains("shutting down"), "{log}");
    assert!(!log.contains('\x1b'), "{log:?}");
}
