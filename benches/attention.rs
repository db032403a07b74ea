//! Packed attention against the dense-mask formulation, on the device that discovery finds.
//!
//! Workload: one layer, a cached query of 2000 tokens and 100 items of 20, f32, pages of 16. Both run in one
//! process; their results are compared before anything is timed, and the compiler's temporary memory is printed.
//! `TPU_RPA_BENCH_TILES=256/512/128,...` times other q/kv/own tiles instead.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion};
use tpu_rpa::batch::{Group, Planner, Tiling};
use tpu_rpa::kernels;
use tpu_rpa::runtime::{Buffer, Client, ClientOptions, CompileOptions, DiscoveryOptions, Executable, Plugin};
use tpu_rpa::spec::AttentionSpec;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const PREFIX: usize = 2000;
const ITEMS: usize = 100;
const ITEM_TOKENS: usize = 20;
const PAGE_SIZE: usize = 16;
const POOL_PAGES: usize = 160;

struct Contender {
    executable: Arc<Executable>,
    arguments: Vec<Buffer>,
}

impl Contender {
    fn run(&self) -> Fallible<Vec<Buffer>> {
        Ok(self.executable.run(&self.arguments.iter().collect::<Vec<_>>())?)
    }

    fn temp_mib(&self) -> f64 {
        self.executable.memory_stats().map_or(f64::NAN, |m| m.temp as f64 / (1 << 20) as f64)
    }
}

/// Deterministic values of about unit size.
fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = move || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as f32 / u32::MAX as f32 - 0.5
    };
    (0..n).map(|_| (0..4).map(|_| next()).sum::<f32>() * 1.7).collect()
}

struct Workload<'a> {
    client: &'a Client,
    spec: AttentionSpec,
    pages: Vec<i32>,
    cu_seg_lens: Vec<i32>,
}

impl Workload<'_> {
    fn tokens(&self) -> usize {
        ITEMS * ITEM_TOKENS
    }

    /// q, k, v of `rows` rows (padding zeros) and the pages.
    fn tensors(&self, rows: usize) -> Fallible<Vec<Buffer>> {
        let s = &self.spec;
        let mut out = Vec::new();
        for (seed, heads) in [(1, s.q_heads()), (2, s.kv_heads()), (3, s.kv_heads())] {
            let mut x = values(self.tokens() * heads * s.head_dim(), seed);
            x.resize(rows * heads * s.head_dim(), 0.0);
            out.push(self.client.upload(&x, &[rows, heads, s.head_dim()])?);
        }
        let dims = [POOL_PAGES, 2, s.kv_heads(), PAGE_SIZE, s.head_dim()];
        out.push(self.client.upload(&values(dims.iter().product(), 4), &dims)?);
        Ok(out)
    }

    fn packed(&self, tiling: Tiling) -> Fallible<Contender> {
        let group = Group {
            prefix_len: PREFIX as i32,
            pages: &self.pages,
            cu_seg_lens: &self.cu_seg_lens,
            lead: false,
        };
        let plan = Planner::new(PAGE_SIZE, POOL_PAGES, tiling)?.plan(self.tokens(), &[group])?;
        let function = kernels::attention("attention", &self.spec, &tiling, &plan.bucket(), POOL_PAGES)?;
        let mut arguments = self.tensors(plan.bucket().tokens)?;
        arguments.push(self.client.upload(plan.meta(), &[plan.meta().len()])?);
        arguments.push(self.client.upload(&[0i32], &[])?);
        Ok(Contender {
            executable: self.client.compile(&function.module(), &CompileOptions::new())?,
            arguments,
        })
    }

    fn dense(&self) -> Fallible<Contender> {
        let s = &self.spec;
        let text = minijinja::Environment::new().render_str(
            include_str!("baselines/dense.mlir"),
            minijinja::context! {
                tokens => self.tokens(), q_heads => s.q_heads(), kv_heads => s.kv_heads(), head_dim => s.head_dim(),
                page_size => PAGE_SIZE, pool_pages => POOL_PAGES, prefix_pages => self.pages.len(), scale => s.scale(),
            },
        )?;
        // An i32 mask, as the public TPU kernels take it, made on the device.
        let keys = self.pages.len() * PAGE_SIZE + self.tokens();
        let mask = mask_module(self.tokens(), keys);
        let mask = self.client.compile(&mask, &CompileOptions::new())?.run(&[])?;
        let mut arguments = self.tensors(self.tokens())?;
        arguments.push(self.client.upload(&self.pages, &[self.pages.len()])?);
        arguments.extend(mask);
        Ok(Contender { executable: self.client.compile(&text, &CompileOptions::new())?, arguments })
    }
}

