use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Deserialize;
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::prelude::*;

/// Writes spans of the library and the engine to `path` until the guard is dropped, in the Chrome trace format, which
/// ui.perfetto.dev opens.
pub(crate) fn record(path: &Path) -> Result<FlushGuard> {
    // Before the layer, which would panic.
    fs::File::create(path).with_context(|| path.display().to_string())?;
    let (layer, guard) = ChromeLayerBuilder::new().file(path).include_args(true).build();
    let own = tracing_subscriber::filter::filter_fn(|meta| {
        meta.target().starts_with("tpu_rpa") || meta.target().starts_with("bench_score")
    });
    tracing_subscriber::registry().with(layer.with_filter(own)).init();
    Ok(guard)
}

#[derive(Deserialize)]
struct Event {
    ph: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    tid: u64,
}

#[derive(Default)]
struct Stage {
    count: usize,
    total: f64,
    /// Less what inner spans took.
    own: f64,
}

/// Prints how the time of all passes divides over stages.
pub(crate) fn run(trace: &Path) -> Result<()> {
    let text = fs::read_to_string(trace).with_context(|| trace.display().to_string())?;
    let events: Vec<Event> = serde_json::from_str(&text).with_context(|| trace.display().to_string())?;
    let mut open: HashMap<u64, Vec<(String, f64, f64)>> = HashMap::new();
    let mut stages: BTreeMap<String, Stage> = BTreeMap::new();
    for event in events {
        let stack = open.entry(event.tid).or_default();
        match event.ph.as_str() {
            "B" => stack.push((event.name, event.ts, 0.0)),
            "E" => {
                let Some((name, start, inner)) = stack.pop() else { continue };
                let time = event.ts - start;
                if let Some(outer) = stack.last_mut() {
                    outer.2 += time;
                }
                let stage = stages.entry(name).or_default();
                stage.count += 1;
                stage.total += time;
                stage.own += time - inner;
            }
            _ => {}
        }
    }
    let all: f64 = stages.values().map(|stage| stage.own).sum();
    let mut rows: Vec<_> = stages.into_iter().collect();
    rows.sort_by(|a, b| b.1.own.total_cmp(&a.1.own));
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["stage", "times", "total ms", "own ms", "share of own"]);
    for (name, stage) in rows {
        let share = 100.0 * stage.own / all.max(1e-9);
        table.add_row([
            name,
            stage.count.to_string(),
            format!("{:.2}", stage.total / 1e3),
            format!("{:.2}", stage.own / 1e3),
            format!("{share:.1} %"),
        ]);
    }
    println!("{table}");
    Ok(())
}
