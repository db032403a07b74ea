//! Memory, DMA and synchronisation faults seeded into right kernels: each must get the right diagnosis, at the right
//! op, under every DMA policy.
#![cfg(feature = "emulator")]

use tpu_rpa::emulator::{
    DmaPolicy, ElementType, Emulator, EmulatorError, Fault, FaultKind, FaultPolicy, Operands, RunOptions,
    Tensor,
};

const PAGED_SUM: &str = include_str!("data/mosaic/paged_sum.mlir");
const MATMUL_GRID: &str = include_str!("data/mosaic/matmul_grid.mlir");
const WRITE_BACK: &str = include_str!("data/mosaic/write_back.mlir");

fn paged_sum(table: [i32; 4]) -> Operands {
    let pages: Vec<f32> = (0..8 * 8 * 128).map(|i| (i % 1013) as f32).collect();
    Operands::new()
        .input(Tensor::new(&[1], vec![4]).unwrap())
        .input(Tensor::new(&[4], table.to_vec()).unwrap())
        .input(Tensor::new(&[8, 8, 128], pages).unwrap())
        .output(ElementType::F32, &[8, 128])
}

fn matmul_grid() -> Operands {
    Operands::new()
        .input(Tensor::bf16_from_f32(&[48, 256], &vec![1.0; 48 * 256]).unwrap())
        .input(Tensor::bf16_from_f32(&[256, 256], &vec![2.0; 256 * 256]).unwrap())
        .output(ElementType::F32, &[48, 256])
}

fn write_back() -> Operands {
    let x = (0..16 * 128).collect::<Vec<i32>>();
    Operands::new().input(Tensor::new(&[16, 128], x).unwrap()).output(ElementType::I32, &[16, 128])
}

const POLICIES: [DmaPolicy; 3] = [DmaPolicy::Eager, DmaPolicy::OnWait, DmaPolicy::Random];

/// Replaces the only occurrence.
fn seed(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "'{from}' must occur once");
    text.replacen(from, to, 1)
}

/// The line and column at which `needle` starts.
fn place(text: &str, needle: &str) -> (u32, u32) {
    let at = text.find(needle).unwrap_or_else(|| panic!("'{needle}' is not in the text"));
    let line = text[..at].matches('\n').count();
    let column = at - text[..at].rfind('\n').map_or(0, |n| n + 1);
    (line as u32 + 1, column as u32 + 1)
}

/// The fault that a run stops with, the same kind under every policy.
fn fault(text: &str, operands: &Operands) -> Fault {
    let emulator = Emulator::new(text).unwrap();
    let faults =
        POLICIES.map(|policy| match emulator.run_with(operands, &RunOptions::default().dma(policy)) {
            Err(EmulatorError::Fault(fault)) => fault,
            other => panic!("{policy:?}: expected a fault, got {other:?}"),
        });
    assert!(faults.iter().all(|f| f.kind == faults[0].kind), "{faults:?}");
    let [first, ..] = faults;
    first
}

#[track_caller]
fn expect(text: &str, operands: &Operands, kind: FaultKind, op: &str, at: &str) {
    let fault = fault(text, operands);
    let (line, column) = place(text, at);
    assert_eq!((fault.kind, fault.op.as_str(), fault.location.line), (kind, op, line), "{fault}");
    assert!(fault.location.column >= column, "{fault}");
    assert!(
        fault.to_string().contains(kind.name()) && fault.to_string().starts_with(&format!("{line}:")),
        "{fault}"
    );
}

