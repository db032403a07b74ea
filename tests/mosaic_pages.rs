//! Page sizes: the Mosaic attention text gives the reference's results for each, and the alignment rule that refuses
//! the rest is the compiler's.
#![cfg(feature = "emulator")]

use common::mosaic::MosaicAttention;
#[cfg(feature = "runtime")]
use common::{Batch, Element, Errors, GroupShape, Tensors};
use half::bf16;
use tpu_rpa::batch::{Plan, Planner, Tiling};
use tpu_rpa::emulator::{self, AlignmentRule, DmaPolicy, Emulator, RunOptions};
use tpu_rpa::kernels;
use tpu_rpa::reference::Rounding;
use tpu_rpa::spec::{AttentionSpec, DType, PageRule, SpecError};
#[cfg(feature = "runtime")]
use tpu_rpa::{kernels::TpuKind, runtime::CompileOptions};

fn spec(page_size: usize, dtype: DType) -> AttentionSpec {
    AttentionSpec::builder(4, 2, 128).page_size(page_size).dtype(dtype).build().unwrap()
}

/// A prefix of several pages whose last one is not full, a lead, and items.
fn plan(page_size: usize) -> (Batch, Plan) {
    let tiling = Tiling::tpu(64, 128.max(page_size), 64, page_size).unwrap();
    let shape = GroupShape { prefix_len: 2 * page_size + 5, lead: true, segments: vec![40, 20, 1, 70, 15] };
    let batch = Batch::new(page_size, &[shape], 7);
    let plan = Planner::new(page_size, batch.pool_pages, tiling)
        .unwrap()
        .plan(batch.total_tokens, &batch.groups())
        .unwrap();
    (batch, plan)
}

fn agrees<E: Element + emulator::Element>(spec: &AttentionSpec, rounding: Rounding, luck: f64) {
    let (batch, plan) = plan(spec.page_size());
    let tensors = Tensors::<E>::random(spec, &batch, plan.bucket().tokens, 1);
    let kernel = MosaicAttention::new(spec, &plan, &tensors);
    for dma in [DmaPolicy::Eager, DmaPolicy::OnWait] {
        let (found, outcome) = kernel.run(&RunOptions::default().dma(dma));
        assert!(outcome.report.count("page_copies") >= 3, "three pages hold the prefix");
        let errors = Errors::new(spec, &batch, &tensors, &found, rounding);
        errors.check(luck).unwrap_or_else(|e| panic!("{spec:?}: {e}"));
    }
}

#[test]
fn every_page_size_agrees_with_the_reference() {
    for page_size in [8, 16, 32, 64, 128, 256, 512] {
        agrees::<f32>(&spec(page_size, DType::F32), Rounding::F32, 1e-6);
        agrees::<bf16>(&spec(page_size, DType::Bf16), Rounding::Bf16Operands, 1.0 / 256.0);
    }
}

/// A text for pages of one token, made from the one for pages of 8: specs refuse it.
fn pages_of_one() -> String {
    let (_, plan) = plan(8);
    let spec = spec(8, DType::Bf16);
    let text = kernels::attention_mosaic("attention", &spec, &plan.tiling(), &plan.bucket(), 8).unwrap();
    let one = text
        .replace("x2x2x8x128xbf16", "x2x2x1x128xbf16")
        .replace("_ps = arith.constant 8", "_ps = arith.constant 1")
        .replace("_up = arith.constant 7", "_up = arith.constant 0");
    assert_ne!(one, text);
    one
}

#[test]
fn smaller_pages_break_the_alignment_rule() {
    let refused = AttentionSpec::builder(4, 2, 128).page_size(1).dtype(DType::Bf16).build();
    assert_eq!(refused, Err(SpecError::PageSize { page_size: 1, rule: PageRule::WholeTiles }));
    let kernel = Emulator::new(&pages_of_one()).unwrap();
    let findings = kernel.check_alignment();
    assert!(findings.iter().any(|f| f.rule == AlignmentRule::SliceOffset), "{findings:?}");
}

#[cfg(feature = "runtime")]
#[test]
fn libtpu_refuses_smaller_pages_by_that_rule() {
    use base64::Engine as _;
    let Some(plugin) = common::libtpu::libtpu() else { return };
    let (_, plan) = plan(8);
    let spec = spec(8, DType::Bf16);
    let text = kernels::attention_mosaic("attention", &spec, &plan.tiling(), &plan.bucket(), 8).unwrap();
    let function = kernels::attention_tpu("attention", &spec, &plan.tiling(), &plan.bucket(), 8).unwrap();
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let (eight, one) = (encode(&text), encode(&pages_of_one()));
    let module = function.module().replace(&eight, &one).replace("x2x2x8x128xbf16", "x2x2x1x128xbf16");
    assert!(module.contains(&one));
    for kind in TpuKind::ALL {
        let topology = plugin.topology(kind.topology()).unwrap();
        let error = topology.compile_aot(&module, &CompileOptions::new()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("Offsets along tiled dimensions"), "{kind}: {error}");
    }
}
