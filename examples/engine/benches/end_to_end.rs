//! A request end to end, tokens in, scores out: packed against serial, on the example engine and its real model.
//!
//! Workload: 64 items of 20 tokens on a query of 500, two labels. Serial computes query and item for every item; its
//! time is linear in the items, so it is timed with 4 and its throughput compared.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use engine::{EngineError, Service, Setup};
use tpu_rpa::score::{Algorithm, ScoreRequest};
use tpu_rpa::spec::DType;

const QUERY: i32 = 500;
const ITEM: i32 = 20;

/// Ids of ordinary words; a dense model's time does not depend on which.
fn request(items: i32) -> ScoreRequest {
    let words =
        |seed: i32, n: i32| (0..n).map(|i| 1000 + (seed * 7919 + i * 104_729).rem_euclid(40_000)).collect();
    ScoreRequest {
        query: words(0, QUERY),
        items: (1..=items).map(|seed| words(seed, ITEM)).collect(),
        label_token_ids: vec![9805, 787],
        apply_softmax: true,
        item_first: false,
    }
}

fn bench(c: &mut Criterion) -> Result<(), EngineError> {
    for dtype in [DType::F32, DType::Bf16] {
        let setup = Setup {
            model: engine::model_path(),
            plugin: None,
            dtype,
            cache: engine::cache_folder(),
            interpreted: None,
        };
        let mut service = Service::open(&setup, &mut |_, _| {})?;
        let mut group = c.benchmark_group(format!("{dtype}, query of 500, items of 20"));
        group.sample_size(10);
        for (algorithm, items) in [(Algorithm::Packed, 64), (Algorithm::Serial, 4)] {
            service.scorer.set_algorithm(algorithm);
            let request = request(items);
            group.throughput(Throughput::Elements(items as u64));
            group.bench_with_input(
                BenchmarkId::new(format!("{algorithm:?}"), items),
                &request,
                |b, request| {
                    b.iter(|| black_box(service.scorer.score(request).expect("a valid request")));
                },
            );
        }
        group.finish();
    }
    Ok(())
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    if let Err(e) = bench(&mut criterion) {
        eprintln!("end-to-end bench: {e}");
        std::process::exit(1);
    }
    criterion.final_summary();
}
