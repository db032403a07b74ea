// One masked attention tile, keys on sublanes and rows on lanes: S = K Q^T, O^T = V^T P.
//   limit [1]     keys at or beyond it hold garbage and are replaced before use
//   meta [8, 128] row 0: how many keys each row sees
//   q [128, 128]  rows; only the scale is missing
//   kv [2, 32, 128]
//   o [128, 128]  a row without a key gives zeros
module @masked_attention {
  func.func @masked_attention(%limit: memref<1xi32, #tpu.memory_space<smem>>, %meta: memref<8x128xi32, #tpu.memory_space<vmem>>, %q: memref<128x128xbf16, #tpu.memory_space<vmem>>, %kv: memref<2x32x128xbf16, #tpu.memory_space<vmem>>, %o: memref<128x128xf32, #tpu.memory_space<vmem>>, %P: memref<32x128xbf16, #tpu.memory_space<vmem>>) attributes {scalar_prefetch = 1 : i64, scratch_operands = 1 : i64, tpu.core_type = #tpu.core_type<tc>} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %n = memref.load %limit[%c0] : memref<1xi32, #tpu.memory_space<smem>>
    %place = tpu.iota {dimensions = array<i32: 0>} : vector<32x128xi32>
    %nb = vector.broadcast %n : i32 to vector<32x128xi32>
    %real = arith.cmpi slt, %place, %nb : vector<32x128xi32>
    %z = arith.constant dense<0.000000e+00> : vector<32x128xbf16>
    %k3 = vector.load %kv[%c0, %c0, %c0] : memref<2x32x128xbf16, #tpu.memory_space<vmem>>, vector<1x32x128xbf16>
    %k2 = vector.shape_cast %k3 : vector<1x32x128xbf16> to vector<32x128xbf16>
    %k = arith.select %real, %k2, %z : vector<32x128xi1>, vector<32x128xbf16>
    %v3 = vector.load %kv[%c1, %c0, %c0] : memref<2x32x128xbf16, #tpu.memory_space<vmem>>, vector<1x32x128xbf16>
    %v2 = vector.shape_cast %v3 : vector<1x32x128xbf16> to vector<32x128xbf16>
    %v = arith.select %real, %v2, %z : vector<32x128xi1>, vector<32x128xbf16>
    %qt = vector.load %q[%c0, %c0] : memref<128x128xbf16, #tpu.memory_space<vmem>>, vector<128x128xbf16>
    %s0 = arith.constant dense<0.000000e+00> : vector<32x128xf32>
    %s1 = tpu.matmul %k, %qt, %s0 {dimension_numbers = #tpu.dot_dimension_numbers<[1], [1], [0], [0], [0, 0, 1, 0], [], []>, transpose_lhs_hint = false} : vector<32x128xbf16>, vector<128x128xbf16>, vector<32x128xf32> -> vector<32x128xf32>
    %scale = arith.constant dense<1.250000e-01> : vector<32x128xf32>
    %s2 = arith.mulf %s1, %scale : vector<32x128xf32>
    %sees = vector.load %meta[%c0, %c0] : memref<8x128xi32, #tpu.memory_space<vmem>>, vector<1x128xi32>
    %sb = vector.broadcast %sees : vector<1x128xi32> to vector<32x128xi32>
    %vis0 = arith.cmpi slt, %place, %sb : vector<32x128xi32>
    %vis = arith.andi %vis0, %real : vector<32x128xi1>
    %low = arith.constant dense<-1.000000e+30> : vector<32x128xf32>
    %s = arith.select %vis, %s2, %low : vector<32x128xi1>, vector<32x128xf32>
    %m0 = arith.constant dense<-1.000000e+20> : vector<128xf32>
    %m = vector.multi_reduction <maximumf>, %s, %m0 [0] : vector<32x128xf32> to vector<128xf32>
    %m1 = vector.shape_cast %m : vector<128xf32> to vector<1x128xf32>
    %mb = vector.broadcast %m1 : vector<1x128xf32> to vector<32x128xf32>
    %d = arith.subf %s, %mb : vector<32x128xf32>
    %p = math.exp2 %d : vector<32x128xf32>
    %l0 = arith.constant dense<0.000000e+00> : vector<128xf32>
    %l = vector.multi_reduction <add>, %p, %l0 [0] : vector<32x128xf32> to vector<128xf32>
    %pb = arith.truncf %p : vector<32x128xf32> to vector<32x128xbf16>
    %halves0 = vector.extract_strided_slice %pb offsets = [0, 0], sizes = [16, 128], strides = [1, 1] : vector<32x128xbf16> to vector<16x128xbf16>
    %halves1 = vector.extract_strided_slice %pb offsets = [16, 0], sizes = [16, 128], strides = [1, 1] : vector<32x128xbf16> to vector<16x128xbf16>
    %joined = tpu.concatenate %halves0, %halves1 in 0 : vector<16x128xbf16>, vector<16x128xbf16> -> vector<32x128xbf16>
    tpu.vector_store %P[%c0, %c0], %joined {strides = array<i32>} : memref<32x128xbf16, #tpu.memory_space<vmem>>, vector<32x128xbf16>,
    %pl = vector.load %P[%c0, %c0] : memref<32x128xbf16, #tpu.memory_space<vmem>>, vector<32x128xbf16>
    %o0 = arith.constant dense<0.000000e+00> : vector<128x128xf32>
    %ot = tpu.matmul %v, %pl, %o0 {dimension_numbers = #tpu.dot_dimension_numbers<[0], [0], [1], [1], [0, 1, 1, 1], [], []>, transpose_lhs_hint = false} : vector<32x128xbf16>, vector<32x128xbf16>, vector<128x128xf32> -> vector<128x128xf32>
    %tiny = arith.constant dense<1.000000e-30> : vector<1x128xf32>
    %l1 = vector.shape_cast %l : vector<128xf32> to vector<1x128xf32>
    %l2 = arith.maximumf %l1, %tiny : vector<1x128xf32>
    %r = tpu.reciprocal %l2 {approx = false} : vector<1x128xf32> -> vector<1x128xf32>
    %rb = vector.broadcast %r : vector<1x128xf32> to vector<128x128xf32>
    %on = arith.mulf %ot, %rb : vector<128x128xf32>
    %t = tpu.transpose %on, [1, 0] : vector<128x128xf32> -> vector<128x128xf32>
    %still = arith.constant 128 : i32
    %out = tpu.dynamic_rotate %t by %still dim 0 : vector<128x128xf32>, i32 -> vector<128x128xf32>
    tpu.vector_store %o[%c0, %c0], %out {strides = array<i32>} : memref<128x128xf32, #tpu.memory_space<vmem>>, vector<128x128xf32>,
    return
  }
}
