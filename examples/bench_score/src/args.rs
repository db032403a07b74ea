use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use crate::workload::Workload;
use engine::ModelArgs;

/// Measures a scoring engine: latency, throughput, errors, cache misses.
///
/// Without --url the engine runs in this process. Options of the workload change every case of the profile; without
/// --profile they make one case of their own.
#[derive(Debug, Parser)]
#[command(name = "bench_score", args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) bench: BenchArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Renders reports side by side
    Compare(CompareArgs),
    /// Prints the share of each stage in a trace that --trace wrote
    Stages {
        /// The trace
        trace: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// Reports that --json wrote; the first is what the others are compared with
    #[arg(required = true, num_args = 2..)]
    pub(crate) reports: Vec<PathBuf>,
    /// Where the Markdown goes; standard output if neither it nor --html is given
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Where a self-contained page with plots goes
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// A server to measure instead of the engine in this process
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Sets of cases
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Tokens of a query
    #[arg(long, value_name = "N")]
    query_tokens: Option<usize>,
    /// Items of a request
    #[arg(long, value_name = "N")]
    items: Option<usize>,
    /// Tokens of an item
    #[arg(long, value_name = "N")]
    item_tokens: Option<usize>,
    /// Labels of a request
    #[arg(long, value_name = "N")]
    labels: Option<usize>,
    /// Requests under way at a time; with --rps, the most that may be
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Requests a second, sent at their time whether or not earlier ones are answered
    #[arg(long, value_name = "R")]
    rps: Option<f64>,
    /// Random gaps between requests, exponentially distributed, instead of equal ones
    #[arg(long, requires = "rps")]
    poisson: bool,
    /// Seconds to measure
    #[arg(long, value_name = "S")]
    duration: Option<f64>,
    /// Seconds to warm up; what happens then is not measured
    #[arg(long, value_name = "S")]
    warm_up: Option<f64>,
    /// Every request has the same query instead of a new one
    #[arg(long)]
    same_query: bool,
    /// Seed of token ids and gaps
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Writes the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Writes the report as CSV, a line a case
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// A report to compare with: exits with 2 where items/s fall by the threshold or p95 rises by 1.5 times it, and
    /// warns where p99 rises by twice it
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Percent
    #[arg(long, value_name = "P", default_value_t = 10.0)]
    pub(crate) regression_threshold: f64,
    /// Writes a trace of the engine in this process, for ui.perfetto.dev; where the plugin has a profiler, with the
    /// operations and layers on its devices, which also go to FILE.xprof for XProf
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub(crate) trace: Option<PathBuf>,
    /// Seconds of the first case for which --trace records devices
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    trace_seconds: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    /// Half a minute on two CPU cores: does it work, and is it as fast as it was
    Smoke,
    /// Three minutes on two CPU cores: a query of 500 tokens and 64 items, new and repeated, and many clients
    Standard,
    /// Ten minutes on two CPU cores: also 2000 tokens and 500 items, 100 labels, and random arrivals
    Full,
}

impl BenchArgs {
    /// The cases to measure; at least one.
    pub(crate) fn workloads(&self) -> Result<Vec<Workload>> {
        let mut workloads = match self.profile {
            Some(Profile::Smoke) => Workload::smoke(),
            Some(Profile::Standard) => Workload::standard(),
            Some(Profile::Full) => Workload::full(),
            None if self.changes_workload() => vec![Workload::default()],
            None => Workload::smoke(),
        };
        for w in &mut workloads {
            w.query_tokens = self.query_tokens.unwrap_or(w.query_tokens);
            w.items = self.items.unwrap_or(w.items);
            w.item_tokens = self.item_tokens.unwrap_or(w.item_tokens);
            w.labels = self.labels.unwrap_or(w.labels);
            w.concurrency = self.concurrency.unwrap_or(w.concurrency);
            w.rps = self.rps.or(w.rps);
            w.poisson |= self.poisson;
            w.same_query |= self.same_query;
            w.seed = self.seed;
            for (seconds, field, name) in
                [(self.duration, &mut w.duration, "--duration"), (self.warm_up, &mut w.warm_up, "--warm-up")]
            {
                if let Some(seconds) = seconds {
                    let bound = "must be from 0 to 86400 seconds";
                    ensure!((0.0..=86_400.0).contains(&seconds), "{name} is {seconds}; it {bound}");
                    *field = Duration::from_secs_f64(seconds);
                }
            }
            let counts = [
                ("--items", w.items),
                ("--labels", w.labels),
                ("--concurrency", w.concurrency),
                ("--query-tokens plus --item-tokens", w.query_tokens + w.item_tokens),
            ];
            for (name, count) in counts {
                ensure!(count > 0, "{name} is 0; it must be positive");
            }
            if let Some(rps) = w.rps {
                ensure!(rps > 0.0 && rps <= 1e6, "--rps is {rps}; it must be in 0..=1000000 and not 0");
            }
        }
        let seconds = self.trace_seconds;
        ensure!((0.0..=600.0).contains(&seconds), "--trace-seconds is {seconds}; it must be from 0 to 600");
        let threshold = self.regression_threshold;
        ensure!(threshold > 0.0, "--regression-threshold is {threshold}; it must be positive");
        Ok(workloads)
    }

    /// For how long a trace records devices.
    pub(crate) fn trace_time(&self) -> Duration {
        Duration::from_secs_f64(self.trace_seconds)
    }

    fn changes_workload(&self) -> bool {
        let counts = [self.query_tokens, self.items, self.item_tokens, self.labels, self.concurrency];
        counts.iter().any(Option::is_some)
            || [self.rps, self.duration, self.warm_up].iter().any(Option::is_some)
            || self.same_query
    }
}
