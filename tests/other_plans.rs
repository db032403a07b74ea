//! Plans on kernels that they were not made for: refused where both meet in Rust, and NaN where only their words meet, in the
//! portable form and in the Mosaic text.
#![cfg(all(feature = "emulator", feature = "runtime"))]

use std::time::{Duration, Instant};

use common::device::client;
use common::mosaic::MosaicAttention;
use common::{Batch, Errors, GroupShape, Random, Tensors, cases, normal, property};
use ndarray::{Array1, Array3};
use proptest::prelude::*;
use tpu_rpa::batch::{Bucket, Group, KvSlots, Plan, Planner, Tiling};
use tpu_rpa::emulator::{Emulator, RunOptions};
use tpu_rpa::kernels::{Kernel, Target, stablehlo_function};
use tpu_rpa::reference::Rounding;
use tpu_rpa::runtime::CompileOptions;
use tpu_rpa::spec::{AttentionSpec, DType, KvWriteSpec};

/// What decides a plan's words, besides the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Decisions {
    tiling: Tiling,
    window: Option<u32>,
    page_size: usize,
}

fn decisions() -> impl Strategy<Value = Decisions> {
    (
        any::<bool>(),
        prop::sample::select(vec![16usize, 32, 64]),
        prop::sample::select(vec![32usize, 64, 128]),
        prop::sample::select(vec![16usize, 32]),
        any::<bool>(),
        prop::sample::select(vec![None, Some(20), Some(50)]),
        prop::sample::select(vec![16usize, 32]),
    )
        .prop_map(|(tpu, q_tile, kv_tile, own_tile, blocks, window, page_size)| {
            let tiling = if tpu {
                let tiling = Tiling::tpu(q_tile, kv_tile, own_tile, page_size).unwrap();
                tiling.with_row_block(if blocks { 16 } else { q_tile }).unwrap().into()
            } else {
                Tiling::portable(q_tile, kv_tile, own_tile, page_size).unwrap()
            };
            Decisions { tiling, window, page_size }
        })
}

/// Decisions of a plan and of a kernel: mostly alike but for one.
fn pairs() -> impl Strategy<Value = (Decisions, Decisions)> {
    (decisions(), decisions(), 0..5usize).prop_map(|(plan, other, kept)| {
        let kernel = match kept {
            0 => plan,
            1 => Decisions { window: other.window, ..plan },
            2 => Decisions { page_size: other.page_size, ..plan },
            3 => Decisions { tiling: other.tiling, ..plan },
            _ => other,
        };
        (plan, kernel)
    })
}

impl Decisions {
    fn spec(&self) -> AttentionSpec {
        // A group of eight: 16 tokens fill the lanes.
        let spec = AttentionSpec::builder(8, 1, 64).page_size(self.page_size);
        self.window.map_or(spec.clone(), |window| spec.sliding_window(window)).build().unwrap()
    }

    fn plan(&self, batch: &Batch) -> Plan {
        let planner = Planner::new(self.page_size, batch.pool_pages, self.tiling).unwrap();
        planner.with_sliding_window(self.window).plan(batch.total_tokens, &batch.groups()).unwrap()
    }
}

/// Attention of a kernel, whose plan is whatever `words` are.
fn run(kernel: &Kernel, words: &[i32], tensors: &Tensors<f32>) -> Array3<f32> {
    let Kernel::Attention { spec, tiling, bucket, .. } = kernel else { panic!("attention") };
    if Target::of(tiling) == Target::Tpu {
        let emulator = Emulator::new(&kernel.mosaic_text("attention").unwrap()).unwrap();
        let run = MosaicAttention::of_words(emulator, spec, *bucket, words, tensors);
        return run.run(&RunOptions::default().max_steps(20_000_000)).0;
    }
    let module = stablehlo_function("attention", kernel, Target::Portable).unwrap().module();
    let executable = client().compile(&module, &CompileOptions::new()).unwrap();
    let upload = |a: &Array3<f32>| client().upload(a.as_slice().unwrap(), a.shape()).unwrap();
    let (q, k, v) = (upload(&tensors.q), upload(&tensors.k), upload(&tensors.v));
    let pages = client().upload(tensors.kv_pages.as_slice().unwrap(), tensors.kv_pages.shape()).unwrap();
    let words = client().upload(words, &[words.len()]).unwrap();
    let first_page = client().upload(&[tensors.first_page], &[]).unwrap();
    let result = executable.run(&[&q, &k, &v, &pages, &words, &first_page]).unwrap().remove(0);
    Array3::from_shape_vec(tensors.q.raw_dim(), result.to_vec().unwrap()).unwrap()
}

