//! What single ops compute, and how the grid moves windows: small kernels with results worked out by hand.
#![cfg(feature = "emulator")]

use tpu_rpa::emulator::{
    ElementType, Emulator, EmulatorError, Location, Operands, ReductionOrder, RunOptions, Tensor,
};

const VMEM: &str = "#tpu.memory_space<vmem>";

/// A kernel without a grid over whole arrays in VMEM. In the body `{V}` stands for the memory space; `%c0`, `%c1`
/// and `%z` are index 0, index 1 and i32 0.
fn kernel(arguments: &str, body: &str) -> Emulator {
    let text = format!(
        "func.func @k({arguments}) attributes {{tpu.core_type = #tpu.core_type<tc>}} {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %z = arith.constant 0 : i32
{body}
  return
}}"
    );
    Emulator::new(&text.replace("{V}", VMEM)).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Applies `%y = ..` to `%x`, vectors of the given types.
fn apply(body: &str, from: (&str, Tensor), to: (&str, ElementType, &[usize])) -> Tensor {
    let (x, y) = (from.0, to.0);
    let zeros = |rank: usize| vec!["%c0"; rank].join(", ");
    let (xi, yi) = (zeros(from.1.shape().len()), zeros(to.2.len()));
    let body = format!(
        "  %x = vector.load %in[{xi}] : memref<{x}, {{V}}>, vector<{x}>
{body}
  tpu.vector_store %out[{yi}], %y {{strides = array<i32>}} : memref<{y}, {{V}}>, vector<{y}>,"
    );
    let emulator = kernel(&format!("%in: memref<{x}, {{V}}>, %out: memref<{y}, {{V}}>"), &body);
    let operands = Operands::new().input(from.1).output(to.1, to.2);
    emulator.run(&operands).unwrap_or_else(|e| panic!("{e}")).outputs.remove(0)
}

fn f32s(shape: &[usize], data: Vec<f32>) -> Tensor {
    Tensor::new(shape, data).unwrap()
}

