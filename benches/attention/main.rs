//! Packed attention against the dense-mask formulation, on the device that discovery finds.
//!
//! One layer of each workload that `TPU_RPA_WORKLOAD=W1c,my.json` names (`benches/workloads/README.md`); without it a
//! cached query of 2000 tokens and 100 items of 20, f32, pages of 16, with the heads of two models. Both forms run in one
//! process; their results are compared before anything is timed, and the compiler's temporary memory is printed. Where
//! the dense form's scores would be too many, packed attention is timed alone.
//! `TPU_RPA_BENCH_TILES=256/512/128,...` times other q/kv/own tiles instead of the default.

mod contender;
mod dense;
mod packed;

use std::hint::black_box;
use std::time::Instant;

use contender::{Contender, Fallible};
use criterion::{BenchmarkId, Criterion};
use tpu_rpa::batch::Tiling;
use tpu_rpa::kernels;
use tpu_rpa::runtime::{Client, ClientOptions, DiscoveryOptions, Plugin};
use tpu_rpa::spec::DType;
use workloads::{Attention, Source, Workload};

/// Median of dense time over packed time of neighbouring blocks of runs: a machine that drifts slows both. The first
/// run of a block meets the other's memory and is left out.
fn block_ratio(dense: &Contender, packed: &Contender) -> Fallible<f64> {
    let seconds = |c: &Contender| -> Fallible<f64> {
        black_box(c.run()?);
        let start = Instant::now();
        for _ in 0..3 {
            black_box(c.run()?);
        }
        Ok(start.elapsed().as_secs_f64())
    };
    let mut ratios = (0..7).map(|_| Ok(seconds(dense)? / seconds(packed)?)).collect::<Fallible<Vec<_>>>()?;
    ratios.sort_by(f64::total_cmp);
    Ok(ratios[ratios.len() / 2])
}

fn tilings(page_size: usize) -> Fallible<Vec<Tiling>> {
    let Ok(list) = std::env::var("TPU_RPA_BENCH_TILES") else {
        return Ok(vec![kernels::default_tiling(page_size)?]);
    };
    let one = |t: &str| -> Fallible<Tiling> {
        let n: Vec<usize> = t.split('/').map(str::parse).collect::<Result<_, _>>()?;
        let [q, kv, own] = n[..] else { return Err(format!("{t} is not q/kv/own").into()) };
        Ok(Tiling::portable(q, kv, own, page_size)?)
    };
    list.split(',').map(one).collect()
}

/// How far results may differ: in bf16 a few units in the last place of values about 1.
fn tolerance(dtype: DType) -> f32 {
    if dtype == DType::F32 { 1e-5 } else { 0.02 }
}

fn bench_workload(c: &mut Criterion, client: &Client, name: &str, workload: &Attention) -> Fallible<()> {
    let elements = contender::elements(workload);
    if elements > contender::MOST_ELEMENTS {
        println!(
            "{name}: skipped, {elements} elements of a tensor are more than {}",
            contender::MOST_ELEMENTS
        );
        return Ok(());
    }
    let (tokens, dtype) = (workload.tokens(), workload.dtype);
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    let dense = match dense::scores(workload) {
        scores if scores <= dense::MOST_SCORES => Some(dense::contender(client, workload)?),
        scores => {
            println!("{name} dense: skipped, {scores} scores are more than {}", dense::MOST_SCORES);
            None
        }
    };
    let expected = dense.as_ref().map(|dense| dense.first(dtype, tokens)).transpose()?;
    if let Some(dense) = &dense {
        println!("{name} dense: {:.0} MiB of temporaries", dense.temp_mib());
        group.bench_function("dense", |b| b.iter(|| black_box(dense.run().expect("runs"))));
    }
    for tiling in tilings(workload.page_size)? {
        let packed = packed::contender(client, workload, tiling)?;
        let found = packed.first(dtype, tokens)?;
        if let Some(expected) = &expected {
            let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            if expected.len() != found.len() || worst.is_nan() || worst >= tolerance(dtype) {
                return Err(format!("{name}: packed and dense differ by {worst}").into());
            }
        }
        println!("{name} packed: {:.0} MiB of temporaries", packed.temp_mib());
        let id = format!("{}/{}/{}", tiling.q_tile(), tiling.kv_tile(), tiling.own_tile());
        group.bench_with_input(BenchmarkId::new("packed", id), &packed, |b, p| {
            b.iter(|| black_box(p.run().expect("runs")));
        });
        if let Some(dense) = &dense {
            let ratio = block_ratio(dense, &packed)?;
            println!("{name} dense / packed, median of alternating blocks: {ratio:.2}");
        }
    }
    group.finish();
    Ok(())
}

fn bench(c: &mut Criterion) -> Fallible<()> {
    let sources = Source::from_env(&["cached-100", "cached-100-9x64"])?;
    let plugin = Plugin::discover(&DiscoveryOptions::from_env())?;
    let client = Client::new(&plugin, ClientOptions::new().device_count(1))?;
    for Source { name, workload } in sources {
        match workload {
            Workload::Attention(workload) => bench_workload(c, &client, &name, &workload)?,
            Workload::Labels(_) => println!("{name}: skipped, it is no attention"),
        }
    }
    Ok(())
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    if let Err(e) = bench(&mut criterion) {
        eprintln!("attention bench: {e}");
        std::process::exit(1);
    }
    criterion.final_summary();
}
