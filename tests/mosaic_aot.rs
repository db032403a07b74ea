//! The real compiler accepts the Mosaic attention text for every TPU generation. Runs where `TPU_LIBRARY_PATH` names
//! a libtpu and `TPU_SKIP_MDS_QUERY` is set; needs no TPU.
#![cfg(feature = "runtime")]

use std::time::Instant;

use tpu_rpa::batch::{Group, Planner, Tiling};
use tpu_rpa::kernels;
use tpu_rpa::runtime::{CompileOptions, Plugin};
use tpu_rpa::spec::{AttentionSpec, DType};

#[test]
fn libtpu_accepts_the_attention_kernel_for_every_generation() {
    let (Some(path), Some(_)) =
        (std::env::var_os("TPU_LIBRARY_PATH"), std::env::var_os("TPU_SKIP_MDS_QUERY"))
    else {
        eprintln!("SKIPPED: TPU_LIBRARY_PATH and TPU_SKIP_MDS_QUERY are not both set");
        return;
    };
    let plugin = Plugin::load(path).unwrap();
    let shapes = [
        ("qwen3-0.6b", 16, 8, 128, DType::Bf16, (128, 256, 128)),
        ("smollm2", 9, 3, 64, DType::Bf16, (128, 256, 128)),
        ("gemma-like", 4, 1, 256, DType::Bf16, (128, 256, 64)),
        ("f32", 4, 2, 128, DType::F32, (64, 128, 64)),
    ];
    let mut refused = Vec::new();
    for topology in ["v5e:2x2", "v6e:2x2", "tpu7x:2x2x1"] {
        let target = plugin.topology(topology).unwrap();
        for (name, q_heads, kv_heads, head_dim, dtype, (q, kv, own)) in shapes {
            let spec = AttentionSpec::builder(q_heads, kv_heads, head_dim)
                .page_size(128)
                .dtype(dtype)
                .build()
                .unwrap();
            let tiling = Tiling::new(q, kv, own, 128).unwrap().with_aligned_runs();
            let group =
                Group { prefix_len: 300, pages: &[3, 1, 2], cu_seg_lens: &[0, 40, 60, 500], lead: true };
            let plan = Planner::new(128, 8, tiling).unwrap().plan(500, &[group]).unwrap();
            let function = kernels::attention_tpu("attention", &spec, &tiling, &plan.bucket(), 8).unwrap();
            let start = Instant::now();
            match target.compile_aot(&function.module(), &CompileOptions::new()) {
                Ok(bytes) => println!("{topology} {name}: {} bytes in {:.1?}", bytes.len(), start.elapsed()),
                Err(e) => refused.push(format!("{topology} {name}: {e}")),
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
