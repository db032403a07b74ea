//! The Mosaic KV-page write, executed by the emulator, against the reference, bit for bit.
#![cfg(feature = "emulator")]

use std::collections::BTreeMap;

use common::mosaic::{Bits, KvWriteCase};
use common::{Random, cases, property};
use half::bf16;
use proptest::prelude::*;
use tpu_rpa::emulator::{Emulator, Outcome, RunOptions};
use tpu_rpa::kernels::{self, KernelError};
use tpu_rpa::spec::{DType, KvWriteSpec};

/// Runs the kernel under every DMA policy; what it leaves in the pages must be right to the bit.
fn write<E: Bits>(case: &KvWriteCase<E>) -> Outcome {
    let kernel = Emulator::new(&case.text()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(kernel.check_alignment(), [], "the compiler would refuse this");
    let outcome =
        kernel.run_all_policies(&case.operands(), &RunOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    assert!(case.is_expected(&outcome.outputs[0]), "{:?}, {:?}", case.spec, case.slots);
    outcome
}

fn random_slots<E: Bits>(seed: u64) {
    let case = KvWriteCase::<E>::random(seed);
    let outcome = write(&case);
    let written = || case.slots.slots().iter().filter(|&&s| s >= 0);
    let mut per_chunk = BTreeMap::<i32, u64>::new();
    written().for_each(|s| *per_chunk.entry(s / 8).or_default() += 1);
    let whole = per_chunk.values().filter(|&&n| n == 8).count() as u64;
    let report = &outcome.report;
    assert_eq!(report.count("chunks_written"), per_chunk.len() as u64);
    assert_eq!(report.count("chunks_read"), per_chunk.len() as u64 - whole, "whole chunks are not read");
    assert_eq!(report.count("rows_read"), written().count() as u64);
}

#[test]
fn every_byte_outside_the_slots_keeps_its_bits() {
    property(
        cases(800),
        0,
        || (any::<u64>(), any::<bool>()),
        |(seed, f32)| {
            if f32 {
                random_slots::<f32>(seed)
            } else {
                random_slots::<bf16>(seed)
            }
            Ok(())
        },
    );
}

#[test]
fn nothing_to_write_moves_nothing() {
    let spec = KvWriteSpec::new(2, 128, 16, DType::Bf16).unwrap();
    let report = write(&KvWriteCase::<bf16>::new(spec, 3, &[-1; 20], &mut Random::new(5))).report;
    assert_eq!((report.dma_in.count, report.dma_out.count), (0, 0));
}

#[test]
fn a_table_beyond_scalar_memory_is_refused() {
    let spec = KvWriteSpec::new(8, 128, 128, DType::Bf16).unwrap();
    assert!(kernels::kv_write_tpu("kv_write", &spec, 32_766, 64).is_ok());
    let error = kernels::kv_write_tpu("kv_write", &spec, 32_767, 64).unwrap_err();
    assert!(matches!(error, KernelError::Shape { field: "tokens", value: 32_767, .. }), "{error}");
    assert!(error.to_string().contains("32766"), "{error}");
}
