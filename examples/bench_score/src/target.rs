use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tpu_rpa::runtime::Plugin;
use tpu_rpa::score::{ScoreRequest, Scorer};

use crate::args::BenchArgs;
use crate::workload::Workload;
use engine::wire::Failure;
use engine::{DispatchError, Dispatcher, Llama, Service};

/// Times before the first measurement, in seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ColdStart {
    /// Loading the model; none where a server had done it.
    pub(crate) load: Option<f64>,
    /// The first request, compilation included where nothing is in a disk cache.
    pub(crate) first_request: f64,
}

/// What is measured.
pub(crate) enum Target {
    Process {
        dispatcher: Dispatcher,
        device: JoinHandle<()>,
        misses: Arc<AtomicU64>,
        about: Value,
        plugin: Plugin,
        /// Of the model.
        layers: usize,
    },
    Server {
        client: reqwest::Client,
        url: String,
        model: Option<String>,
    },
}

impl Target {
    /// Opens it and sends the first request.
    pub(crate) async fn open(args: &BenchArgs, first: &Workload) -> Result<(Self, ColdStart)> {
        let start = Instant::now();
        let (target, load) = match &args.url {
            None => {
                let target = Target::process(args)?;
                (target, Some(start.elapsed().as_secs_f64()))
            }
            Some(url) => (Target::server(url).await?, None),
        };
        let start = Instant::now();
        if let Err(code) = target.score(first.request(true, u64::MAX >> 1)).await {
            bail!("the first request failed: {code}");
        }
        Ok((target, ColdStart { load, first_request: start.elapsed().as_secs_f64() }))
    }

    fn process(args: &BenchArgs) -> Result<Self> {
        let Service { mut scorer, .. } = Service::open(&args.model.setup(), &mut |_, _| ())?;
        scorer.set_token_budget(args.model.token_budget);
        scorer.set_prefix_reuse(true);
        let about = scorer.engine().about();
        let (plugin, layers) = (scorer.engine().plugin(), scorer.engine().config().layers);
        let misses = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&misses);
        let on_pass = move |scorer: &Scorer<Llama>, _| {
            let stats = scorer.engine().cache_stats();
            counter.store(stats.compiles + stats.disk_hits, Ordering::Relaxed);
        };
        let (dispatcher, device) = Dispatcher::start(scorer, 1 << 16, on_pass).context("device thread")?;
        Ok(Target::Process { dispatcher, device, misses, about, plugin, layers })
    }

    async fn server(url: &str) -> Result<Self> {
        let url = url.trim_end_matches('/').to_owned();
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(600))
            .build()
            .context("HTTP client")?;
        let models = client.get(format!("{url}/v1/models")).send().await.context("/v1/models")?;
        let models: Option<Value> = models.json().await.ok();
        let model = models.and_then(|m| m["data"][0]["id"].as_str().map(str::to_owned));
        Ok(Target::Server { client, url, model })
    }

    /// Sends a request; where it fails, the code of the error.
    pub(crate) async fn score(&self, request: ScoreRequest) -> Result<(), String> {
        match self {
            Target::Process { dispatcher, .. } => match dispatcher.score(request).await {
                Ok(_) => Ok(()),
                Err(DispatchError::Score(error)) => Err(Failure::from(error).code().to_owned()),
                Err(other) => Err(other.to_string()),
            },
            Target::Server { client, url, model } => {
                let mut body = json!({
                    "query": request.query,
                    "items": request.items,
                    "label_token_ids": request.label_token_ids,
                    "apply_softmax": request.apply_softmax,
                    "item_first": request.item_first,
                });
                // Left out where the server names none: null is no name to SGLang.
                if let Some(model) = model {
                    body["model"] = json!(model);
                }
                let sent = client.post(format!("{url}/v1/score")).json(&body).send().await;
                let response = sent.map_err(|error| kind(&error))?;
                let status = response.status();
                let body: Value = response.json().await.map_err(|error| kind(&error))?;
                if !status.is_success() {
                    return Err(error_code(status.as_u16(), &body));
                }
                let labels = request.label_token_ids.len();
                let scores = body["scores"].as_array().map_or(&[][..], Vec::as_slice);
                let whole = |item: &Value| {
                    item.as_array().is_some_and(|l| l.len() == labels && l.iter().all(Value::is_number))
                };
                let complete = scores.len() == request.items.len() && scores.iter().all(whole);
                if complete { Ok(()) } else { Err("no_scores".into()) }
            }
        }
    }

    /// Programs that were not in memory so far; none where the server does not tell.
    pub(crate) async fn cache_misses(&self) -> Option<u64> {
        match self {
            Target::Process { misses, .. } => Some(misses.load(Ordering::Relaxed)),
            Target::Server { client, url, .. } => {
                let text = client.get(format!("{url}/metrics")).send().await.ok()?.text().await.ok()?;
                let count = |name: &str| -> Option<u64> {
                    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
                };
                Some(count("tpu_rpa_programs_compiled_total ")? + count("tpu_rpa_programs_loaded_total ")?)
            }
        }
    }

    /// Facts about it for the report.
    pub(crate) fn about(&self) -> Value {
        match self {
            Target::Process { about, .. } => about.clone(),
            Target::Server { url, model, .. } => json!({"url": url, "model": model}),
        }
    }

    /// Waits for the device thread.
    pub(crate) async fn close(self) {
        if let Target::Process { dispatcher, device, .. } = self {
            drop(dispatcher);
            tokio::task::spawn_blocking(move || device.join()).await.ok();
        }
    }
}

/// What an error response is counted as: the code of this crate's server; or status and type, of SGLang, whose code is
/// the status, in an envelope or (older versions) without one.
fn error_code(status: u16, body: &Value) -> String {
    let error = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
    match (error["code"].as_str(), error["type"].as_str()) {
        (Some(code), _) => code.to_owned(),
        (None, Some(kind)) => format!("{status} {kind}"),
        (None, None) => status.to_string(),
    }
}

fn kind(error: &reqwest::Error) -> String {
    let kind = match error {
        e if e.is_timeout() => "timeout",
        e if e.is_connect() => "connection_refused",
        e if e.is_decode() => "not_json",
        _ => "connection_lost",
    };
    kind.into()
}
