use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::load::Outcome;
use crate::statistics::Latency;
use crate::target::ColdStart;
use crate::workload::Workload;

/// Version of the JSON.
pub(crate) const SCHEMA: u32 = 1;

/// Latencies that a case keeps for plots.
const SAMPLES: usize = 1000;

/// Everything that a run found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) environment: Environment,
    pub(crate) cold_start: ColdStart,
    pub(crate) cases: Vec<Case>,
}

/// What one workload came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) workload: Workload,
    pub(crate) requests: usize,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) elapsed_seconds: f64,
    pub(crate) latency_ms: Latency,
    pub(crate) requests_per_second: f64,
    pub(crate) items_per_second: f64,
    pub(crate) tokens_per_second: f64,
    pub(crate) warm_up_requests: usize,
    /// Programs that were not in memory, while warming up and while measuring; none where the target does not tell.
    pub(crate) warm_up_cache_misses: Option<u64>,
    pub(crate) cache_misses: Option<u64>,
    /// Latencies in milliseconds in the order of answers, evenly thinned.
    pub(crate) samples_ms: Vec<f64>,
}

impl Case {
    pub(crate) fn new(
        workload: &Workload,
        warm_up: &Outcome,
        measured: &Outcome,
        warm_up_cache_misses: Option<u64>,
        cache_misses: Option<u64>,
    ) -> Self {
        let requests = measured.latencies.len();
        let rate = requests as f64 / measured.elapsed.as_secs_f64().max(1e-9);
        let step = requests.div_ceil(SAMPLES).max(1);
        Case {
            workload: workload.clone(),
            requests,
            errors: measured.errors.clone(),
            elapsed_seconds: measured.elapsed.as_secs_f64(),
            latency_ms: Latency::of(&measured.latencies),
            requests_per_second: rate,
            items_per_second: rate * workload.items as f64,
            tokens_per_second: rate * workload.tokens() as f64,
            warm_up_requests: warm_up.latencies.len(),
            warm_up_cache_misses,
            cache_misses,
            samples_ms: measured.latencies.iter().step_by(step).map(|l| l.as_secs_f64() * 1e3).collect(),
        }
    }

    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// One line of the CSV.
#[derive(Serialize)]
struct Line<'a> {
    case: &'a str,
    device: &'a str,
    model: &'a str,
    dtype: &'a str,
    commit: &'a str,
    query_tokens: usize,
    items: usize,
    item_tokens: usize,
    labels: usize,
    concurrency: usize,
    rps: Option<f64>,
    seed: u64,
    requests: usize,
    errors: u64,
    cache_misses: Option<u64>,
    p50_ms: f64,
    p90_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    mean_ms: f64,
    std_ms: f64,
    requests_per_s: f64,
    items_per_s: f64,
    tokens_per_s: f64,
    load_s: Option<f64>,
    first_request_s: f64,
}

impl Report {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let report: Report = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let found = report.schema;
        ensure!(found == SCHEMA, "{}: schema is {found}; this program reads {SCHEMA}", path.display());
        Ok(report)
    }

    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("report")?;
        fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }

    pub(crate) fn write_csv(&self, path: &Path) -> Result<()> {
        let mut writer = csv::Writer::from_path(path).with_context(|| path.display().to_string())?;
        let e = &self.environment;
        for case in &self.cases {
            let (w, l) = (&case.workload, &case.latency_ms);
            writer.serialize(Line {
                case: &w.name,
                device: &e.device,
                model: &e.model,
                dtype: &e.dtype,
                commit: &e.commit,
                query_tokens: w.query_tokens,
                items: w.items,
                item_tokens: w.item_tokens,
                labels: w.labels,
                concurrency: w.concurrency,
                rps: w.rps,
                seed: w.seed,
                requests: case.requests,
                errors: case.error_count(),
                cache_misses: case.cache_misses,
                p50_ms: l.p50,
                p90_ms: l.p90,
                p95_ms: l.p95,
                p99_ms: l.p99,
                mean_ms: l.mean,
                std_ms: l.std,
                requests_per_s: case.requests_per_second,
                items_per_s: case.items_per_second,
                tokens_per_s: case.tokens_per_second,
                load_s: self.cold_start.load,
                first_request_s: self.cold_start.first_request,
            })?;
        }
        writer.flush().with_context(|| path.display().to_string())
    }

    /// For a terminal.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header([
            "case", "requests", "errors", "misses", "p50 ms", "p90", "p95", "p99", "mean", "std", "req/s",
            "items/s", "tokens/s",
        ]);
        for case in &self.cases {
            let l = &case.latency_ms;
            let mut cells = vec![
                case.workload.name.clone(),
                case.requests.to_string(),
                case.error_count().to_string(),
                case.cache_misses.map_or("?".into(), |n| n.to_string()),
            ];
            cells.extend([l.p50, l.p90, l.p95, l.p99, l.mean, l.std].map(|ms| format!("{ms:.1}")));
            let rates = [case.requests_per_second, case.items_per_second, case.tokens_per_second];
            cells.extend(rates.map(|rate| format!("{rate:.1}")));
            table.add_row(cells);
        }
        let load = self.cold_start.load.map(|s| format!("model loaded in {s:.1} s, ")).unwrap_or_default();
        let first = self.cold_start.first_request;
        let e = &self.environment;
        format!(
            "{} · {} · {}\n{table}\ncold start: {load}first request {first:.1} s",
            e.device, e.model, e.dtype
        )
    }
}
