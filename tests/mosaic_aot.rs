//! The real compiler accepts the Mosaic texts for every TPU generation. Needs libtpu, and no TPU.
#![cfg(feature = "runtime")]

use std::time::Instant;

use tpu_rpa::batch::{Group, Planner, Tiling};
use tpu_rpa::kernels::{self, Function, TpuKind};
use tpu_rpa::runtime::CompileOptions;
use tpu_rpa::spec::{AttentionSpec, DType, KvWriteSpec, LabelLogprobsSpec, LabelSet};

/// Compiles every function for every generation; panics with all refusals.
fn accepts(functions: &[(&str, Function)]) {
    let Some(plugin) = common::libtpu::libtpu() else { return };
    let mut refused = Vec::new();
    for topology in TpuKind::ALL.map(TpuKind::topology) {
        let target = plugin.topology(topology).unwrap();
        for (name, function) in functions {
            let start = Instant::now();
            match target.compile_aot(&function.module(), &CompileOptions::new()) {
                Ok(made) => {
                    println!("{topology} {name}: {} bytes in {:.1?}", made.bytes.len(), start.elapsed());
                }
                Err(e) => refused.push(format!("{topology} {name}: {e}")),
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn libtpu_accepts_the_label_kernel_for_every_generation() {
    let shapes = [
        ("qwen3-0.6b", 600, 512, 1024, 151_936, LabelSet::Shared(2), DType::Bf16),
        ("smollm2", 64, 16, 576, 49_152, LabelSet::Shared(2), DType::F32),
        ("f32", 64, 16, 1024, 5000, LabelSet::PerRow(5), DType::F32),
        ("small vocabulary", 40, 7, 64, 1000, LabelSet::PerRow(3), DType::Bf16),
        ("odd sizes", 40, 7, 72, 5001, LabelSet::Shared(3), DType::Bf16),
        ("wide, many labels", 1000, 700, 8192, 20_011, LabelSet::Shared(32), DType::Bf16),
    ];
    let mut functions = Vec::new();
    for (name, tokens, rows, hidden, vocab, labels, dtype) in shapes {
        let spec = LabelLogprobsSpec::new(hidden, vocab, labels, dtype).unwrap();
        functions.push((name, kernels::label_logprobs_tpu("labels", &spec, tokens, rows).unwrap()));
    }
    let shard = LabelLogprobsSpec::new(1024, 151_936 / 4, LabelSet::Shared(2), DType::Bf16).unwrap();
    functions
        .push(("qwen3-0.6b, a quarter", kernels::label_partials_tpu("labels", &shard, 600, 512).unwrap()));
    accepts(&functions);
}

#[test]
fn libtpu_accepts_the_label_softmax_for_every_generation() {
    let shapes = [
        ("qwen3-0.6b", 600, 512, 1024, 151_936, LabelSet::Shared(2), DType::Bf16),
        ("smollm2", 64, 16, 576, 49_152, LabelSet::Shared(2), DType::F32),
        ("per row", 300, 200, 1024, 5000, LabelSet::PerRow(5), DType::Bf16),
        ("per row f32", 64, 16, 64, 5000, LabelSet::PerRow(16), DType::F32),
        ("many labels", 1000, 700, 4096, 20_011, LabelSet::Shared(1000), DType::Bf16),
    ];
    let functions = shapes.map(|(name, tokens, rows, hidden, vocab, labels, dtype)| {
        let spec = LabelLogprobsSpec::new(hidden, vocab, labels, dtype).unwrap();
        (name, kernels::label_softmax_tpu("labels", &spec, tokens, rows).unwrap())
    });
    accepts(&functions);
}

#[test]
fn libtpu_accepts_the_kv_write_for_every_generation() {
    let shapes = [
        ("qwen3-0.6b", 8, 128, 128, DType::Bf16, 12_288, 1024),
        ("smollm2", 3, 64, 16, DType::F32, 256, 64),
        ("smollm2 bf16", 3, 64, 16, DType::Bf16, 256, 64),
        ("small pages", 1, 256, 8, DType::Bf16, 64, 8),
    ];
    let functions = shapes.map(|(name, kv_heads, head_dim, page_size, dtype, tokens, pool_pages)| {
        let spec = KvWriteSpec::new(kv_heads, head_dim, page_size, dtype).unwrap();
        (name, kernels::kv_write_tpu("kv_write", &spec, tokens, pool_pages).unwrap())
    });
    accepts(&functions);
}

#[test]
fn libtpu_accepts_the_attention_kernel_for_every_generation() {
    let shapes = [
        ("qwen3-0.6b", 16, 8, 128, DType::Bf16, (128, 256, 128, 128)),
        ("smollm2", 9, 3, 64, DType::Bf16, (128, 256, 128, 128)),
        ("gemma-like", 4, 1, 256, DType::Bf16, (128, 256, 64, 128)),
        ("f32", 4, 2, 128, DType::F32, (64, 128, 64, 64)),
        ("qwen3-0.6b, row blocks", 16, 8, 128, DType::Bf16, (256, 256, 128, 64)),
        ("smollm2, row blocks", 9, 3, 64, DType::Bf16, (256, 256, 128, 128)),
        ("gemma-like, row blocks", 4, 1, 256, DType::Bf16, (128, 256, 64, 32)),
        ("f32, row blocks", 4, 2, 128, DType::F32, (128, 128, 64, 64)),
    ];
    let functions = shapes.map(|(name, q_heads, kv_heads, head_dim, dtype, (q, kv, own, block))| {
        let spec =
            AttentionSpec::builder(q_heads, kv_heads, head_dim).page_size(128).dtype(dtype).build().unwrap();
        let tiling = Tiling::tpu(q, kv, own, 128).unwrap().with_row_block(block).unwrap();
        let group = Group { prefix_len: 300, pages: &[3, 1, 2], cu_seg_lens: &[0, 40, 60, 500], lead: true };
        let plan = Planner::new(128, 8, tiling).unwrap().plan(500, &[group]).unwrap();
        (name, kernels::attention_tpu("attention", &spec, &plan.tiling(), &plan.bucket(), 8).unwrap())
    });
    accepts(&functions);
}

/// Every page size up to 256, in both dtypes, for attention and KV write.
#[test]
fn libtpu_accepts_every_page_size() {
    let mut functions = Vec::new();
    for dtype in [DType::F32, DType::Bf16] {
        for page_size in [8, 16, 32, 64, 128, 256] {
            let spec = AttentionSpec::builder(4, 2, 128).page_size(page_size).dtype(dtype).build().unwrap();
            let tiling = Tiling::tpu(64, 128.max(page_size), 64, page_size).unwrap();
            let group = Group { prefix_len: 20, pages: &[3, 1, 2], cu_seg_lens: &[0, 40, 60], lead: true };
            let plan = Planner::new(page_size, 8, tiling).unwrap().plan(60, &[group]).unwrap();
            let name = format!("attention, {dtype} pages of {page_size}");
            functions.push((
                name,
                kernels::attention_tpu("attention", &spec, &plan.tiling(), &plan.bucket(), 8).unwrap(),
            ));
            let name = format!("KV write, {dtype} pages of {page_size}");
            functions.push((name, kernels::kv_write_tpu("kv_write", &(&spec).into(), 64, 8).unwrap()));
        }
    }
    let functions: Vec<(&str, Function)> = functions.iter().map(|(n, f)| (n.as_str(), f.clone())).collect();
    accepts(&functions);
}
