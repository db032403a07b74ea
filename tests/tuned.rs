//! Tuned block sizes: what clients choose is what the tables say, fits into every TPU, and computes the right thing.
#![cfg(feature = "emulator")]

use std::collections::BTreeSet;

use common::mosaic::{MosaicAttention, mosaic_plan};
use common::{Batch, Errors, GroupShape, Tensors};
use half::bf16;
use tpu_rpa::batch::{Group, ScaleOn, Tiling};
use tpu_rpa::emulator::{DmaPolicy, Emulator, RunOptions};
use tpu_rpa::kernels::{self, Target, TpuKind, WorkloadClass, tuned_tiling};
use tpu_rpa::reference::Rounding;
use tpu_rpa::spec::{AttentionSpec, DType};

fn spec(q_heads: usize, kv_heads: usize, head_dim: usize, page_size: usize, dtype: DType) -> AttentionSpec {
    AttentionSpec::builder(q_heads, kv_heads, head_dim).page_size(page_size).dtype(dtype).build().unwrap()
}

/// Entries of a committed table: device, class, shape, block sizes.
fn entries() -> Vec<(TpuKind, WorkloadClass, AttentionSpec, Tiling)> {
    let mut entries = Vec::new();
    for device in TpuKind::ALL {
        let path = format!("{}/kernels/tables/{device}.toml", env!("CARGO_MANIFEST_DIR"));
        let table: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
        for entry in table["entry"].as_array().unwrap() {
            let number = |v: &toml::Value, field: &str| v[field].as_integer().unwrap() as usize;
            let class = WorkloadClass::ALL.into_iter().find(|c| c.name() == entry["class"].as_str().unwrap());
            let page_size = number(entry, "page_size");
            let [q, kv, dim] = ["q_heads", "kv_heads", "head_dim"].map(|f| number(entry, f));
            let [q_tile, kv_tile, own_tile] =
                ["q_tile", "kv_tile", "own_tile"].map(|f| number(&entry["tiles"], f));
            let row_block =
                entry["tiles"].get("row_block").map_or(q_tile, |b| b.as_integer().unwrap() as usize);
            let tiling = Tiling::tpu(q_tile, kv_tile, own_tile, page_size).unwrap();
            let scaled = entry["scaled_scores"].as_bool().unwrap();
            let scale_on = if scaled { ScaleOn::Scores } else { ScaleOn::Queries };
            let tiling = tiling.with_row_block(row_block).unwrap().with_scale_on(scale_on).into();
            entries.push((device, class.unwrap(), spec(q, kv, dim, page_size, DType::Bf16), tiling));
        }
    }
    entries
}

#[test]
fn every_device_has_a_table_of_every_class() {
    let found: BTreeSet<_> = entries().iter().map(|(d, c, ..)| (d.to_string(), *c)).collect();
    assert_eq!(found.len(), TpuKind::ALL.len() * WorkloadClass::ALL.len());
}

#[test]
fn a_shape_of_the_table_gets_its_entry() {
    for (device, class, spec, tiling) in entries() {
        let tuned = tuned_tiling(device, &spec, class).unwrap();
        assert_eq!(tuned.tiling(), tiling, "{device} {class} {spec:?}");
        assert!(tuned.is_exact(), "{tuned}");
        assert!(tuned.to_string().contains(&format!("tuned for {class} on {device}")), "{tuned}");
    }
}

/// Twice the heads is the nearest shape with as many rows on lanes; another dtype is never taken.
#[test]
fn another_shape_gets_the_nearest_entry() {
    let (device, class) = (TpuKind::V6e, WorkloadClass::Packed);
    let near = tuned_tiling(device, &spec(16, 4, 128, 128, DType::Bf16), class).unwrap();
    assert!(!near.is_exact());
    let tuned = tuned_tiling(device, &spec(32, 8, 128, 128, DType::Bf16), class).unwrap();
    assert_eq!(near.tiling(), tuned.tiling(), "{near}");
    assert!(near.to_string().contains("32/8x128"), "{near}");
    let wide = tuned_tiling(device, &spec(32, 2, 128, 128, DType::Bf16), class).unwrap().tiling();
    assert_eq!(wide.q_tile() * 16, tuned.tiling().q_tile() * 4, "{wide:?}");
    let f32 = tuned_tiling(device, &spec(16, 8, 128, 128, DType::F32), class).unwrap();
    assert_eq!(f32.tiling(), Target::Tpu.tiling(128).unwrap());
    assert!(f32.to_string().contains("default"), "{f32}");
}

