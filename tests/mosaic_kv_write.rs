//! The Mosaic KV-page write, executed by the emulator, against the reference, bit for bit.
#![cfg(feature = "emulator")]

#[path = "common/mod.rs"]
mod common;

use common::{Element, Random, normal};
use half::bf16;
use ndarray::{Array3, Array5, Axis};
use tpu_rpa::batch::{Group, KvSlots, Planner};
use tpu_rpa::emulator::{self, Emulator, Operands, Outcome, RunOptions, Tensor};
use tpu_rpa::kernels::{self, KernelError};
use tpu_rpa::reference;
use tpu_rpa::spec::{DType, KvWriteSpec};

/// A bit pattern per element, NaNs with payloads and both signs among them.
trait Bits: Element + emulator::Element {
    const DTYPE: DType;
    fn of_bits(bits: u64) -> Self;
}

impl Bits for f32 {
    const DTYPE: DType = DType::F32;
    fn of_bits(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
}

impl Bits for bf16 {
    const DTYPE: DType = DType::Bf16;
    fn of_bits(bits: u64) -> Self {
        bf16::from_bits(bits as u16)
    }
}

/// Runs the kernel under every DMA policy; returns what it left in the pages and what it should have.
fn write<E: Bits>(
    spec: &KvWriteSpec,
    pool_pages: usize,
    slots: &[i32],
    random: &mut Random,
) -> (Outcome, Vec<u8>, Vec<u8>) {
    let page_size = spec.page_size();
    let tiling = kernels::default_tiling(page_size).unwrap();
    let mut planner = Planner::new(page_size, pool_pages, tiling).unwrap();
    let tokens = slots.len();
    let group = Group { cu_seg_lens: &[0, tokens as i32], ..Group::default() };
    let plan = planner.plan(tokens, &[group]).unwrap();
    let slots = KvSlots::new(&planner, &plan, slots).unwrap();
    let rows = plan.bucket().tokens;

    let k: Array3<E> = normal((rows, spec.kv_heads(), spec.head_dim()), random);
    let v: Array3<E> = normal((rows, spec.kv_heads(), spec.head_dim()), random);
    let shape = (pool_pages, 2, spec.kv_heads(), page_size, spec.head_dim());
    let quiet_nan = if E::DTYPE == DType::F32 { 0x7f80_0000 } else { 0x7f80 };
    let pages = Array5::from_shape_simple_fn(shape, || {
        let bits = random.next_u64();
        E::of_bits(if bits >> 63 == 0 { bits } else { bits | quiet_nan })
    });
    let mut expected = pages.clone();
    reference::kv_write(k.view(), v.view(), slots.slots(), expected.view_mut());

    let text = kernels::kv_write_mosaic("kv_write", spec, rows, pool_pages).unwrap();
    let table = slots.chunk_table();
    let new_kv = ndarray::concatenate(Axis(1), &[k.view(), v.view()]).unwrap();
    let operands = Operands::new()
        .input(Tensor::new(&[table.len()], table).unwrap())
        .input(Tensor::from_array(new_kv.view()).unwrap())
        .input(Tensor::from_array(pages.view()).unwrap())
        .output(E::TYPE, pages.shape())
        .alias(2, 0);
    let kernel = Emulator::new(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(kernel.check_alignment(), [], "the compiler would refuse this");
    let outcome =
        kernel.run_all_policies(&operands, &RunOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let found = bytemuck::cast_slice(outcome.outputs[0].as_slice::<E>().unwrap()).to_vec();
    (outcome, found, bytemuck::cast_slice(expected.as_slice().unwrap()).to_vec())
}

fn random_slots<E: Bits>(seed: u64) {
    let mut random = Random::new(seed);
    let page_size = [8, 16, 32, 128][random.below(4)];
    let pool_pages = 2 + random.below(6);
    let (kv_heads, head_dim) = (1 + random.below(4), [64, 128][random.below(2)]);
    let spec = KvWriteSpec::new(kv_heads, head_dim, page_size, E::DTYPE).unwrap();
    let tokens = 1 + random.below((pool_pages * page_size).min(70));
    // Runs from random places, single tokens, rows that are not written, in any order.
    let mut free: Vec<i32> = (0..(pool_pages * page_size) as i32).collect();
    match random.below(3) {
        0 => random.shuffle(&mut free),
        1 => {
            let n = free.len();
            free.rotate_left(random.below(n));
        }
        _ => free.reverse(),
    }
    let slots: Vec<i32> =
        free.into_iter().take(tokens).map(|slot| if random.below(5) == 0 { -1 } else { slot }).collect();
    let (outcome, found, expected) = write::<E>(&spec, pool_pages, &slots, &mut random);
    assert!(found == expected, "seed {seed}: {spec:?}, {slots:?}");

    let written = slots.iter().filter(|&&s| s >= 0);
    let mut per_chunk = std::collections::BTreeMap::<i32, u64>::new();
    written.clone().for_each(|s| *per_chunk.entry(s / 8).or_default() += 1);
    let whole = per_chunk.values().filter(|&&n| n == 8).count() as u64;
    let report = &outcome.report;
    assert_eq!(report.count("chunks_written"), per_chunk.len() as u64);
    assert_eq!(report.count("chunks_read"), per_chunk.len() as u64 - whole, "whole chunks are not read");
    assert_eq!(report.count("rows_read"), written.count() as u64);
}

#[test]
fn every_byte_outside_the_slots_keeps_its_bits() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(60);
    for seed in 0..cases {
        random_slots::<f32>(seed);
        random_slots::<bf16>(seed + 1_000_000);
    }
}

#[test]
fn nothing_to_write_moves_nothing() {
    let spec = KvWriteSpec::new(2, 128, 16, DType::Bf16).unwrap();
    let (outcome, found, expected) = write::<bf16>(&spec, 3, &[-1; 20], &mut Random::new(5));
    assert!(found == expected);
    let report = &outcome.report;
    assert_eq!((report.dma_in.count, report.dma_out.count), (0, 0));
}

#[test]
fn a_table_beyond_scalar_memory_is_refused() {
    let spec = KvWriteSpec::new(8, 128, 128, DType::Bf16).unwrap();
    assert!(kernels::kv_write_tpu("kv_write", &spec, 32_767, 64).is_ok());
    let error = kernels::kv_write_tpu("kv_write", &spec, 32_768, 64).unwrap_err();
    assert!(matches!(error, KernelError::Shape { field: "tokens", value: 32_768, .. }), "{error}");
    assert!(error.to_string().contains("32767"), "{error}");
}
