//! Texts that are wrong: every refusal names its place, and nothing panics.
#![cfg(feature = "emulator")]

use proptest::prelude::*;
use tpu_rpa::emulator::{AlignmentRule, Emulator, EmulatorError, Operands, RunOptions, Tensor};

const TEXTS: [&str; 4] = [
    include_str!("data/mosaic/paged_sum.mlir"),
    include_str!("data/mosaic/matmul_grid.mlir"),
    include_str!("data/mosaic/write_back.mlir"),
    include_str!("data/mosaic/masked_attention.mlir"),
];

const HEAD: &str = "func.func @k(%x: memref<8x128xf32, #tpu.memory_space<vmem>>, %s: memref<4xi32, #tpu.memory_space<smem>>, %q: memref<2x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>) attributes {scratch_operands = 2 : i64, tpu.core_type = #tpu.core_type<tc>} {
%c0 = arith.constant 0 : index
%z = arith.constant 0 : i32
%v = vector.load %x[%c0, %c0] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<8x128xf32>
";

/// The refusal of a kernel whose body has one more op, on line 5.
fn refusal(op: &str) -> EmulatorError {
    match Emulator::new(&format!("{HEAD}{op}\nreturn\n}}")) {
        Err(error) => error,
        Ok(_) => panic!("accepted: {op}"),
    }
}

#[test]
fn refusals_name_place_op_and_rule() {
    let cases = [
        ("%y = math.fma %v, %v, %v : vector<8x128xf32>", "5:6", "unknown op 'math.fma'"),
        ("\"tpu.matmul_pop\"() : () -> ()", "5:1", "unknown op 'tpu.matmul_pop'"),
        ("%y = arith.addf %v, %w : vector<8x128xf32>", "5:21", "%w is not defined here"),
        (
            "%y = arith.addf %v, %v : vector<8x64xf32>",
            "5:17",
            "%v is vector<8x128xf32>, not vector<8x64xf32>",
        ),
        (
            "%y = arith.addi %v, %v : vector<8x128xf32>",
            "5:6",
            "does not take operands of type vector<8x128xf32>",
        ),
        ("%v = arith.addf %v, %v : vector<8x128xf32>", "5:1", "is already defined"),
        ("%y = arith.cmpi fine, %z, %z : i32", "5:6", "needs a predicate of eq"),
        ("%y = arith.constant dense<[1.0, 2.0]> : vector<3xf32>", "5:6", "no constant of type vector<3xf32>"),
        ("%y = arith.constant 1.5 : i32", "5:6", "no constant of type i32"),
        (
            "%y = vector.load %x[%c0] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<8x128xf32>",
            "5:6",
            "needs 2 indices",
        ),
        (
            "%y = vector.load %x[%z, %c0] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<8x128xf32>",
            "5:6",
            "expected type index, found i32",
        ),
        (
            "%y = vector.load %s[%c0] : memref<4xi32, #tpu.memory_space<smem>>, vector<4xi32>",
            "5:6",
            "vectors live in vmem, not smem",
        ),
        (
            "%y = memref.load %x[%c0, %c0] : memref<8x128xf32, #tpu.memory_space<vmem>>",
            "5:6",
            "scalars live in smem, not vmem",
        ),
        ("%y = vector.shape_cast %v : vector<8x128xf32> to vector<8x64xf32>", "5:6", "does not reshape"),
        ("%y = vector.broadcast %v : vector<8x128xf32> to vector<16x128xf32>", "5:6", "does not stretch"),
        (
            "%y = vector.extract_strided_slice %v offsets = [4, 0], sizes = [8, 128], strides = [1, 1] : vector<8x128xf32> to vector<8x128xf32>",
            "5:6",
            "is outside",
        ),
        (
            "%y = tpu.matmul %v, %v, %v : vector<8x128xf32>, vector<8x128xf32>, vector<8x128xf32> -> vector<8x128xf32>",
            "5:6",
            "transpose_lhs_hint",
        ),
        (
            "%y = tpu.matmul %v, %v, %v {transpose_lhs_hint = false} : vector<8x128xf32>, vector<8x128xf32>, vector<8x128xf32> -> vector<8x128xf32>",
            "5:6",
            "do not fit",
        ),
        ("%y = tpu.transpose %v, [0, 0] : vector<8x128xf32> -> vector<8x8xf32>", "5:6", "no permutation"),
        (
            "%y = tpu.concatenate %v, %v in 0 : vector<8x128xf32>, vector<8x128xf32> -> vector<8x256xf32>",
            "5:6",
            "no part of",
        ),
        (
            "%y = vector.multi_reduction <add>, %v, %v [0] : vector<8x128xf32> to vector<8x128xf32>",
            "5:6",
            "expected type vector<128xf32>",
        ),
        (
            "%y = tpu.memref_squeeze %x : memref<8x128xf32, #tpu.memory_space<vmem>> -> memref<128xf32, #tpu.memory_space<vmem>>",
            "5:6",
            "does not squeeze",
        ),
        (
            "%y = tpu.memref_slice %x[%z] : memref<8x128xf32, #tpu.memory_space<vmem>> -> memref<8x128xf32, #tpu.memory_space<vmem>>",
            "5:6",
            "do not slice",
        ),
        (
            "tpu.wait_dma2 semaphore(%q : memref<2x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>) src(%x : memref<8x128xf32, #tpu.memory_space<vmem>>) dst(%x : memref<8x128xf32, #tpu.memory_space<vmem>>)",
            "5:1",
            "expected type memref<!tpu.dma_semaphore",
        ),
        ("scf.yield %z : i32", "5:1", "does not end this kind of block"),
        ("scf.for %i = %z to %z step %c0 : i32 { }", "5:28", "%c0 is index, not i32"),
        (
            "%m = arith.cmpf oeq, %v, %v : vector<8x128xf32>\n%y = scf.for %i = %z to %z step %z iter_args(%a = %m) -> (vector<8x128xi1>) : i32 { scf.yield %a : vector<8x128xi1> }",
            "6:6",
            "cannot be carried",
        ),
        ("%y = scf.if %z -> (i32) { scf.yield %z : i32 }", "5:13", "%z is i32, not i1"),
        ("func.call @nobody() : () -> ()", "5:1", "there is no function @nobody"),
        (
            "func.call @k(%x, %s, %q) : (memref<8x128xf32, #tpu.memory_space<vmem>>, memref<4xi32, #tpu.memory_space<smem>>, memref<2x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>) -> ()",
            "5:1",
            "calls nest deeper",
        ),
        ("%y = arith.constant 0 : i64", "5:25", "unsupported type 'i64'"),
        ("%y = arith.constant dense<0> : vector<4096x8192xi32>", "5:32", "more than 16777216 lanes"),
        ("%y = arith.addf %v, %v", "6:1", "expected ':', found 'return'"),
        ("%y = arith.constant \"text", "5:21", "unterminated string"),
        ("%y = arith.addf %v %v : vector<8x128xf32>", "5:20", "expected ',', found '%v'"),
        ("// count: two words", "5:1", "count comment"),
        ("// count: orphan", "5:1", "no op starts on the line"),
    ];
    for (op, place, words) in cases {
        let error = refusal(op);
        let message = error.to_string();
        assert!(message.contains(words), "{op}\n  {message}\n  lacks '{words}'");
        assert!(message.starts_with(&format!("{place}: ")), "{op}\n  {message}\n  is not at {place}");
        assert_eq!(error.location().map(|l| l.to_string()).as_deref(), Some(place));
    }
}