/// Numbers everywhere, so that a NaN is a kernel's word.
fn numbers(spec: &AttentionSpec, rows: usize, pool_pages: usize) -> Tensors<f32> {
    let mut random = Random::new(3);
    let (kv_heads, dim) = (spec.kv_heads(), spec.head_dim());
    Tensors {
        q: normal((rows, spec.q_heads(), dim), &mut random),
        k: normal((rows, kv_heads, dim), &mut random),
        v: normal((rows, kv_heads, dim), &mut random),
        kv_pages: normal((pool_pages, 2, kv_heads, spec.page_size(), dim), &mut random),
        first_page: 0,
        layer_pages: pool_pages,
    }
}

fn shapes() -> Vec<GroupShape> {
    vec![
        GroupShape { prefix_len: 90, lead: true, segments: vec![50, 20, 3, 40] },
        GroupShape { prefix_len: 33, lead: false, segments: vec![1] },
    ]
}

/// A kernel of other tiles, window, page size or pool than a plan's does not take it, and gives NaN for its words; one of the
/// same takes it and is right.
#[test]
fn other_kernels_give_nan() {
    let strategy = || (pairs(), prop::sample::select(vec![-1isize, 0, 0, 0, 2]), any::<u64>());
    property(cases(36), 10, strategy, |((planned, other), more, seed)| {
        let batch = Batch::new(planned.page_size, &shapes(), seed);
        let plan = planned.plan(&batch);
        let pool_pages = batch.pool_pages.saturating_add_signed(more);
        // The plan's shapes, as far as the kernel's tiles divide them.
        let q_tile = other.tiling.q_tile().min(1 << plan.bucket().tokens.trailing_zeros());
        let bucket = match (planned.tiling == other.tiling, other.tiling) {
            (true, _) => plan.bucket(),
            (false, Tiling::Portable(_)) => Bucket { q_tile, ..plan.bucket() },
            (false, Tiling::Tpu(_)) if q_tile < other.tiling.q_tile() => return Ok(()),
            (false, Tiling::Tpu(_)) => {
                Bucket { q_tile, key_slots: plan.bucket().key_slots.max(256), ..plan.bucket() }
            }
        };
        let spec = other.spec();
        let kernel = Kernel::Attention { spec: spec.clone(), tiling: other.tiling, bucket, pool_pages };
        let own = planned == other && pool_pages >= batch.pool_pages;
        let taken = kernel.takes(&plan);
        prop_assert_eq!(taken.is_ok(), own, "{:?}", taken);
        if own {
            let tensors = Tensors {
                kv_pages: numbers(&spec, 1, pool_pages).kv_pages,
                ..Tensors::random(&spec, &batch, bucket.tokens, seed)
            };
            let tensors = Tensors { first_page: 0, ..tensors };
            let found = run(&kernel, plan.meta(), &tensors);
            return Errors::new(&spec, &batch, &tensors, &found, Rounding::F32)
                .check(2e-6)
                .map_err(TestCaseError::fail);
        }
        let found = run(&kernel, plan.meta(), &numbers(&spec, bucket.tokens, pool_pages));
        prop_assert!(found.iter().all(|x| x.is_nan()), "{:?} on {:?}: {:?}", plan.bucket(), kernel, taken);
        Ok(())
    });
}

