//! Measures a scoring engine: the one of this folder in this process, or any server that speaks `/v1/score`.
//!
//! ```text
//! cargo run --release -p bench_score -- --profile smoke
//! cargo run --release -p bench_score -- --url http://127.0.0.1:30000 --profile standard --json sglang.json
//! cargo run --release -p bench_score -- compare ours.json sglang.json --html report.html
//! ```

mod args;
mod baseline;
mod compare;
mod environment;
mod load;
mod plots;
mod report;
mod stages;
mod statistics;
mod target;
mod trace;
mod workload;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use args::{Args, BenchArgs, Command};
use report::{Case, Report};
use target::Target;
use trace::Trace;

/// Exit code where a baseline is missed.
const REGRESSION: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.command {
        None => bench(&args.bench),
        Some(Command::Compare(args)) => compare::run(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Stages { trace }) => stages::run(&trace).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", engine::one_line(error.as_ref()));
        ExitCode::FAILURE
    })
}

fn bench(args: &BenchArgs) -> Result<ExitCode> {
    // Read first: a bad file should not cost a run.
    let baseline = args.baseline.as_deref().map(Report::read).transpose()?;
    let workloads = args.workloads()?;
    let mut trace = args.trace.as_deref().map(Trace::begin).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("async runtime")?;
    let report = runtime.block_on(async {
        let (target, cold_start) = Target::open(args, &workloads[0]).await?;
        let environment = environment::describe(args, &target)?;
        let mut cases = Vec::new();
        for workload in &workloads {
            eprintln!("{}: {workload}", workload.name);
            let misses = target.cache_misses().await;
            let warm_up = load::run(&target, workload, load::Phase::WarmUp).await?;
            let warm = target.cache_misses().await;
            if let (Some(trace), Target::Process { plugin, layers, .. }) = (&mut trace, &target) {
                trace.record_devices(*plugin, *layers, args.trace_time());
            }
            let measured = load::run(&target, workload, load::Phase::Measured).await?;
            let end = target.cache_misses().await;
            let missed = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
            cases.push(Case::new(workload, &warm_up, &measured, missed(misses, warm), missed(warm, end)));
        }
        target.close().await;
        anyhow::Ok(Report { schema: report::SCHEMA, environment, cold_start, cases })
    })?;
    if let Some(trace) = trace {
        trace.finish()?;
    }
    println!("{}", report.table());
    if let Some(path) = &args.json {
        report.write_json(path)?;
    }
    if let Some(path) = &args.csv {
        report.write_csv(path)?;
    }
    let Some(baseline) = baseline else { return Ok(ExitCode::SUCCESS) };
    let verdict = baseline::judge(&report, &baseline, args.regression_threshold)?;
    println!("{}", verdict.text);
    Ok(if verdict.failed { ExitCode::from(REGRESSION) } else { ExitCode::SUCCESS })
}
