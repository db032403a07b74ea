//! The server under load that is bounded in count and time: many clients, and bad ones among them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::hashing::expected;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use serve_testing::{Options, Server};
use tpu_rpa::score::ScoreRequest;

/// A request of any kind; some share their query.
fn request(rng: &mut StdRng, items: usize) -> ScoreRequest {
    let ids = |rng: &mut StdRng, n: usize| (0..n).map(|_| rng.random_range(0..49_152)).collect::<Vec<i32>>();
    let length = rng.random_range(1..120);
    let query = if rng.random_bool(0.5) {
        let family = rng.random_range(0..4);
        (0..40 + 30 * family).map(|i| family * 1000 + i).collect()
    } else {
        ids(rng, length)
    };
    let items = (0..items).map(|_| {
        let n = rng.random_range(0..20);
        ids(rng, n)
    });
    ScoreRequest {
        query,
        items: items.collect(),
        label_token_ids: ids(rng, 3),
        apply_softmax: false,
        item_first: rng.random_bool(0.1),
    }
}

fn body(request: &ScoreRequest) -> String {
    json!({"query": request.query, "items": request.items, "label_token_ids": request.label_token_ids,
        "item_first": request.item_first})
    .to_string()
}

fn check(request: &ScoreRequest, response: &Value) {
    let scores: Vec<Vec<f32>> = serde_json::from_value(response["scores"].clone()).expect("numbers");
    let expected: Vec<Vec<f32>> = expected(request)
        .iter()
        .map(|item| item.iter().map(|&l| f64::from(l).exp() as f32).collect())
        .collect();
    assert_eq!(scores, expected);
}

/// Resident memory of this process in MiB: server and clients.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_get_what_each_gets_alone() {
    let server = Server::start(Options::default()).await;
    let mut rng = StdRng::seed_from_u64(7);
    let requests: Vec<ScoreRequest> = (0..200)
        .map(|i| {
            let items = if i % 20 == 0 { 64 } else { 1 + i % 7 };
            request(&mut rng, items)
        })
        .collect();
    let answers: Vec<_> = requests
        .iter()
        .map(|request| tokio::spawn(server.client.post(server.url("/v1/score")).body(body(request)).send()))
        .collect();
    for (request, answer) in requests.iter().zip(answers) {
        let response = answer.await.expect("no panic").expect("a response");
        assert_eq!(response.status(), 200);
        check(request, &response.json().await.expect("JSON"));
    }
    assert_eq!(server.metric("tpu_rpa_requests_total", "status=\"200\"").await, 200.0);
    let passes = server.metric("tpu_rpa_passes_total", "").await;
    println!("200 requests in {passes} passes");
    assert!(passes < 150.0, "waiting requests share passes: {passes}");
    assert!(server.metric("tpu_rpa_prefix_hits_total", "").await > 10.0);
    server.ended().await;
}

/// A client that does not do what it should, in one of five ways.
fn misbehave(address: SocketAddr, kind: usize, good: &str) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let head =
        |length: usize| format!("POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    match kind {
        // Sends half a body and leaves.
        0 => drop(stream.write_all((head(good.len()) + &good[..good.len() / 2]).as_bytes())),
        // Sends the request and leaves before the response.
        1 => drop(stream.write_all((head(good.len()) + good).as_bytes())),
        // Sends more than is allowed.
        2 => {
            stream.write_all(head(2 << 20).as_bytes()).ok();
            let _ = stream.write_all(&[b' '; 10_000]);
            stream.read_to_end(&mut Vec::new()).ok();
        }
        // Sends a part, slowly, until it is sent away.
        3 => {
            stream.write_all(head(100).as_bytes()).ok();
            for _ in 0..8 {
                stream.write_all(b"{").ok();
                std::thread::sleep(Duration::from_millis(50));
            }
            stream.read_to_end(&mut Vec::new()).ok();
        }
        // Sends no HTTP.
        _ => drop(stream.write_all(&[0xff; 200])),
    }
}

/// How much the last of `sizes` is above the one `rounds` before it.
fn grown(sizes: &[f64], rounds: usize) -> f64 {
    sizes.len().checked_sub(rounds + 1).map_or(f64::INFINITY, |first| sizes[sizes.len() - 1] - sizes[first])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_clients_lose_nothing_to_bad_ones_and_memory_stays_flat() {
    const ROUNDS: usize = 24;
    /// Rounds over which memory is to stay flat; other tests of this process grow it for a while.
    const FLAT: usize = 4;
    const CLIENTS: u64 = 16;
    const EACH: usize = 12;
    let body_limits = serve::BodyLimits { bytes: 1 << 20, time: Duration::from_millis(300) };
    let server = Server::start(Options { body: body_limits, ..Options::default() }).await;
    let mut sizes = Vec::new();
    for round in 0..ROUNDS {
        let bad: Vec<_> = (0..20)
            .map(|i| {
                let address = server.address;
                let good = body(&request(&mut StdRng::seed_from_u64(i as u64), 64));
                tokio::task::spawn_blocking(move || misbehave(address, i % 5, &good))
            })
            .collect();
        let good: Vec<_> = (0..CLIENTS)
            .map(|seed| {
                let (client, url) = (server.client.clone(), server.url("/v1/score"));
                tokio::spawn(async move {
                    let mut rng = StdRng::seed_from_u64(1000 * round as u64 + seed);
                    for _ in 0..EACH {
                        let request = request(&mut rng, 64);
                        let response =
                            client.post(&url).body(body(&request)).send().await.expect("a response");
                        assert_eq!(response.status(), 200);
                        check(&request, &response.json().await.expect("JSON"));
                    }
                })
            })
            .collect();
        for task in good {
            task.await.expect("every good request has its response");
        }
        for task in bad {
            task.await.expect("no panic");
        }
        // The bad clients' requests end too.
        server.until("tpu_rpa_pending_requests", "", 0.0).await;
        let sent = (round + 1) * CLIENTS as usize * EACH;
        let served = server.metric("tpu_rpa_requests_total", "status=\"200\"").await;
        // Those who left before their response may have been served.
        assert!(served >= sent as f64 && served <= (sent + (round + 1) * 4) as f64, "{served} of {sent}");
        assert_eq!(server.metric("tpu_rpa_kv_pages", "private").await, 0.0);
        sizes.push(resident());
        if grown(&sizes, FLAT) < 2.0 {
            break;
        }
    }
    println!("resident after each round, MiB: {sizes:.0?}");
    let growth = grown(&sizes, FLAT);
    assert!(growth < 2.0, "memory grew by {growth:.0} MiB over the last {FLAT} rounds: {sizes:.0?}");
    server.ended().await;
}

/// A full queue refuses at once, and who was let in is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_queue_takes_is_refused_and_the_rest_served() {
    let server = Server::start(Options { queue: 8, ..Options::default() }).await;
    server.control.hold();
    let good = body(&request(&mut StdRng::seed_from_u64(1), 4));
    let answers: Vec<_> = (0..64)
        .map(|_| tokio::spawn(server.client.post(server.url("/v1/score")).body(good.clone()).send()))
        .collect();
    server.until("tpu_rpa_requests_total", "status=\"429\"", 56.0).await;
    server.control.release();
    let mut served = 0;
    for answer in answers {
        served += usize::from(answer.await.expect("no panic").expect("a response").status() == 200);
    }
    assert_eq!(served, 8);
    server.ended().await;
}