#[test]
fn the_kernels_themselves_are_right() {
    let options = RunOptions::default();
    let sum = Emulator::new(PAGED_SUM).unwrap();
    let outcome = sum.run_all_policies(&paged_sum([3, 0, 7, 3]), &options).unwrap();
    let expected = |lane: usize| [3, 0, 7, 3].iter().map(|p| ((p * 1024 + lane) % 1013) as f32).sum::<f32>();
    assert!(outcome.outputs[0].to_f32().iter().enumerate().all(|(i, &x)| x == expected(i)));
    assert_eq!(outcome.report.count("pages"), 4);
    assert_eq!((outcome.report.dma_in.count, outcome.report.dma_in.bytes), (4, 4 * 4096));
    let matmul = Emulator::new(MATMUL_GRID).unwrap().run_all_policies(&matmul_grid(), &options).unwrap();
    assert!(matmul.outputs[0].to_f32().iter().all(|&x| x == 512.0));
    assert_eq!((matmul.report.count("tiles"), matmul.report.grid_steps), (12, 12));
    let copied = Emulator::new(WRITE_BACK).unwrap().run_all_policies(&write_back(), &options).unwrap();
    assert!(copied.outputs[0].as_slice::<i32>().unwrap().iter().enumerate().all(|(i, &x)| x == 2 * i as i32));
    assert_eq!(copied.report.dma_out.count, 2);
}

#[test]
fn a_page_number_beyond_the_pages() {
    let operands = paged_sum([1, 2, 8, 0]);
    expect(
        PAGED_SUM,
        &operands,
        FaultKind::OutOfBounds,
        "tpu.memref_slice",
        "tpu.memref_slice %pages[%page, ",
    );
    let negative = paged_sum([-1, 2, 3, 0]);
    expect(
        PAGED_SUM,
        &negative,
        FaultKind::OutOfBounds,
        "tpu.memref_slice",
        "tpu.memref_slice %pages[%page0, ",
    );
}

#[test]
fn a_table_read_past_its_end() {
    let text = seed(PAGED_SUM, "slt, %next, %count", "sle, %next, %count");
    expect(&text, &paged_sum([0; 4]), FaultKind::OutOfBounds, "memref.load", "memref.load %table[%at]");
}

#[test]
fn a_tile_loaded_from_beyond_the_buffer() {
    let text = seed(PAGED_SUM, "%row = arith.index_cast %slot", "%row = arith.index_cast %count");
    expect(&text, &paged_sum([0; 4]), FaultKind::OutOfBounds, "vector.load", "vector.load %buf");
}

#[test]
fn a_missing_wait() {
    let (line, _) = place(PAGED_SUM, "tpu.wait_dma2");
    let text: String = PAGED_SUM
        .lines()
        .enumerate()
        .filter(|(i, _)| *i as u32 + 1 != line)
        .map(|(_, l)| format!("{l}\n"))
        .collect();
    expect(&text, &paged_sum([0; 4]), FaultKind::Race, "vector.load", "vector.load %buf");
}

#[test]
fn a_prefetch_into_the_slot_in_use() {
    let text = seed(PAGED_SUM, "%buf[%other, %z, %z]", "%buf[%slot, %z, %z]");
    expect(&text, &paged_sum([0; 4]), FaultKind::Race, "tpu.enqueue_dma", "tpu.enqueue_dma source(%from :");
}

#[test]
fn a_wait_on_the_other_semaphore() {
    // The first iteration waits for the page that it has just asked for, and reads the one before.
    let text =
        seed(PAGED_SUM, "%sem2 = tpu.memref_slice %sem[%slot]", "%sem2 = tpu.memref_slice %sem[%other]");
    expect(&text, &paged_sum([0; 4]), FaultKind::Race, "vector.load", "vector.load %buf");
}

#[test]
fn one_semaphore_for_both_slots() {
    // With two copies under way, half of the bytes do not prove which of them has landed.
    let text = seed(PAGED_SUM, "%sem[%other]", "%sem[%z]").replace("%sem[%slot]", "%sem[%z]");
    expect(&text, &paged_sum([0; 4]), FaultKind::Race, "vector.load", "vector.load %buf");
}

#[test]
fn a_wait_that_never_ends() {
    let wait = PAGED_SUM.lines().find(|l| l.contains("tpu.wait_dma2")).unwrap();
    let text = seed(PAGED_SUM, wait, &format!("{wait}\n{wait}"));
    let fault = fault(&text, &paged_sum([0; 4]));
    let (line, _) = place(&text, wait);
    assert_eq!((fault.kind, fault.location.line), (FaultKind::Deadlock, line + 1), "{fault}");
}

