// o = x y over a grid of blocks, the contracted dimension innermost, accumulated in f32.
module @matmul_grid {
  func.func @matmul_grid(%i: i32, %j: i32, %k: i32, %x: memref<16x128xbf16, #tpu.memory_space<vmem>>, %y: memref<128x128xbf16, #tpu.memory_space<vmem>>, %o: memref<16x128xf32, #tpu.memory_space<vmem>>, %acc: memref<16x128xf32, #tpu.memory_space<vmem>>) attributes {dimension_semantics = [#tpu.dimension_semantics<parallel>, #tpu.dimension_semantics<parallel>, #tpu.dimension_semantics<arbitrary>], iteration_bounds = array<i64: 3, 2, 2>, scalar_prefetch = 0 : i64, scratch_operands = 1 : i64, tpu.core_type = #tpu.core_type<tc>, window_params = [{transform_indices = @tx, window_bounds = array<i64: 16, 128>}, {transform_indices = @ty, window_bounds = array<i64: 128, 128>}, {transform_indices = @to, window_bounds = array<i64: 16, 128>}]} {
    %c0 = arith.constant 0 : index
    %z = arith.constant 0 : i32
    %last = arith.constant 1 : i32
    %first = arith.cmpi eq, %k, %z : i32
    scf.if %first {
      %zero = arith.constant dense<0.000000e+00> : vector<16x128xf32>
      tpu.vector_store %acc[%c0, %c0], %zero {strides = array<i32>} : memref<16x128xf32, #tpu.memory_space<vmem>>, vector<16x128xf32>,
    }
    %a = vector.load %x[%c0, %c0] : memref<16x128xbf16, #tpu.memory_space<vmem>>, vector<16x128xbf16>
    %b = vector.load %y[%c0, %c0] : memref<128x128xbf16, #tpu.memory_space<vmem>>, vector<128x128xbf16>
    %c = vector.load %acc[%c0, %c0] : memref<16x128xf32, #tpu.memory_space<vmem>>, vector<16x128xf32>
    %d = tpu.matmul %a, %b, %c {dimension_numbers = #tpu.dot_dimension_numbers<[1], [0], [0], [1], [0, 0, 1, 1], [], []>, transpose_lhs_hint = false} : vector<16x128xbf16>, vector<128x128xbf16>, vector<16x128xf32> -> vector<16x128xf32> // count: tiles
    tpu.vector_store %acc[%c0, %c0], %d {strides = array<i32>} : memref<16x128xf32, #tpu.memory_space<vmem>>, vector<16x128xf32>,
    %fin = arith.cmpi eq, %k, %last : i32
    scf.if %fin {
      tpu.vector_store %o[%c0, %c0], %d {strides = array<i32>} : memref<16x128xf32, #tpu.memory_space<vmem>>, vector<16x128xf32>,
    }
    return
  }
  func.func @tx(%i: i32, %j: i32, %k: i32) -> (i32, i32) {
    return %i, %k : i32, i32
  }
  func.func @ty(%i: i32, %j: i32, %k: i32) -> (i32, i32) {
    return %k, %j : i32, i32
  }
  func.func @to(%i: i32, %j: i32, %k: i32) -> (i32, i32) {
    return %i, %j : i32, i32
  }
}
