//! The schedule replay against counts known by hand. The first test reads a committed schedule; the others compile
//! with libtpu where it can be had, and need no TPU.

use std::path::PathBuf;

use common::mosaic::MosaicAttention;
use common::{Batch, GroupShape, Random, Tensors};
use half::bf16;
use tpu_rpa::batch::{Planner, Tiling};
use tpu_rpa::emulator::RunOptions;
use tpu_rpa::kernels::{self, TensorType};
use tpu_rpa::schedule::{
    Compiler, DeviceKind, Direction, DmaModel, Kernel, Replay, Schedule, Unit, compile_child,
};
use tpu_rpa::spec::{AttentionSpec, DType};

/// Child process of [`compiler`].
#[test]
fn compile() {
    if let Some(outcome) = compile_child() {
        outcome.unwrap();
    }
}

fn compiler() -> Option<Compiler> {
    Some(Compiler::new(std::env::current_exe().unwrap(), &["--exact", "compile"], common::libtpu::path()?))
}

fn cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("schedule")
}

fn trusted(replay: &Replay) {
    assert!(replay.trusted(), "{:?} {:?}", replay.trouble, replay.unknown);
}

/// Nearly all that v7x has, half of what the others have.
const VMEM: usize = 60 << 20;

const NO_LATENCY: DmaModel = DmaModel { bytes_per_cycle: 1e9, latency: 0.0 };

/// 3 x 2 x 2 grid steps, x and y fetched for each, the result written when its block is done.
fn check_matmul_grid(schedule: &Schedule) {
    let replay = schedule.replay(&[], &NO_LATENCY);
    trusted(&replay);
    assert_eq!(replay.traffic.into_core, Direction { copies: 24, bytes: 12 * (16 + 128) * 128 * 2 });
    assert_eq!(replay.traffic.to_hbm, Direction { copies: 6, bytes: 6 * 16 * 128 * 4 });
    let loops = schedule.loops(&replay);
    // Fetch, compute and write back are stages of one loop: two trips more than grid steps.
    assert_eq!(loops.iter().map(|l| (l.entries, l.trips)).collect::<Vec<_>>(), [(1, 14)]);
    let regions = schedule.regions(&replay);
    let multiplies: u64 = regions.iter().filter(|r| r.matmuls > 0).map(|r| r.runs).sum();
    assert_eq!(multiplies, 12);
    assert_eq!(regions.iter().map(|r| r.executed()).sum::<u64>(), replay.slots);
    assert_eq!(replay.slots as f64, replay.cycles - replay.stall_cycles());
}

#[test]
fn a_committed_schedule_gives_the_counts_of_its_grid() {
    let schedule = Schedule::parse(
        DeviceKind::V6e,
        include_str!("data/schedule/matmul_grid.bundles.txt"),
        include_str!("data/schedule/matmul_grid.utilization.txt"),
        "",
    )
    .unwrap();
    check_matmul_grid(&schedule);
    // A copy's time shows in the stalls, and only there.
    let slow = schedule.replay(&[], &DmaModel { bytes_per_cycle: 1024.0, latency: 1000.0 });
    let fast = schedule.replay(&[], &NO_LATENCY);
    assert_eq!(slow.slots, fast.slots);
    assert!(slow.stall_cycles() > 1000.0 && fast.stall_cycles() < 1.0);
}

