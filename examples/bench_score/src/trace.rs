use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tpu_rpa::runtime::{Plugin, Profiler, RuntimeError};
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::prelude::*;

use bench_score::xplane::{self, Clock};

/// A trace under way: spans of the library and the engine, and what the plugin's own profiler sees of its devices.
pub(crate) struct Trace {
    path: PathBuf,
    host: FlushGuard,
    /// Nanoseconds since 1970 at which its times begin.
    epoch: i64,
    devices: Option<Devices>,
}

struct Devices {
    recorder: JoinHandle<Result<Vec<u8>, RuntimeError>>,
    extensions: Vec<String>,
    started: i64,
    layers: usize,
}

impl Trace {
    /// Begins one that [`finish`](Self::finish) writes to `path`, in the Chrome trace format, which ui.perfetto.dev opens.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        // Before the layer, which would panic.
        fs::File::create(path).with_context(|| path.display().to_string())?;
        let (layer, host) = ChromeLayerBuilder::new().file(path).include_args(true).build();
        let epoch = now();
        let own = tracing_subscriber::filter::filter_fn(|meta| {
            ["tpu_rpa", "engine", "bench_score"].iter().any(|own| meta.target().starts_with(own))
        });
        tracing_subscriber::registry().with(layer.with_filter(own)).init();
        Ok(Trace { path: path.to_owned(), host, epoch, devices: None })
    }

    /// Records the plugin's devices from now on for `time`, on the first call; `layers` is the model's number of them.
    pub(crate) fn record_devices(&mut self, plugin: Plugin, layers: usize, time: Duration) {
        self.devices.get_or_insert_with(|| {
            let started = now();
            let recorder = std::thread::spawn(move || {
                let profiler = Profiler::start(&plugin)?;
                std::thread::sleep(time);
                profiler.stop()
            });
            let extensions = plugin.extensions().iter().map(ToString::to_string).collect();
            Devices { recorder, extensions, started, layers }
        });
    }

    /// Writes it. The devices' part also goes, unchanged, to a folder that XProf opens: `path` with `.xprof` behind.
    pub(crate) fn finish(self) -> Result<()> {
        drop(self.host);
        let name = || self.path.display().to_string();
        let text = fs::read_to_string(&self.path).with_context(name)?;
        let mut all: Vec<Value> = serde_json::from_str(&text).with_context(name)?;
        all.append(&mut requests(&all));
        if let Some(devices) = self.devices {
            all.append(&mut devices.finish(self.epoch, &self.path)?);
        }
        let text = serde_json::to_string(&all).with_context(name)?;
        fs::write(&self.path, text).with_context(name)
    }
}

impl Devices {
    /// Its events.
    fn finish(self, epoch: i64, path: &Path) -> Result<Vec<Value>> {
        let clock = Clock { epoch, started: self.started };
        let mut event = json!({"ph": "i", "s": "g", "pid": 1, "tid": 0, "ts": 0,
            "name": "PJRT plugin", "args": {"extensions": self.extensions}});
        let mut events = Vec::new();
        match self.recorder.join() {
            Ok(Ok(space)) => {
                events = xplane::trace_events(&space, clock, self.layers)?;
                let folder = PathBuf::from(format!("{}.xprof", path.display()));
                write_xprof(&folder, &space)?;
                eprintln!("{}: for `xprof --logdir`", folder.display());
            }
            Ok(Err(error)) => {
                eprintln!("the trace has no spans of devices: {error}");
                event["args"]["no device spans"] = json!(error.to_string());
            }
            Err(_) => anyhow::bail!("the thread that recorded the devices failed"),
        }
        events.push(event);
        Ok(events)
    }
}

/// A span for each request, from its submission to its end: passes name the requests that take part in them.
fn requests(events: &[Value]) -> Vec<Value> {
    let mut spans = Vec::new();
    for event in events {
        let Some(request) = event["args"]["request"].as_str() else { continue };
        let phase = match event["args"]["message"].as_str() {
            Some("submitted") => "b",
            Some("finished" | "cancelled") => "e",
            _ => continue,
        };
        spans
            .push(json!({"ph": phase, "cat": "request", "id": request, "name": format!("request {request}"),
            "pid": 1, "tid": 0, "ts": event["ts"], "args": event["args"]}));
    }
    spans
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// The layout in which XProf and TensorBoard look for profiles: `plugins/profile/RUN/HOST.xplane.pb`.
fn write_xprof(folder: &Path, space: &[u8]) -> Result<()> {
    let run = folder.join("plugins/profile/bench_score");
    fs::create_dir_all(&run).with_context(|| run.display().to_string())?;
    let file = run.join("host.xplane.pb");
    fs::write(&file, space).with_context(|| file.display().to_string())
}
