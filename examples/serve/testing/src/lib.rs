//! A server in this process. Its engine hashes what rows see, so that any mix-up shows, and can be held up and made to
//! fail.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task;
use tpu_rpa::batch::Tiling;
use tpu_rpa::score::{ForwardPass, Limits, Pass, Scorer};

use common::hashing::{Hashing, PAGE_SIZE};
use engine::{Checkpoint, Dispatcher, model_path};
use serve::{App, BodyLimits, ConnectionLimits, Metrics, Model, serve};

/// The name of the model.
pub const MODEL: &str = "hashing";

/// What an engine's error says; no client may read it.
pub const SECRET: &str = "tile 7 of /dev/accel0 burnt";

#[derive(Debug, thiserror::Error)]
#[error("{SECRET}")]
pub struct Burnt;

/// Holds the engine up, makes it fail, and counts its passes.
#[derive(Default)]
pub struct Control {
    held: Mutex<bool>,
    changed: Condvar,
    pub failing: AtomicBool,
    /// Answers are not numbers.
    pub broken: AtomicBool,
    pub passes: AtomicUsize,
    pub delay: Mutex<Duration>,
}

impl Control {
    pub fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    pub fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.changed.notify_all();
    }

    pub fn passes(&self) -> usize {
        self.passes.load(Ordering::SeqCst)
    }
}

struct Toy {
    inner: Hashing,
    control: Arc<Control>,
}

impl ForwardPass for Toy {
    type Error = Burnt;

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn run(&mut self, pass: &Pass) -> Result<Vec<f32>, Burnt> {
        self.control.passes.fetch_add(1, Ordering::SeqCst);
        let held = self.control.held.lock().unwrap();
        drop(self.control.changed.wait_while(held, |held| *held).unwrap());
        std::thread::sleep(*self.control.delay.lock().unwrap());
        if self.control.failing.load(Ordering::SeqCst) {
            return Err(Burnt);
        }
        let Ok(mut values) = self.inner.run(pass);
        if self.control.broken.load(Ordering::SeqCst) {
            values.fill(f32::NAN);
        }
        Ok(values)
    }
}

/// How a [`Server`] is set up.
pub struct Options {
    pub queue: usize,
    pub connections: usize,
    pub body: BodyLimits,
    /// Also how long a connection may idle: a client that reuses one just then is reset.
    pub header_time: Duration,
    pub write_time: Duration,
    pub token_budget: usize,
}

impl Default for Options {
    fn default() -> Self {
        let body = BodyLimits { bytes: 1 << 20, time: Duration::from_secs(20) };
        Options {
            queue: 256,
            connections: 512,
            body,
            header_time: Duration::from_secs(20),
            write_time: Duration::from_secs(20),
            token_budget: 600,
        }
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub control: Arc<Control>,
    pub client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    http: task::JoinHandle<()>,
    device: JoinHandle<()>,
}

impl Server {
    pub async fn start(options: Options) -> Self {
        let checkpoint = Checkpoint::open(&model_path()).expect("`make tools` fetched the model");
        let vocabulary = checkpoint.config.vocabulary;
        let limits = Limits {
            vocabulary,
            context: 600,
            pass_tokens: 600,
            max_request_tokens: 40_000,
            max_items: 1000,
            sliding_window: None,
            max_labels: 20,
            page_size: PAGE_SIZE,
            pool_pages: 600 / PAGE_SIZE,
            tiling: Tiling::portable(32, 32, 16, PAGE_SIZE).expect("the tiling is valid"),
        };
        let control = Arc::new(Control::default());
        let toy = Toy { inner: Hashing::new(limits), control: Arc::clone(&control) };
        let mut scorer = Scorer::new(toy).expect("the limits are valid");
        scorer.set_prefix_reuse(true);
        scorer.set_token_budget(options.token_budget);
        let metrics = Arc::new(Metrics::new());
        let on_pass = {
            let metrics = Arc::clone(&metrics);
            move |scorer: &_, report| metrics.pass(scorer, report)
        };
        let (dispatcher, device) = Dispatcher::start(scorer, options.queue, on_pass).expect("a thread");
        let model = Model { name: MODEL.into(), tokenizer: checkpoint.tokenizer, vocabulary };
        let app = App::new(model, dispatcher, metrics, options.body);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let limits = ConnectionLimits {
            connections: options.connections,
            header_time: options.header_time,
            write_time: options.write_time,
            grace: Duration::from_secs(20),
        };
        let (stop, stopped) = oneshot::channel();
        let http = tokio::spawn(serve(listener, app, limits, async {
            stopped.await.ok();
        }));
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Server { address, control, client, stop: Some(stop), http, device }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Posts a body to `/v1/score`.
    pub async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let response = self.client.post(self.url("/v1/score")).body(body).send().await.expect("a response");
        let status = response.status().as_u16();
        (status, response.json().await.expect("JSON"))
    }

    pub async fn text(&self, path: &str) -> String {
        let response = self.client.get(self.url(path)).send().await.expect("a response");
        response.text().await.expect("text")
    }

    /// The sum of a metric's samples over all labels that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.text("/metrics").await;
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or("#");
            (rest.starts_with('{') || rest.starts_with(' ')) && rest.contains(labels)
        });
        samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .fold(0.0, |sum, sample| sum + sample)
    }

    /// Waits until a metric has a value.
    pub async fn until(&self, name: &str, labels: &str, value: f64) {
        for _ in 0..500 {
            if self.metric(name, labels).await == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} is {}, not {value}", self.metric(name, labels).await);
    }

    /// Tells it to stop; [`ended`](Self::ended) waits for that.
    pub fn stop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }

    /// Stops it and waits for its threads.
    pub async fn ended(mut self) {
        self.stop();
        drop(self.client);
        self.http.await.expect("the server ends without a panic");
        task::spawn_blocking(move || self.device.join())
            .await
            .expect("a thread")
            .expect("the device thread ends without a panic");
    }
}
