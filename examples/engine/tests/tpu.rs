//! The example engine's whole program, with the Mosaic kernels in it, through the TPU compiler. Needs libtpu, and no TPU.

use engine::LlamaConfig;
use engine::program::{self, KvUse, Model, Shape};
use tpu_rpa::batch::{Group, Planner};
use tpu_rpa::kernels::{Target, verify};
use tpu_rpa::runtime::CompileOptions;
use tpu_rpa::spec::{AttentionSpec, DType};

/// SmolLM2-135M.
fn config() -> LlamaConfig {
    LlamaConfig {
        layers: 30,
        hidden: 576,
        mlp: 1536,
        q_heads: 9,
        kv_heads: 3,
        head_dim: 64,
        vocabulary: 49_152,
        context: 8192,
        rope_theta: 100_000.0,
        norm_epsilon: 1e-5,
    }
}

fn text(target: Target, kv: KvUse, dtype: DType) -> String {
    let config = config();
    let attention = AttentionSpec::builder(config.q_heads, config.kv_heads, config.head_dim)
        .page_size(16)
        .dtype(dtype)
        .build()
        .unwrap();
    let tiling = target.tiling(16).unwrap();
    let mut planner = Planner::new(16, 512, tiling).unwrap();
    let group = Group { cu_seg_lens: &[0, 40, 60, 75, 100], lead: true, ..Group::default() };
    let plan = planner.plan(100, &[group]).unwrap();
    let shape = Shape { bucket: plan.bucket(), tiling: plan.tiling(), rows: 8, labels: 8, kv };
    let model = Model { config: &config, attention: &attention, pages: 512, target, widen: false };
    program::render(&model, &shape).unwrap()
}

#[test]
fn a_tpu_program_calls_the_mosaic_kernels_and_a_cpu_program_none() {
    for kv in [KvUse::None, KvUse::Read, KvUse::Write] {
        let calls = |target| text(target, kv, DType::F32).matches("@tpu_custom_call").count();
        assert_eq!(calls(Target::Portable), 0);
        assert_eq!(calls(Target::Tpu), if kv == KvUse::Write { 3 } else { 2 });
    }
}

/// The check of kernel texts takes whole programs, and says which line of one is wrong.
#[test]
fn every_program_passes_the_check() {
    for target in [Target::Portable, Target::Tpu] {
        for (kv, dtype) in
            [(KvUse::None, DType::F32), (KvUse::Read, DType::Bf16), (KvUse::Write, DType::Bf16)]
        {
            verify(&text(target, kv, dtype)).unwrap_or_else(|e| panic!("{target:?} {kv:?}: {e}"));
        }
    }
    let program = text(Target::Portable, KvUse::Write, DType::F32);
    for (from, to, problem) in [
        ("func.call @positions(%meta)", "func.call @position(%meta)", "@position is not defined"),
        (
            "%first_page = stablehlo.multiply %layer,",
            "%first_page = stablehlo.multiply %laier,",
            "%laier is not",
        ),
        ("%y = stablehlo.add %x, %ao", "%y = stablehlo.add %x, %k", "%k is tensor<128x192xf32>"),
        ("%o:2 = func.call", "%o:3 = func.call", "%o names 3 results"),
        ("return %logprobs, %run#2", "return %logprobs, %run#1", "%run#1 is tensor<128x576xf32>"),
    ] {
        assert_eq!(program.matches(from).count(), 1, "{from}");
        let error = verify(&program.replace(from, to)).expect_err(to);
        assert!(error.problem.contains(problem), "{error}");
        assert!(
            error.text.contains(to) && program.lines().nth(error.line - 1).unwrap().contains(from),
            "{error}"
        );
    }
}

#[test]
fn libtpu_compiles_the_engine() {
    let Some(plugin) = common::libtpu::libtpu() else { return };
    for (topology, kv, dtype) in [
        ("v5e:2x2", KvUse::Write, DType::Bf16),
        ("v6e:2x2", KvUse::None, DType::F32),
        ("v6e:2x2", KvUse::Read, DType::Bf16),
        ("v6e:2x2", KvUse::Write, DType::Bf16),
        ("tpu7x:2x2x1", KvUse::Write, DType::Bf16),
    ] {
        let target = plugin.topology(topology).unwrap();
        let program = text(target.target().unwrap(), kv, dtype);
        let start = std::time::Instant::now();
        let made = target.compile_aot(&program, &CompileOptions::new()).unwrap_or_else(|e| panic!("{e}"));
        let memory = made.memory.expect("libtpu tells");
        println!(
            "{topology} {kv:?} {dtype}: {} bytes in {:.1?}; {memory:?}",
            made.bytes.len(),
            start.elapsed()
        );
        // Weights and a pool of 30 layers come in; a pool that is written takes over its own memory.
        let pool = 30 * 512 * 2 * 3 * 16 * 64 * dtype.size() as u64;
        assert!(memory.argument > 200 << 20, "{memory:?}");
        assert_eq!(memory.alias >= pool, kv == KvUse::Write, "{memory:?}");
    }
}