/// Words that no planner made: NaN, at once. A tile count among them would keep a kernel busy for minutes.
#[test]
fn words_of_nobody_give_nan() {
    let mut random = Random::new(1);
    let tilings = [
        Tiling::portable(32, 64, 32, 16).unwrap(),
        Tiling::tpu(32, 64, 32, 16).unwrap().into(),
        Tiling::tpu(64, 64, 32, 16).unwrap().with_row_block(16).unwrap().into(),
    ];
    for tiling in tilings {
        let decisions = Decisions { tiling, window: None, page_size: 16 };
        let batch = Batch::new(16, &shapes(), 2);
        let plan = decisions.plan(&batch);
        let kernel = Kernel::attention(&decisions.spec(), &plan, batch.pool_pages).unwrap();
        let tensors = numbers(&decisions.spec(), plan.bucket().tokens, batch.pool_pages);
        let start = Instant::now();
        for trial in 0..4 {
            let words: Vec<i32> = match trial {
                0 => vec![0; plan.meta().len()],
                1 => vec![i32::MAX; plan.meta().len()],
                _ => plan.meta().iter().map(|_| random.next_u64() as i32).collect(),
            };
            let mut words = words;
            // The slot map is read before the kernel, by the test.
            words[tpu_rpa::batch::layout::SLOTS] = plan.meta()[tpu_rpa::batch::layout::SLOTS];
            let slots = plan.meta()[tpu_rpa::batch::layout::SLOTS] as usize;
            words[slots..][..plan.bucket().key_slots].fill(0);
            let found = run(&kernel, &words, &tensors);
            assert!(found.iter().all(|x| x.is_nan()), "{tiling:?}, trial {trial}");
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{tiling:?}: {:?}", start.elapsed());
    }
}

/// Slots for pages of another size, for other rows or for another target's kernel: nothing is written.
#[test]
fn slots_of_other_kernels_write_nothing() {
    const POOL_PAGES: usize = 6;
    let mut planner = Planner::new(16, POOL_PAGES, Tiling::portable(32, 64, 32, 16).unwrap()).unwrap();
    let group = Group { prefix_len: 0, pages: &[], cu_seg_lens: &[0, 5], lead: false };
    let plan = planner.plan(5, &[group]).unwrap();
    let slots = KvSlots::new(&planner, &plan, &[-1, 16, 17, 18, -1]).unwrap();
    let rows = plan.bucket().tokens;
    let (own, words) = (16, slots.words(&plan).unwrap());
    for page_size in [own, 8, 32] {
        let pool_pages = 2 * POOL_PAGES;
        let spec = KvWriteSpec::new(1, 64, page_size, DType::F32).unwrap();
        let kernel = Kernel::KvWrite { spec: spec.clone(), tokens: rows, pool_pages };
        assert_eq!(kernel.takes(&plan).is_ok(), page_size == own);
        let function = stablehlo_function("kv_write", &kernel, Target::Portable).unwrap();
        let executable = client().compile(&function.module(), &CompileOptions::new()).unwrap();
        let mut random = Random::new(9);
        let kv: Array3<f32> = normal((rows, 1, 64), &mut random);
        let pages: Array1<f32> = normal(pool_pages * 2 * page_size * 64, &mut random);
        let write = |words: &[i32]| {
            let kv = client().upload(kv.as_slice().unwrap(), kv.shape()).unwrap();
            let dims = [pool_pages, 2, 1, page_size, 64];
            let pages = client().upload(pages.as_slice().unwrap(), &dims).unwrap();
            let words = client().upload(words, &[words.len()]).unwrap();
            let first = client().upload(&[0], &[]).unwrap();
            executable.run(&[&kv, &kv, &pages, &words, &first]).unwrap().remove(0).to_vec::<f32>().unwrap()
        };
        assert_eq!(write(words) == pages.to_vec(), page_size != own, "pages of {page_size}");
        let mut others = words.to_vec();
        others[0] ^= 2;
        assert_eq!(write(&others), pages.to_vec(), "pages of {page_size}");
    }
}
