//! What a request costs on the host besides its computation: planning, upload of the plan, launch.
//!
//! The launch is of attention at a shape so small that the kernel's own time is a small part; it waits for the result.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use tpu_rpa::Error;
use tpu_rpa::batch::{Group, KvSlots, Planner, Tiling};
use tpu_rpa::kernels;
use tpu_rpa::runtime::{Arg, Buffer, Client, ClientOptions, CompileOptions, DiscoveryOptions, Plugin};
use tpu_rpa::spec::AttentionSpec;

/// Page size and pages of the tiny program.
const TINY: (usize, usize) = (16, 4);

fn bench(c: &mut Criterion) -> Result<(), Error> {
    let plugin = Plugin::discover(&DiscoveryOptions::from_env())?;
    let client = Client::new(&plugin, ClientOptions::new().device_count(1))?;
    let mut group = c.benchmark_group("host");

    // W1: a query of 2000 and 500 items of 20, one pass.
    let offsets: Vec<i32> = std::iter::once(0).chain((0..=500).map(|i| 2000 + 20 * i)).collect();
    let w1 = [Group { lead: true, cu_seg_lens: &offsets, ..Group::default() }];
    let mut planner = Planner::new(128, 128, Tiling::portable(256, 512, 128, 128)?)?;
    let plan = planner.plan(12_000, &w1)?;
    let words = plan.meta().len();
    group.bench_function("plan W1", |b| b.iter(|| planner.plan(black_box(12_000), black_box(&w1))));
    let slots: Vec<i32> = (0..12_000).collect();
    group.bench_function("check W1's KV slots", |b| {
        b.iter(|| KvSlots::new(black_box(&planner), black_box(&plan), black_box(&slots)));
    });
    group.throughput(Throughput::Bytes(4 * words as u64));
    group.bench_function(format!("upload W1's plan, one buffer of {words} words"), |b| {
        b.iter(|| client.upload(black_box(plan.meta()), &[words])?.wait());
    });

    let (page_size, pool_pages) = TINY;
    let spec = AttentionSpec::builder(1, 1, 64).page_size(page_size).build()?;
    let mut planner = Planner::new(page_size, pool_pages, kernels::default_tiling(page_size)?)?;
    let tiny = [Group { cu_seg_lens: &[0, 1], ..Group::default() }];
    let plan = planner.plan(1, &tiny)?;
    let kernel = kernels::attention("attention", &spec, &plan.tiling(), &plan.bucket(), pool_pages)?;
    let program = client.compile(&kernel.module(), &CompileOptions::new())?;
    let tensors = kernel.inputs()[..4].iter().map(|input| {
        let values = vec![0.5f32; input.dims.iter().product()];
        client.upload(&values, &input.dims)
    });
    let tensors: Vec<Buffer> = tensors.collect::<Result<_, _>>()?;
    let first_page = client.upload(&[0i32], &[])?;
    let with =
        |meta: &Buffer| program.launch(tensors.iter().chain([meta, &first_page]).map(Arg::from))?.wait();
    let meta = client.upload(plan.meta(), &[plan.meta().len()])?;
    group.throughput(Throughput::Elements(1));
    group.bench_function("launch one token's attention and wait", |b| b.iter(|| with(&meta)));
    group.bench_function("plan, upload, launch one token's attention and wait", |b| {
        b.iter(|| -> Result<_, Error> {
            let plan = planner.plan(black_box(1), black_box(&tiny))?;
            Ok(with(&client.upload(plan.meta(), &[plan.meta().len()])?)?)
        });
    });
    group.finish();
    Ok(())
}

fn main() {
    let mut criterion =
        Criterion::default().measurement_time(std::time::Duration::from_secs(2)).configure_from_args();
    if let Err(e) = bench(&mut criterion) {
        eprintln!("host bench: {e}");
        std::process::exit(1);
    }
    criterion.final_summary();
}