#[test]
fn the_entry_function_must_keep_its_contract() {
    let matmul = TEXTS[1];
    let cases = [
        ("tpu.core_type = #tpu.core_type<tc>, ", "", "no function with tpu.core_type"),
        ("iteration_bounds = array<i64: 3, 2, 2>, ", "", "must be a memref, not i32"),
        ("array<i64: 3, 2, 2>", "array<i64: 3, 2>", "differ in length"),
        ("dimension_semantics = [", "semantics = [", "dimension_semantics is required"),
        ("window_params = [", "windows = [", "window_params is required"),
        ("scratch_operands = 1", "scratch_operands = 0", "3 window_params for 4 inputs and outputs"),
        ("scratch_operands = 1", "scratch_operands = 9", "7 arguments are fewer than"),
        (
            "@tx, window_bounds = array<i64: 16, 128>",
            "@tx, window_bounds = array<i64: 16, 64>",
            "are not the shape of %x",
        ),
        ("transform_indices = @tx", "transform_indices = @nobody", "there is no transform function @nobody"),
        (
            "@tx(%i: i32, %j: i32, %k: i32) -> (i32, i32)",
            "@tx(%i: i32, %k: i32) -> (i32, i32)",
            "must take the 3 grid indices",
        ),
        (
            "@tx(%i: i32, %j: i32, %k: i32) -> (i32, i32)",
            "@tx(%i: i32, %j: i32, %k: i32) -> (i32)",
            "must return 2 block indices",
        ),
        (
            "{transform_indices = @tx,",
            "{padding = 3 : i64, transform_indices = @tx,",
            "unknown parameter 'padding'",
        ),
        ("return %i, %k : i32, i32", "return %i : i32", "takes 2 operands, not 1"),
    ];
    for (from, to, words) in cases {
        assert!(matmul.contains(from), "{from}");
        let error = Emulator::new(&matmul.replacen(from, to, 1)).unwrap_err();
        assert!(error.to_string().contains(words), "{to}: {error}");
    }
}