#[test]
fn a_copy_that_nothing_waits_for() {
    let text =
        seed(PAGED_SUM, "%more = arith.cmpi slt, %next, %count", "%more = arith.cmpi sle, %next, %count");
    let text = seed(&text, "memref.load %table[%at]", "memref.load %table[%c0]");
    expect(
        &text,
        &paged_sum([0; 4]),
        FaultKind::DmaNotAwaited,
        "tpu.enqueue_dma",
        "tpu.enqueue_dma source(%from :",
    );
}

#[test]
fn a_wait_for_half_of_the_bytes() {
    let text = seed(WRITE_BACK, "src(%work : memref<16x128xi32", "src(%low : memref<8x128xi32");
    let text = seed(&text, "dst(%work : memref<16x128xi32", "dst(%low : memref<8x128xi32");
    expect(
        &text,
        &write_back(),
        FaultKind::Race,
        "tpu.vector_store",
        "tpu.vector_store %work[%c0, %c0], %zeros",
    );
    let quiet =
        seed(&text, "tpu.vector_store %work[%c0, %c0], %zeros", "tpu.vector_store %x[%c0, %c0], %zeros");
    expect(&quiet, &write_back(), FaultKind::DmaNotAwaited, "tpu.enqueue_dma", "tpu.enqueue_dma source(%low");
}

#[test]
fn a_store_to_the_source_of_a_copy() {
    let store = WRITE_BACK.lines().find(|l| l.contains("%zeros {")).unwrap();
    let constant = WRITE_BACK.lines().find(|l| l.contains("%zeros =")).unwrap();
    let wait = WRITE_BACK.lines().find(|l| l.contains("tpu.wait_dma2")).unwrap();
    let text = WRITE_BACK
        .replace(&format!("{wait}\n{constant}\n{store}\n"), &format!("{constant}\n{store}\n{wait}\n"));
    expect(
        &text,
        &write_back(),
        FaultKind::Race,
        "tpu.vector_store",
        "tpu.vector_store %work[%c0, %c0], %zeros",
    );
}

#[test]
fn two_copies_to_the_same_place() {
    let text = seed(WRITE_BACK, "%rows = tpu.assume_multiple %eight", "%rows = tpu.assume_multiple %z");
    expect(&text, &write_back(), FaultKind::Race, "tpu.enqueue_dma", "tpu.enqueue_dma source(%high");
}

#[test]
fn a_false_alignment_claim() {
    let text = seed(WRITE_BACK, "tpu.assume_multiple %eight, 8", "tpu.assume_multiple %eight, 16");
    expect(&text, &write_back(), FaultKind::FalseAssumption, "tpu.assume_multiple", "tpu.assume_multiple");
}

#[test]
fn counting_semaphores_that_do_not_balance() {
    let one = seed(
        WRITE_BACK,
        "%two = arith.constant 2 : i32",
        "%two = arith.constant 2 : i32\n    %one = arith.constant 1 : i32",
    );
    let left = seed(&one, "tpu.sem_wait %credit, %two", "tpu.sem_wait %credit, %one");
    expect(&left, &write_back(), FaultKind::UnbalancedSemaphore, "write_back", "@write_back(");
    let short = seed(&one, "tpu.sem_signal %credit, %two", "tpu.sem_signal %credit, %one");
    expect(&short, &write_back(), FaultKind::Deadlock, "tpu.sem_wait", "tpu.sem_wait");
}

#[test]
fn an_integer_that_nothing_wrote() {
    let text = seed(WRITE_BACK, "%a = vector.load %x[", "%a = vector.load %work[");
    expect(&text, &write_back(), FaultKind::UninitialisedInteger, "vector.load", "vector.load %work");
}