/// For shapes far from any entry too, the Mosaic text stays within the VMEM that kernels may declare, and near the
/// estimate.
#[test]
fn what_is_chosen_fits_into_vmem() {
    let batch = Batch::new(128, &[GroupShape { prefix_len: 200, lead: true, segments: vec![90, 20] }], 1);
    for (q, kv, dim) in
        [(16, 8, 128), (64, 8, 128), (9, 3, 64), (4, 1, 256), (32, 32, 128), (16, 16, 256), (8, 1, 64)]
    {
        for class in WorkloadClass::ALL {
            for device in TpuKind::ALL {
                let spec = spec(q, kv, dim, 128, DType::Bf16);
                let tuned = tuned_tiling(device, &spec, class).unwrap();
                let plan = mosaic_plan(&spec, tuned.tiling(), &batch);
                let text =
                    kernels::attention_mosaic("a", &spec, &plan.tiling(), &plan.bucket(), batch.pool_pages);
                let memory = Emulator::new(&text.unwrap()).unwrap().memory();
                let estimate = kernels::attention_vmem(&spec, &plan.tiling());
                let over = estimate as f64 / memory.vmem() as f64;
                assert!((1.0..1.15).contains(&over), "{q}/{kv}x{dim}: {estimate} of {} bytes", memory.vmem());
                memory
                    .within(device.vmem_budget(), device.smem_budget())
                    .unwrap_or_else(|e| panic!("{device} {class} {q}/{kv}x{dim}: {tuned}: {e}"));
            }
        }
    }
}

/// Every tiling of the tables on its shape, with the segments and prefix lengths that its tiles make awkward.
#[test]
fn every_tuned_kernel_agrees_with_the_reference() {
    let mut seen = Vec::new();
    for (device, class, spec, tiling) in entries() {
        if seen.contains(&(spec.clone(), tiling)) {
            continue;
        }
        let segments = vec![tiling.own_tile() + 30, 20, 20, 1, 33, 20];
        let shape = GroupShape { prefix_len: tiling.kv_tile() + 50, lead: true, segments };
        let batch = Batch::new(spec.page_size(), &[shape], 3);
        let plan = mosaic_plan(&spec, tiling, &batch);
        let tensors = Tensors::<bf16>::random(&spec, &batch, plan.bucket().tokens, 5);
        let kernel = MosaicAttention::new(&spec, &plan, &tensors);
        let (found, _) = kernel.run(&RunOptions::default().dma(DmaPolicy::OnWait));
        Errors::new(&spec, &batch, &tensors, &found, Rounding::Bf16Operands)
            .check(1.0 / 256.0)
            .unwrap_or_else(|e| panic!("{class} on {device}, {spec:?}: {e}"));
        seen.push((spec, tiling));
    }
    assert!(seen.len() >= 4, "{} kernels", seen.len());
}

#[test]
fn batches_have_the_class_that_their_shape_says() {
    let group = |prefix_len, cu_seg_lens, lead| Group { prefix_len, pages: &[], cu_seg_lens, lead };
    let classes = [
        (vec![group(0, &[0, 500, 520, 540, 560], true)], WorkloadClass::Packed),
        (vec![group(0, &[0, 2048], false)], WorkloadClass::Prefill),
        (vec![group(1023, &[0, 1], false), group(500, &[1, 2], false)], WorkloadClass::Decode),
        (vec![group(1000, &[0, 5], false), group(300, &[5, 133], false)], WorkloadClass::Mixed),
        (vec![], WorkloadClass::Mixed),
    ];
    for (groups, class) in classes {
        assert_eq!(WorkloadClass::of(&groups), class, "{groups:?}");
    }
}

#[test]
fn device_kinds_are_those_that_plugins_tell() {
    for (name, kind) in [
        ("TPU v5 lite", Some(TpuKind::V5e)),
        ("TPU v6 lite", Some(TpuKind::V6e)),
        ("TPU7x", Some(TpuKind::V7x)),
        ("TPU v4", None),
        ("cpu", None),
    ] {
        assert_eq!(TpuKind::of_device(name), kind, "{name}");
    }
}