/// Row t sees the first PREFIX keys, and new keys from its item's start to itself.
fn mask_module(tokens: usize, keys: usize) -> String {
    let offset = keys - tokens;
    let t = format!("tensor<{tokens}x{keys}xi32>");
    let b = format!("tensor<{tokens}x{keys}xi1>");
    format!(
        "module @mask {{\nfunc.func public @main() -> {t} {{
  %row = stablehlo.iota dim = 0 : {t}
  %col = stablehlo.iota dim = 1 : {t}
  %prefix = stablehlo.constant dense<{PREFIX}> : {t}
  %offset = stablehlo.constant dense<{offset}> : {t}
  %len = stablehlo.constant dense<{ITEM_TOKENS}> : {t}
  %own = stablehlo.subtract %col, %offset : {t}
  %item = stablehlo.divide %row, %len : {t}
  %start = stablehlo.multiply %item, %len : {t}
  %shared = stablehlo.compare LT, %col, %prefix : ({t}, {t}) -> {b}
  %from = stablehlo.compare GE, %own, %start : ({t}, {t}) -> {b}
  %upto = stablehlo.compare LE, %own, %row : ({t}, {t}) -> {b}
  %mine = stablehlo.and %from, %upto : {b}
  %sees = stablehlo.or %shared, %mine : {b}
  %mask = stablehlo.convert %sees : ({b}) -> {t}
  return %mask : {t}\n}}\n}}\n"
    )
}

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

fn tilings() -> Fallible<Vec<Tiling>> {
    let Ok(list) = std::env::var("TPU_RPA_BENCH_TILES") else {
        return Ok(vec![kernels::default_tiling(PAGE_SIZE)?]);
    };
    let one = |t: &str| -> Fallible<Tiling> {
        let n: Vec<usize> = t.split('/').map(str::parse).collect::<Result<_, _>>()?;
        let [q, kv, own] = n[..] else { return Err(format!("{t} is not q/kv/own").into()) };
        Ok(Tiling::portable(q, kv, own, PAGE_SIZE)?)
    };
    list.split(',').map(one).collect()
}

fn bench(c: &mut Criterion) -> Fallible<()> {
    let plugin = Plugin::discover(&DiscoveryOptions::from_env())?;
    let client = Client::new(&plugin, ClientOptions::new().device_count(1))?;
    for (name, q_heads, kv_heads, head_dim) in [("16/8x128", 16, 8, 128), ("9/3x64", 9, 3, 64)] {
        let w = Workload {
            client: &client,
            spec: AttentionSpec::builder(q_heads, kv_heads, head_dim).page_size(PAGE_SIZE).build()?,
            // Pages in a scattered order.
            pages: (0..PREFIX.div_ceil(PAGE_SIZE)).map(|i| (i * 77 % POOL_PAGES) as i32).collect(),
            cu_seg_lens: (0..=ITEMS).map(|i| (i * ITEM_TOKENS) as i32).collect(),
        };
        let mut group = c.benchmark_group(name);
        group.sample_size(10);
        let dense = w.dense()?;
        let expected = dense.run()?[0].to_vec::<f32>()?;
        println!("{name} dense: {:.0} MiB of temporaries", dense.temp_mib());
        group.bench_function("dense", |b| b.iter(|| black_box(dense.run().expect("runs"))));
        for tiling in tilings()? {
            let packed = w.packed(tiling)?;
            let found = packed.run()?[0].to_vec::<f32>()?;
            let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "packed and dense differ by {worst}");
            println!("{name} packed: {:.0} MiB of temporaries", packed.temp_mib());
            let id = format!("{}/{}/{}", tiling.q_tile(), tiling.kv_tile(), tiling.own_tile());
            group.bench_with_input(BenchmarkId::new("packed", id), &packed, |b, p| {
                b.iter(|| black_box(p.run().expect("runs")));
            });
            println!(
                "{name} dense / packed, median of alternating blocks: {:.2}",
                block_ratio(&dense, &packed)?
            );
        }
        group.finish();
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
