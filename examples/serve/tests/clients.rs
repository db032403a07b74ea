//! The server and clients that others wrote: requests drawn from its OpenAPI document by schemathesis, errors read by
//! the openai package. Both are skipped, and say so, where `.ci/tools.sh clients` could not fetch them.

use std::path::Path;
use std::process::{Command, Output};

use serve_testing::{MODEL, Options, SECRET, Server};

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/py-clients");

/// Runs Python with the clients; none where they are not there.
async fn python(arguments: Vec<String>) -> Option<Output> {
    if !Path::new(CLIENTS).is_dir() {
        eprintln!("SKIPPED: no HTTP clients: sh .ci/tools.sh clients fetches them");
        return None;
    }
    let run = move || {
        let mut command = Command::new("python3");
        command.args(arguments).env("PYTHONPATH", CLIENTS).env("PYTHONDONTWRITEBYTECODE", "1");
        // Hypothesis keeps a folder of examples where it runs.
        let folder = tempfile::tempdir().expect("a temporary folder");
        command.env("NO_PROXY", "*").current_dir(folder.path()).output().expect("python3 starts")
    };
    Some(tokio::task::spawn_blocking(run).await.expect("no panic"))
}

/// Examples that one run of schemathesis draws: it slows down with their number.
const EXAMPLES: u64 = 500;

/// At least as many requests as `FUZZ_REQUESTS` says, in runs with seeds of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_drawn_request_gets_anything_but_what_is_documented() {
    let wanted: f64 = std::env::var("FUZZ_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(500.0);
    let server = Server::start(Options::default()).await;
    let count = async |labels: &str| server.metric("tpu_rpa_requests_total", labels).await;
    let mut seed = 0;
    while count("").await < wanted {
        seed += 1;
        let arguments = [
            "-m",
            "schemathesis.cli",
            "run",
            &server.url("/openapi.json"),
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            &EXAMPLES.to_string(),
            "--include-path",
            "/v1/score",
            "--seed",
            &seed.to_string(),
            "--workers",
            "2",
            "--continue-on-failure",
            "--suppress-health-check",
            "all",
            "--no-color",
        ];
        let Some(output) = python(arguments.map(str::to_owned).to_vec()).await else { return };
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert!(!text.contains(SECRET) && !text.contains("panicked"), "{text}");
        assert!(seed < 100, "{} requests after 100 runs", count("").await);
    }
    let (all, good, failed) = (count("").await, count("\"200\"").await, count("\"500\"").await);
    println!("{all} requests: {good} scored, {failed} failed");
    for status in ["400", "408", "413", "422", "429"] {
        println!("{status}: {}", count(&format!("\"{status}\"")).await);
    }
    assert!(good > 0.0 && failed == 0.0, "{good} scored, {failed} failed");
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openai_package_reads_its_errors() {
    let server = Server::start(Options::default()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_errors.py");
    let arguments = [script.to_owned(), server.url(""), MODEL.to_owned()];
    if let Some(output) = python(arguments.to_vec()).await {
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("5 errors as documented"), "{text}");
    }
    server.ended().await;
}