#[test]
fn damaged_listings_are_refused_or_not_trusted() {
    let bundles = include_str!("data/schedule/matmul_grid.bundles.txt");
    let utilization = include_str!("data/schedule/matmul_grid.utilization.txt");
    let parse = |bundles: &str| Schedule::parse(DeviceKind::V6e, bundles, utilization, "");
    // A slot is missing.
    let gap: Vec<&str> = bundles.lines().filter(|l| !l.trim_start().starts_with("0x20 ")).collect();
    assert!(parse(&gap.join("\n")).unwrap_err().to_string().contains("comes next"));
    assert!(
        Schedule::parse(DeviceKind::V6e, bundles, utilization.trim_end().rsplit_once('\n').unwrap().0, "")
            .is_err()
    );
    // An op that decides the loop is not known.
    let strange = parse(&bundles.replace("sadd.s32", "sadd.s99")).unwrap().replay(&[], &NO_LATENCY);
    assert!(!strange.trusted() && strange.unknown.contains_key("sadd.s99"), "{:?}", strange.trouble);
    // A wait for more than comes.
    let first = bundles.lines().find(|l| l.contains("dma.done.wait")).unwrap();
    let size = first.rsplit(", ").find_map(|w| w.split(' ').next()?.parse::<u32>().ok()).unwrap();
    let more = bundles.replace(first, &first.replacen(&format!(", {size}"), &format!(", {}", size + 1), 1));
    assert_ne!(more, bundles);
    assert!(!parse(&more).unwrap().replay(&[], &NO_LATENCY).trusted());
}

#[test]
fn a_grid_runs_as_often_as_it_has_steps() {
    let Some(compiler) = compiler() else { return };
    let text = include_str!("data/mosaic/matmul_grid.mlir");
    let bf16 = |dims: &[usize]| TensorType::new(DType::Bf16, dims);
    let inputs = [bf16(&[48, 256]), bf16(&[256, 256])];
    let output = TensorType::new(DType::F32, &[48, 256]);
    let kernel = Kernel::of_mosaic("matmul_grid", text, &inputs, &output, Vec::new(), VMEM);
    for device in DeviceKind::ALL {
        check_matmul_grid(&compiler.schedule(&kernel, device, &cache()).unwrap());
    }
}

#[test]
fn a_loop_runs_as_often_as_its_operand_says() {
    let Some(compiler) = compiler() else { return };
    let text = include_str!("data/mosaic/paged_sum.mlir");
    let i32s = |n: usize| TensorType::new(DType::I32, &[n]);
    let inputs = [i32s(1), i32s(4), TensorType::new(DType::F32, &[8, 8, 128])];
    let output = TensorType::new(DType::F32, &[8, 128]);
    let kernel = Kernel::of_mosaic("paged_sum", text, &inputs, &output, Vec::new(), VMEM);
    for device in DeviceKind::ALL {
        let schedule = compiler.schedule(&kernel, device, &cache()).unwrap();
        for pages in 1..=4 {
            let replay = schedule.replay(&[vec![pages], vec![3, 0, 7, 3]], &NO_LATENCY);
            trusted(&replay);
            let loops = schedule.loops(&replay);
            assert_eq!(loops.iter().map(|l| l.trips).max(), Some(pages as u64), "{device}");
            let fetched = replay.copies.iter().filter(|c| c.into_core && c.bytes == 4096).count();
            assert_eq!(fetched as i32, pages, "{device}");
        }
    }
}

/// 2048^3 in blocks of 512: the multiplies that the schedule books are those of the published peak, no more and no less.
#[test]
fn a_large_matmul_books_exactly_its_multiplies() {
    let Some(compiler) = compiler() else { return };
    let text = include_str!("data/mosaic/matmul_grid.mlir")
        .replace("16x128x", "512x512x")
        .replace("128x128x", "512x512x")
        .replace("<i64: 16, 128>", "<i64: 512, 512>")
        .replace("<i64: 128, 128>", "<i64: 512, 512>")
        .replace("<i64: 3, 2, 2>", "<i64: 4, 4, 4>")
        .replace("%last = arith.constant 1", "%last = arith.constant 3");
    let bf16 = TensorType::new(DType::Bf16, &[2048, 2048]);
    let output = TensorType::new(DType::F32, &[2048, 2048]);
    let kernel = Kernel::of_mosaic("matmul", &text, &[bf16.clone(), bf16], &output, Vec::new(), VMEM);
    let device = DeviceKind::V6e;
    let schedule = compiler.schedule(&kernel, device, &cache()).unwrap();
    let replay = schedule.replay(&[], &device.dma_model(1000.0));
    trusted(&replay);
    assert_eq!(schedule.loops(&replay).iter().map(|l| l.trips).max(), Some(4 * 4 * 4 + 2));
    let cycles = 2.0 * 2048f64.powi(3) / device.flops_per_cycle();
    // Two matrix units.
    assert_eq!(schedule.executed(&replay).get(Unit::MatMul) as f64, 2.0 * cycles);
    let slots = replay.slots as f64;
    assert!(slots > cycles && slots < 2.0 * cycles, "{slots} of {cycles}");
}