fn count(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

#[test]
fn bf16_results_round_to_nearest_even() {
    // Around 256 neighbours are 2 apart: 257 and 259 are ties.
    let x = Tensor::bf16_from_f32(&[1, 4], &[256.0, 258.0, -256.0, 1.0]).unwrap();
    let body = "  %one = arith.constant dense<1.0> : vector<1x4xbf16>\n  %y = arith.addf %x, %one : vector<1x4xbf16>";
    let y = apply(body, ("1x4xbf16", x), ("1x4xbf16", ElementType::Bf16, &[1, 4]));
    assert_eq!(y.to_f32(), [256.0, 260.0, -255.0, 2.0]);
    let wide = f32s(&[1, 3], vec![257.0, 259.0, f32::from_bits(0x7F80_0001)]);
    let y = apply(
        "  %y = arith.truncf %x : vector<1x3xf32> to vector<1x3xbf16>",
        ("1x3xf32", wide),
        ("1x3xbf16", ElementType::Bf16, &[1, 3]),
    );
    assert_eq!(y.to_f32()[..2], [256.0, 260.0]);
    assert!(y.to_f32()[2].is_nan(), "a NaN must not round to infinity");
}

#[test]
fn maximum_propagates_nan_and_maxnum_does_not() {
    let x = f32s(&[1, 3], vec![f32::NAN, 1.0, -0.0]);
    for (op, nan) in [("maximumf", true), ("maxnumf", false), ("minimumf", true), ("minnumf", false)] {
        let body = format!(
            "  %o = arith.constant dense<0.0> : vector<1x3xf32>\n  %y = arith.{op} %x, %o : vector<1x3xf32>"
        );
        let y = apply(&body, ("1x3xf32", x.clone()), ("1x3xf32", ElementType::F32, &[1, 3])).to_f32();
        assert_eq!(y[0].is_nan(), nan, "{op}");
    }
    let body =
        "  %o = arith.constant dense<0.0> : vector<1x3xf32>\n  %y = arith.maximumf %x, %o : vector<1x3xf32>";
    let y = apply(body, ("1x3xf32", x), ("1x3xf32", ElementType::F32, &[1, 3])).to_f32();
    assert_eq!(y[2].to_bits(), 0f32.to_bits(), "the larger of both zeros is +0");
}

#[test]
fn float_comparisons_by_order() {
    let x = f32s(&[1, 3], vec![f32::NAN, 1.0, 2.0]);
    for (predicate, expected) in
        [("oeq", [0, 1, 0]), ("une", [1, 0, 1]), ("one", [0, 0, 1]), ("ugt", [1, 0, 1]), ("uno", [1, 0, 0])]
    {
        let body = format!(
            "  %o = arith.constant dense<1.0> : vector<1x3xf32>
  %m = arith.cmpf {predicate}, %x, %o : vector<1x3xf32>
  %y = arith.extui %m : vector<1x3xi1> to vector<1x3xi32>"
        );
        let y = apply(&body, ("1x3xf32", x.clone()), ("1x3xi32", ElementType::I32, &[1, 3]));
        assert_eq!(y.as_slice::<i32>().unwrap(), expected, "{predicate}");
    }
}

#[test]
fn slices_joins_and_transposition() {
    let x = f32s(&[2, 4], count(8));
    let body = "  %a = vector.extract_strided_slice %x offsets = [0, 2], sizes = [2, 2], strides = [1, 1] : vector<2x4xf32> to vector<2x2xf32>
  %b = vector.extract_strided_slice %x {offsets = [0, 0], sizes = [2, 2], strides = [1, 1]} : vector<2x4xf32> to vector<2x2xf32>
  %c = tpu.concatenate %a, %b in 0 : vector<2x2xf32>, vector<2x2xf32> -> vector<4x2xf32>
  %y = tpu.transpose %c, [1, 0] : vector<4x2xf32> -> vector<2x4xf32>";
    let y = apply(body, ("2x4xf32", x.clone()), ("2x4xf32", ElementType::F32, &[2, 4]));
    assert_eq!(y.to_f32(), [2.0, 6.0, 0.0, 4.0, 3.0, 7.0, 1.0, 5.0]);
    let body = "  %s = vector.extract_strided_slice %x offsets = [1, 0], sizes = [1, 2], strides = [1, 1] : vector<2x4xf32> to vector<1x2xf32>
  %y = vector.insert_strided_slice %s, %x {offsets = [0, 1], strides = [1, 1]} : vector<1x2xf32> into vector<2x4xf32>";
    let y = apply(body, ("2x4xf32", x.clone()), ("2x4xf32", ElementType::F32, &[2, 4]));
    assert_eq!(y.to_f32(), [0.0, 4.0, 5.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let body = "  %r = tpu.rotate %x by 1 dim 1 : vector<2x4xf32> -> vector<2x4xf32>\n  %y = tpu.repeat %r, 0 x 2 : vector<2x4xf32> -> vector<4x4xf32>";
    let y = apply(body, ("2x4xf32", x), ("4x4xf32", ElementType::F32, &[4, 4])).to_f32();
    assert_eq!(y[..8], [3.0, 0.0, 1.0, 2.0, 7.0, 4.0, 5.0, 6.0]);
    assert_eq!(y[..8], y[8..]);
}

#[test]
fn reductions_over_any_dimensions_and_to_a_scalar() {
    let x = f32s(&[2, 3, 4], count(24));
    let body = "  %i = arith.constant dense<100.0> : vector<3xf32>
  %r = vector.multi_reduction <add>, %x, %i [0, 2] : vector<2x3x4xf32> to vector<3xf32>
  %y = vector.shape_cast %r : vector<3xf32> to vector<1x3xf32>";
    let y = apply(body, ("2x3x4xf32", x.clone()), ("1x3xf32", ElementType::F32, &[1, 3]));
    assert_eq!(y.to_f32(), [160.0, 192.0, 224.0]);
    let body = "  %i = arith.constant 0.5 : f32
  %s = vector.multi_reduction <maximumf>, %x, %i [0, 1, 2] : vector<2x3x4xf32> to f32
  %y = vector.broadcast %s : f32 to vector<1x2xf32>";
    assert_eq!(apply(body, ("2x3x4xf32", x), ("1x2xf32", ElementType::F32, &[1, 2])).to_f32(), [23.0, 23.0]);
}

#[test]
fn the_order_of_sums_is_the_one_asked_for() {
    // Ones vanish beside 2^24 one at a time, but not in pairs.
    let big = (1u32 << 24) as f32;
    let x = f32s(&[4, 1], vec![big, 1.0, 1.0, 1.0]);
    let e = kernel(
        "%in: memref<4x1xf32, {V}>, %out: memref<1x1xf32, {V}>, %prod: memref<1x1xf32, {V}>",
        "  %x = vector.load %in[%c0, %c0] : memref<4x1xf32, {V}>, vector<4x1xf32>
  %i = arith.constant dense<0.0> : vector<1xf32>
  %r = vector.multi_reduction <add>, %x, %i [0] : vector<4x1xf32> to vector<1xf32>
  %y = vector.shape_cast %r : vector<1xf32> to vector<1x1xf32>
  vector.store %y, %out[%c0, %c0] : memref<1x1xf32, {V}>, vector<1x1xf32>
  %ones = arith.constant dense<1.0> : vector<4x1xf32>
  %acc = arith.constant dense<0.0> : vector<1x1xf32>
  %p = tpu.matmul %x, %ones, %acc {dimension_numbers = #tpu.dot_dimension_numbers<[0], [0], [1], [1], [0, 1, 1, 1], [], []>, transpose_lhs_hint = false} : vector<4x1xf32>, vector<4x1xf32>, vector<1x1xf32> -> vector<1x1xf32>
  vector.store %p, %prod[%c0, %c0] : memref<1x1xf32, {V}>, vector<1x1xf32>",
    );
    let operands =
        Operands::new().input(x).output(ElementType::F32, &[1, 1]).output(ElementType::F32, &[1, 1]);
    for (order, expected) in [(ReductionOrder::Sequential, big), (ReductionOrder::BalancedTree, big + 2.0)] {
        let outcome = e.run_with(&operands, &RunOptions::default().sums(order)).unwrap();
        assert_eq!(
            (outcome.outputs[0].to_f32(), outcome.outputs[1].to_f32()),
            (vec![expected], vec![expected]),
            "{order:?}"
        );
    }
}

#[test]
fn masked_and_strided_stores_leave_the_rest_alone() {
    let e = kernel(
        "%in: memref<2x4xf32, {V}>, %out: memref<4x4xf32, {V}>",
        "  %x = vector.load %in[%c0, %c0] : memref<2x4xf32, {V}>, vector<2x4xf32>
  %nine = arith.constant dense<9.0> : vector<4x4xf32>
  tpu.vector_store %out[%c0, %c0], %nine {strides = array<i32>} : memref<4x4xf32, {V}>, vector<4x4xf32>,
  %i = tpu.iota {dimensions = array<i32: 1>} : vector<2x4xi32>
  %two = arith.constant dense<2> : vector<2x4xi32>
  %m = arith.cmpi slt, %i, %two : vector<2x4xi32>
  tpu.vector_store %out[%c0, %c0], %x masked %m {strides = array<i32>} : memref<4x4xf32, {V}>, vector<2x4xf32>, vector<2x4xi1>
  tpu.strided_store %out[%c1, %c0], %x {strides = array<i32: 2, 1>} : memref<4x4xf32, {V}>, vector<2x4xf32>",
    );
    let operands = Operands::new().input(f32s(&[2, 4], count(8))).output(ElementType::F32, &[4, 4]);
    let y = e.run(&operands).unwrap().outputs[0].to_f32();
    assert_eq!(y, [0.0, 1.0, 9.0, 9.0, 0.0, 1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 9.0, 4.0, 5.0, 6.0, 7.0]);
}

#[test]
fn views_reshape_and_reinterpret() {
    let e = kernel(
        "%in: memref<2x2x2xbf16, {V}>, %out: memref<2x2xi32, {V}>",
        "  %flat = tpu.memref_reshape %in : memref<2x2x2xbf16, {V}> -> memref<4x2xbf16, {V}>
  %words = tpu.memref_bitcast %flat : memref<4x2xbf16, {V}> -> memref<2x2xi32, {V}>
  %w = vector.load %words[%c0, %c0] : memref<2x2xi32, {V}>, vector<2x2xi32>
  vector.store %w, %out[%c0, %c0] : memref<2x2xi32, {V}>, vector<2x2xi32>",
    );
    let x = Tensor::bf16_from_f32(&[2, 2, 2], &[1.0, 2.0, 1.0, 0.0, 0.0, 0.0, 2.0, 2.0]).unwrap();
    let outcome = e.run(&Operands::new().input(x).output(ElementType::I32, &[2, 2])).unwrap();
    // Rows 0 and 1 share a word, row 0 in the low half: 1.0 is 0x3F80, 2.0 is 0x4000.
    assert_eq!(
        outcome.outputs[0].as_slice::<i32>().unwrap(),
        [0x3F80_3F80, 0x0000_4000, 0x4000_0000, 0x4000_0000]
    );
}

#[test]
fn generic_forms_calls_and_trace_regions() {
    let text = r#"
#map = affine_map<(d0) -> (d0)>
module attributes {stable_mosaic.version = 11 : i64} {
  func.func @k(%in: memref<1x4xf32, #tpu.memory_space<vmem>>, %out: memref<1x4xf32, #tpu.memory_space<vmem>>) attributes {tpu.core_type = #tpu.core_type<tc>} {
    %c0 = "arith.constant"() <{value = 0 : index}> : () -> index
    %x = "vector.load"(%in, %c0, %c0) : (memref<1x4xf32, #tpu.memory_space<vmem>>, index, index) -> vector<1x4xf32>
    "tpu.trace_start"() <{level = 10 : i32, message = "twice"}> : () -> ()
    %y = func.call @double(%x) : (vector<1x4xf32>) -> vector<1x4xf32>
    %w = func.call @double(%y) : (vector<1x4xf32>) -> vector<1x4xf32>
    "tpu.trace_stop"() : () -> ()
    "tpu.vector_store"(%w, %out, %c0, %c0) <{strides = array<i32>, operandSegmentSizes = array<i32: 1, 1, 2, 0>}> : (vector<1x4xf32>, memref<1x4xf32, #tpu.memory_space<vmem>>, index, index) -> ()
    "func.return"() : () -> ()
  }
  func.func private @double(%v: vector<1x4xf32>) -> vector<1x4xf32> {
    %d = "arith.addf"(%v, %v) <{fastmath = #arith.fastmath<none>}> : (vector<1x4xf32>, vector<1x4xf32>) -> vector<1x4xf32>
    return %d : vector<1x4xf32>
  }
}"#;
    let operands = Operands::new().input(f32s(&[1, 4], count(4))).output(ElementType::F32, &[1, 4]);
    let outcome = Emulator::new(text).unwrap().run(&operands).unwrap();
    assert_eq!(outcome.outputs[0].to_f32(), [0.0, 4.0, 8.0, 12.0]);
    assert_eq!((outcome.report.count("twice"), outcome.report.ops["arith.addf"]), (1, 2));
}

#[test]
fn loops_carry_values_and_are_counted() {
    let e = kernel(
        "%in: memref<1x2xf32, {V}>, %out: memref<1x2xf32, {V}>",
        "  %x = vector.load %in[%c0, %c0] : memref<1x2xf32, {V}>, vector<1x2xf32>
  %n = arith.constant 5 : i32
  %one = arith.constant 1 : i32
  %r:2 = scf.for %i = %z to %n step %one iter_args(%a = %x, %b = %x) -> (vector<1x2xf32>, vector<1x2xf32>) : i32 {
    %s = arith.addf %a, %b : vector<1x2xf32> // count: steps
    scf.yield %b, %s : vector<1x2xf32>, vector<1x2xf32>
  }
  %w = scf.while (%k = %n) : (i32) -> i32 {
    %c = arith.cmpi sgt, %k, %one : i32
    scf.condition(%c) %k : i32
  } do {
  ^bb0(%k: i32):
    %l = arith.subi %k, %one : i32
    scf.yield %l : i32
  }
  %q = arith.cmpi eq, %w, %one : i32
  %y = scf.if %q -> (vector<1x2xf32>) {
    scf.yield %r#1 : vector<1x2xf32>
  } else {
    scf.yield %x : vector<1x2xf32>
  }
  vector.store %y, %out[%c0, %c0] : memref<1x2xf32, {V}>, vector<1x2xf32>",
    );
    let outcome = e
        .run(&Operands::new().input(f32s(&[1, 2], vec![1.0, 10.0])).output(ElementType::F32, &[1, 2]))
        .unwrap();
    assert_eq!(outcome.outputs[0].to_f32(), [13.0, 130.0]);
    assert_eq!(outcome.report.count("steps"), 5);
    let trips: Vec<(u32, u64, u64)> =
        outcome.report.loops.iter().map(|(at, l)| (at.line, l.entries, l.trips)).collect();
    assert_eq!(trips, [(8, 1, 5), (12, 1, 4)]);
    let few = e.run_with(
        &Operands::new().input(f32s(&[1, 2], vec![0.0; 2])).output(ElementType::F32, &[1, 2]),
        &RunOptions::default().max_steps(6),
    );
    assert!(
        matches!(few, Err(EmulatorError::StepLimit { steps: 6, location: Location { line: 9, .. }, .. })),
        "{few:?}"
    );
}

/// A kernel that adds its grid index to 8-row blocks.
fn blocks(bound: &str) -> Emulator {
    let text = format!(
        "func.func @k(%i: i32, %x: memref<8x128xf32, {VMEM}>, %o: memref<8x128xf32, {VMEM}>) attributes {{dimension_semantics = [#tpu.dimension_semantics<parallel>], iteration_bounds = array<i64: {bound}>, tpu.core_type = #tpu.core_type<tc>, window_params = [{{transform_indices = @t, window_bounds = array<i64: 8, 128>}}, {{transform_indices = @t, window_bounds = array<i64: 8, 128>}}]}} {{
  %c0 = arith.constant 0 : index
  %x0 = vector.load %x[%c0, %c0] : memref<8x128xf32, {VMEM}>, vector<8x128xf32>
  %f = arith.sitofp %i : i32 to f32
  %b = vector.broadcast %f : f32 to vector<8x128xf32>
  %y = arith.addf %x0, %b : vector<8x128xf32>
  tpu.vector_store %o[%c0, %c0], %y {{strides = array<i32>}} : memref<8x128xf32, {VMEM}>, vector<8x128xf32>,
  return
}}
func.func @t(%i: i32) -> (i32, i32) {{
  %z = arith.constant 0 : i32
  return %i, %z : i32, i32
}}"
    );
    Emulator::new(&text).unwrap()
}

#[test]
fn edge_blocks_write_back_only_what_exists() {
    let x = f32s(&[20, 128], vec![1.0; 20 * 128]);
    let operands = Operands::new().input(x).output(ElementType::F32, &[20, 128]);
    let outcome = blocks("3").run_all_policies(&operands, &RunOptions::default()).unwrap();
    assert!(outcome.outputs[0].to_f32().iter().enumerate().all(|(i, &y)| y == 1.0 + (i / 1024) as f32));
    assert_eq!(outcome.report.window_out.bytes, 20 * 512);
    assert_eq!(outcome.report.unwritten, [0]);
}

#[test]
fn what_no_step_writes_stays_nan() {
    let operands =
        Operands::new().input(f32s(&[24, 128], vec![1.0; 24 * 128])).output(ElementType::F32, &[24, 128]);
    let outcome = blocks("2").run(&operands).unwrap();
    assert!(outcome.outputs[0].to_f32()[2048..].iter().all(|y| y.is_nan()));
    assert_eq!(outcome.report.unwritten, [1024]);
}

#[test]
fn a_dynamic_grid_takes_its_bound_from_the_call() {
    let e = blocks("-9223372036854775808");
    let operands =
        Operands::new().input(f32s(&[24, 128], vec![1.0; 24 * 128])).output(ElementType::F32, &[24, 128]);
    assert_eq!(e.run(&operands.clone().dynamic_grid(&[3])).unwrap().report.grid_steps, 3);
    assert!(matches!(e.run(&operands), Err(EmulatorError::Operands { .. })));
}

#[test]
fn an_aliased_result_starts_with_its_input() {
    let operands =
        Operands::new().input(f32s(&[24, 128], vec![1.0; 24 * 128])).output(ElementType::F32, &[24, 128]);
    let outcome = blocks("2").run(&operands.alias(0, 0)).unwrap();
    let y = outcome.outputs[0].to_f32();
    assert!(
        y[..1024].iter().all(|&y| y == 1.0)
            && y[1024..2048].iter().all(|&y| y == 2.0)
            && y[2048..].iter().all(|&y| y == 1.0)
    );
}

#[test]
fn operands_must_fit_the_signature() {
    let e = blocks("2");
    let x = f32s(&[16, 128], vec![1.0; 2048]);
    let y = (ElementType::F32, [16usize, 128]);
    let wrong = [
        Operands::new().input(x.clone()),
        Operands::new().input(x.clone()).output(ElementType::Bf16, &y.1),
        Operands::new().input(f32s(&[2048], vec![1.0; 2048])).output(y.0, &y.1),
        Operands::new().input(x.clone()).output(y.0, &y.1).alias(1, 0),
        Operands::new().input(x.clone()).output(y.0, &y.1).alias(0, 3),
        Operands::new().input(x.clone()).output(y.0, &[usize::MAX, 128]),
        Operands::new().input(x).output(y.0, &y.1).dynamic_grid(&[2]),
    ];
    for operands in wrong {
        let error = e.run(&operands).unwrap_err();
        assert!(matches!(error, EmulatorError::Operands { .. }), "{error}");
    }
}

#[test]
fn declared_memory_is_counted() {
    let memory = blocks("2").memory();
    assert_eq!(
        (memory.vmem(), memory.vmem_windows, memory.smem, memory.semaphores),
        (4 * 4096, 4 * 4096, 0, 0)
    );
}

/// Deterministic numbers between -1 and 1.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

#[test]
fn a_masked_attention_tile_equals_a_direct_softmax() {
    let emulator = Emulator::new(include_str!("data/mosaic/masked_attention.mlir")).unwrap();
    let (limit, rows) = (20, 128);
    let sees = |row: usize| row % 25;
    let mut meta = vec![0i32; 8 * 128];
    (0..rows).for_each(|r| meta[r] = sees(r) as i32);
    let q = Tensor::bf16_from_f32(&[rows, 128], &noise(rows * 128, 1)).unwrap();
    let mut garbage = noise(2 * 32 * 128, 2);
    for at in [limit * 128..32 * 128, (32 + limit) * 128..64 * 128] {
        garbage[at].iter_mut().enumerate().for_each(|(i, x)| *x = [f32::NAN, f32::INFINITY, 1e30][i % 3]);
    }
    let kv = Tensor::bf16_from_f32(&[2, 32, 128], &garbage).unwrap();
    let operands = Operands::new()
        .input(Tensor::new(&[1], vec![limit as i32]).unwrap())
        .input(Tensor::new(&[8, 128], meta).unwrap())
        .input(q.clone())
        .input(kv.clone())
        .output(ElementType::F32, &[rows, 128]);
    let (q, kv) = (q.to_f32(), kv.to_f32());
    for order in [ReductionOrder::Sequential, ReductionOrder::BalancedTree] {
        let outcome = emulator.run_with(&operands, &RunOptions::default().sums(order)).unwrap();
        let got = outcome.outputs[0].to_f32();
        for r in 0..rows {
            let keys = sees(r).min(limit);
            let dot =
                |k: usize| (0..128).map(|d| f64::from(q[r * 128 + d] * kv[k * 128 + d])).sum::<f64>() / 8.0;
            let weights: Vec<f64> = (0..keys).map(|k| dot(k).exp2()).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..128 {
                let sum: f64 =
                    weights.iter().enumerate().map(|(k, w)| w * f64::from(kv[(32 + k) * 128 + d])).sum();
                let want = if keys == 0 { 0.0 } else { sum / total };
                assert!(
                    (f64::from(got[r * 128 + d]) - want).abs() < 4e-3,
                    "row {r}, lane {d}: {} {want}",
                    got[r * 128 + d]
                );
            }
        }
    }
}
