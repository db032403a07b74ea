//! Time to plan a batch: validate it and write its metadata. It lies on the way of every request.
//!
//! `TPU_RPA_WORKLOAD=W1c,my.json` names the batches (`benches/workloads/README.md`).

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use tpu_rpa::batch::{BatchError, Planner, Tiling};
use workloads::{Attention, Batch, Source, VARIABLE, Workload};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Without the variable: W1, the same with the query cached, what an engine plans that does not merge requests with the
/// same prefix into one group, decode, and sequences of all kinds.
const DEFAULT: [&str; 5] = ["W1", "W1c", "W2g", "W4", "W5"];

fn planner(workload: &Attention) -> Result<Planner, BatchError> {
    let page_size = workload.page_size;
    workload.planner(Tiling::portable(256, page_size.max(512), 128, page_size)?)
}

fn attention(source: Source) -> Option<Attention> {
    match source.workload {
        Workload::Attention(attention) => Some(attention),
        Workload::Labels(_) => {
            println!("{}: skipped, it is no attention", source.name);
            None
        }
    }
}

fn workloads(c: &mut Criterion) -> Fallible<()> {
    let mut group = c.benchmark_group("plan");
    for source in Source::from_env(&DEFAULT)? {
        let name = source.name.clone();
        let Some(workload) = attention(source) else { continue };
        let mut planner = planner(&workload)?;
        let batch = Batch::new(&workload, &planner);
        let (groups, tokens) = (batch.groups(), batch.tokens());
        planner.plan(tokens, &groups)?;
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(name, |b| b.iter(|| planner.plan(black_box(tokens), black_box(&groups))));
    }
    group.finish();
    Ok(())
}

/// Time per token must not grow with the batch.
fn linearity(c: &mut Criterion) -> Fallible<()> {
    let Some(mut workload) = attention(Source::open("W1")?) else { return Ok(()) };
    let mut group = c.benchmark_group("plan/items of 20 on 2000");
    for items in [500, 1000, 2000, 4000, 8000] {
        workload.groups[0].segments[0].count = items;
        let mut planner = planner(&workload)?;
        let batch = Batch::new(&workload, &planner);
        let (groups, tokens) = (batch.groups(), batch.tokens());
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::from_parameter(items), |b| {
            b.iter(|| planner.plan(black_box(tokens), black_box(&groups)))
        });
    }
    group.finish();
    Ok(())
}

fn bench(c: &mut Criterion) -> Fallible<()> {
    workloads(c)?;
    if std::env::var_os(VARIABLE).is_none() {
        linearity(c)?;
    }
    Ok(())
}

fn main() {
    let criterion = Criterion::default().sample_size(50);
    let mut criterion = criterion.measurement_time(std::time::Duration::from_secs(2)).configure_from_args();
    if let Err(e) = bench(&mut criterion) {
        eprintln!("planning bench: {e}");
        std::process::exit(1);
    }
    criterion.final_summary();
}
