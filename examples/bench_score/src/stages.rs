use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Deserialize;

#[derive(Deserialize)]
struct Event {
    ph: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    /// `op` or `layer` for spans of devices.
    #[serde(default)]
    cat: String,
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

/// Rows of the table of operations on devices.
const OPERATIONS: usize = 15;

/// Prints how the time of all passes divides over stages, and what took the most of it on devices where a profiler saw
/// them.
pub(crate) fn run(trace: &Path) -> Result<()> {
    let text = fs::read_to_string(trace).with_context(|| trace.display().to_string())?;
    let events: Vec<Event> = serde_json::from_str(&text).with_context(|| trace.display().to_string())?;
    let mut open: HashMap<u64, Vec<(String, f64, f64)>> = HashMap::new();
    let mut stages: BTreeMap<String, Stage> = BTreeMap::new();
    let mut devices: BTreeMap<String, (usize, f64)> = BTreeMap::new();
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
            "X" if event.cat == "op" || event.cat == "layer" => {
                let (count, total) = devices.entry(event.name).or_default();
                *count += 1;
                *total += event.dur;
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
    if devices.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<_> = devices.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["on devices, inner spans included", "times", "total ms"]);
    for (name, (count, total)) in rows.into_iter().take(OPERATIONS) {
        table.add_row([name, count.to_string(), format!("{:.3}", total / 1e3)]);
    }
    println!("{table}");
    Ok(())
}