#[test]
fn an_output_read_before_it_is_written() {
    let store = PAGED_SUM.lines().find(|l| l.contains("%zero {")).unwrap();
    let text = seed(PAGED_SUM, store, "");
    expect(&text, &paged_sum([0; 4]), FaultKind::OutputReadBeforeWrite, "vector.load", "vector.load %o");
    // Survived, it shows as NaN in every result.
    let options = RunOptions::default().faults(FaultPolicy::Record);
    let outcome = Emulator::new(&text).unwrap().run_with(&paged_sum([0; 4]), &options).unwrap();
    assert_eq!(outcome.report.faults.len(), 1);
    assert!(outcome.outputs[0].to_f32().iter().all(|x| x.is_nan()));
}

#[test]
fn an_output_window_that_comes_back_empty() {
    // With the contracted dimension outermost each result block is left and revisited; its content is gone.
    let text = seed(MATMUL_GRID, "(%i: i32, %j: i32, %k: i32, %x:", "(%k: i32, %i: i32, %j: i32, %x:")
        .replace("(%i: i32, %j: i32, %k: i32) ->", "(%k: i32, %i: i32, %j: i32) ->");
    let text = seed(&text, "array<i64: 3, 2, 2>", "array<i64: 2, 3, 2>")
        .replace("#tpu.dimension_semantics<parallel>", "#tpu.dimension_semantics<arbitrary>");
    let text = text.replace("%acc[", "%o[");
    expect(&text, &matmul_grid(), FaultKind::OutputReadBeforeWrite, "vector.load", "vector.load %o");
}

#[test]
fn a_window_outside_the_array() {
    let text = seed(MATMUL_GRID, "return %i, %k : i32, i32", "return %k, %i : i32, i32");
    expect(&text, &matmul_grid(), FaultKind::OutOfBounds, "tx", "@tx(");
}

#[test]
fn division_by_zero() {
    let text = seed(
        MATMUL_GRID,
        "%fin = arith.cmpi eq, %k, %last",
        "%q = arith.divsi %last, %k : i32\n    %fin = arith.cmpi eq, %q, %last",
    );
    expect(&text, &matmul_grid(), FaultKind::DivisionByZero, "arith.divsi", "arith.divsi");
}

#[test]
fn state_carried_between_parallel_grid_steps() {
    // The accumulator is zeroed in the first step only.
    let text = seed(MATMUL_GRID, "arith.cmpi eq, %k, %z", "arith.cmpi eq, %s, %z");
    let text = seed(
        &text,
        "    %first =",
        "    %s0 = arith.addi %i, %j : i32\n    %s = arith.addi %s0, %k : i32\n    %first =",
    );
    let emulator = Emulator::new(&text).unwrap();
    let error = emulator.run_all_policies(&matmul_grid(), &RunOptions::default()).unwrap_err();
    let EmulatorError::Fault(fault) = error else { panic!("{error}") };
    assert_eq!((fault.kind, fault.op.as_str()), (FaultKind::NonDeterministic, "matmul_grid"), "{fault}");
    assert!(fault.message.contains("Reversed"), "{fault}");
}

#[test]
fn recorded_faults_are_listed_once_each() {
    let (line, _) = place(PAGED_SUM, "tpu.wait_dma2");
    let text: String = PAGED_SUM
        .lines()
        .enumerate()
        .filter(|(i, _)| *i as u32 + 1 != line)
        .map(|(_, l)| format!("{l}\n"))
        .collect();
    let options = RunOptions::default().faults(FaultPolicy::Record);
    let outcome = Emulator::new(&text).unwrap().run_with(&paged_sum([0; 4]), &options).unwrap();
    let kinds: Vec<FaultKind> = outcome.report.faults.iter().map(|f| f.kind).collect();
    assert!(kinds.contains(&FaultKind::Race) && kinds.contains(&FaultKind::DmaNotAwaited), "{kinds:?}");
    let mut places: Vec<_> = outcome.report.faults.iter().map(|f| (f.location, f.kind)).collect();
    let all = places.len();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), all);
}