/// Random batches of one bucket: the planner, the emulator and the replayed schedule count the same tiles.
#[test]
fn planner_emulator_and_replay_visit_the_same_tiles() {
    let Some(compiler) = compiler() else { return };
    let spec = AttentionSpec::builder(2, 1, 128).page_size(16).dtype(DType::Bf16).build().unwrap();
    let blocks = Tiling::tpu(256, 128, 64, 16).unwrap().with_row_block(64).unwrap();
    let tilings = [blocks, Tiling::tpu(64, 128, 64, 16).unwrap()];
    let pool_pages = 40;
    let mut random = Random::new(4);
    let mut programs = std::collections::HashMap::new();
    let (mut batches, mut tiles) = (0, 0);
    for seed in 0..250 {
        // 200 of them in query tiles of one block, 50 in several.
        let tiling = tilings[usize::from(seed % 5 > 0)];
        let mut left = 257 + random.below(128);
        let mut shapes = Vec::new();
        while left > 0 {
            let mut segments = Vec::new();
            for _ in 0..1 + random.below(12) {
                let longest = [1, 20, 60, 200][random.below(4)];
                let len = (1 + random.below(longest)).min(left);
                left -= len;
                segments.push(len);
            }
            let prefix_len = [0, 1 + random.below(500)][random.below(2)];
            shapes.push(GroupShape { prefix_len, lead: random.below(2) == 0, segments });
        }
        let mut batch = Batch::new(16, &shapes, seed);
        assert!(batch.pool_pages <= pool_pages);
        batch.pool_pages = pool_pages;
        let plan =
            Planner::new(16, pool_pages, tiling).unwrap().plan(batch.total_tokens, &batch.groups()).unwrap();
        let function =
            kernels::attention_tpu("attention", &spec, &plan.tiling(), &plan.bucket(), pool_pages).unwrap();
        let kernel = Kernel::of_function(&function, &[(4, plan.meta()), (5, &[0])]).unwrap();
        let schedule = programs
            .entry(plan.bucket())
            .or_insert_with(|| compiler.schedule(&kernel, DeviceKind::V6e, &cache()).unwrap());
        let replay = schedule.replay(kernel.prefetch(), &NO_LATENCY);
        trusted(&replay);
        let bodies = schedule.regions(&replay);
        let bodies = bodies.iter().filter(|r| r.exp2 > 0 && r.matmuls > 0);
        let stats = plan.stats();
        // A query tile begins with scores alone, which rescale too.
        let visited = bodies.map(|r| r.runs).sum::<u64>() - stats.q_tiles as u64;
        assert_eq!(
            visited as usize,
            stats.full_tiles + stats.edge_tiles,
            "batch {seed}: planned and replayed"
        );
        if seed % 2 == 0 {
            let tensors = Tensors::<bf16>::random(&spec, &batch, plan.bucket().tokens, seed);
            let (_, outcome) = MosaicAttention::new(&spec, &plan, &tensors).run(&RunOptions::default());
            let count = |name: &str| outcome.report.count(name);
            let emulated = count("full_tiles") + count("edge_tiles") + count("slot_tiles");
            assert_eq!(visited, emulated, "batch {seed}: emulated and replayed");
        }
        batches += 1;
        tiles += visited;
    }
    println!("{batches} batches, {tiles} tiles, {} programs", programs.len());
}