#[test]
fn alignment_rules_are_named() {
    let body = "%i = memref.load %s[%c0] : memref<4xi32, #tpu.memory_space<smem>>
%n = arith.index_cast %i : i32 to index
%row = vector.load %x[%n, %c0] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<1x128xf32>
%two = vector.load %x[%n, %c0] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<2x128xf32>
vector.store %two, %x[%c0, %n] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<2x128xf32>
%e = arith.constant 8 : i32
%i8 = arith.muli %i, %e : i32
%n8 = arith.index_cast %i8 : i32 to index
%fine = vector.load %x[%n8, %c0] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<2x128xf32>
vector.store %fine, %x[%c0, %c0] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<2x128xf32>
vector.store %row, %x[%c0, %c0] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<1x128xf32>
%part = tpu.memref_slice %x[%i, %z] : memref<8x128xf32, #tpu.memory_space<vmem>> -> memref<4x128xf32, #tpu.memory_space<vmem>>
vector.store %two, %part[%c0, %c0] : memref<4x128xf32, #tpu.memory_space<vmem>>, vector<2x128xf32>
return
}";
    let emulator = Emulator::new(&format!("{HEAD}{body}")).unwrap();
    let found: Vec<(u32, AlignmentRule)> =
        emulator.check_alignment().iter().map(|f| (f.location.line, f.rule)).collect();
    let expected = [
        (8, AlignmentRule::DynamicSublane),
        (9, AlignmentRule::DynamicLane),
        (16, AlignmentRule::SliceOffset),
        (16, AlignmentRule::SliceSize),
    ];
    assert_eq!(found, expected);
    assert!(emulator.check_alignment()[0].to_string().contains("provable multiple of 8"));
    assert!(TEXTS.iter().all(|t| Emulator::new(t).unwrap().check_alignment().is_empty()));
}

/// Compiles and, if that succeeds, runs for a few steps. Any error is fine.
fn survive(text: &str) {
    let Ok(emulator) = Emulator::new(text) else { return };
    let options = RunOptions::default().max_steps(500);
    let pages = Operands::new()
        .input(Tensor::new(&[1], vec![4]).unwrap())
        .input(Tensor::new(&[4], vec![1, 2, 3, 4]).unwrap())
        .input(Tensor::full(&[8, 8, 128], 1f32).unwrap())
        .output(tpu_rpa::emulator::ElementType::F32, &[8, 128]);
    let matmul = Operands::new()
        .input(Tensor::bf16_from_f32(&[48, 256], &vec![1.0; 48 * 256]).unwrap())
        .input(Tensor::bf16_from_f32(&[256, 256], &vec![2.0; 256 * 256]).unwrap())
        .output(tpu_rpa::emulator::ElementType::F32, &[48, 256]);
    let copies = Operands::new()
        .input(Tensor::full(&[16, 128], 7i32).unwrap())
        .output(tpu_rpa::emulator::ElementType::I32, &[16, 128]);
    let attention = Operands::new()
        .input(Tensor::new(&[1], vec![20]).unwrap())
        .input(Tensor::full(&[8, 128], 9i32).unwrap())
        .input(Tensor::bf16_from_f32(&[128, 128], &vec![0.5; 128 * 128]).unwrap())
        .input(Tensor::bf16_from_f32(&[2, 32, 128], &vec![0.5; 2 * 32 * 128]).unwrap())
        .output(tpu_rpa::emulator::ElementType::F32, &[128, 128]);
    for operands in [pages, matmul, copies, attention] {
        let _ = emulator.run_with(&operands, &options);
    }
}

#[test]
fn an_emulator_may_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Emulator>();
}

#[test]
fn no_prefix_panics() {
    for text in TEXTS {
        for end in (0..text.len()).filter(|&i| text.is_char_boundary(i)).step_by(7) {
            survive(&text[..end]);
        }
    }
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a = ", "}"), ("dense<[", "]>")] {
        let text = format!("#a = {}1{}", open.repeat(5000), close.repeat(5000));
        assert!(matches!(Emulator::new(&text), Err(EmulatorError::Parse { .. })));
    }
    let loops = "scf.if %b {".repeat(5000);
    assert!(Emulator::new(&format!("func.func @k() {{ {loops}")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Words of a kernel text replaced by, swapped with or joined to other words of it.
    #[test]
    fn no_mutation_panics(which in 0usize..4, edits in prop::collection::vec((any::<u32>(), any::<u32>(), 0u8..7), 1..4)) {
        let text = TEXTS[which];
        let mut words: Vec<&str> = text.split_inclusive(|c: char| " ,<>()[]x:".contains(c)).collect();
        for (a, b, kind) in edits {
            let (a, b) = (a as usize % words.len(), b as usize % words.len());
            match kind {
                0 => words.swap(a, b),
                1 => words[a] = words[b],
                2 => { words.remove(a); }
                3 => words.insert(a, words[b]),
                // Another value, or another number: often still a valid text, which then runs.
                4 | 5 => {
                    let sigil = |w: &&str| if kind == 4 { w.starts_with('%') } else { w.starts_with(|c: char| c.is_ascii_digit()) };
                    let places: Vec<usize> = (0..words.len()).filter(|&i| sigil(&words[i])).collect();
                    if let [_, ..] = places[..] {
                        words[places[a % places.len()]] = words[places[b % places.len()]];
                    }
                }
                _ => words[a] = ["-1 ", "0 ", "9999999999999999999 ", "%", "x", "i1 ", "1.0 ", "é "][b % 8],
            }
        }
        survive(&words.concat());
    }
}
