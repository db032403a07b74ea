// Doubles x in scratch and copies both halves to device memory with two copies on one semaphore.
module @write_back {
  func.func @write_back(%x: memref<16x128xi32, #tpu.memory_space<vmem>>, %o: memref<16x128xi32, #tpu.memory_space<any>>, %work: memref<16x128xi32, #tpu.memory_space<vmem>>, %sem: memref<!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>, %credit: memref<!tpu.semaphore, #tpu.memory_space<semaphore_mem>>) attributes {scalar_prefetch = 0 : i64, scratch_operands = 3 : i64, tpu.core_type = #tpu.core_type<tc>} {
    %c0 = arith.constant 0 : index
    %c8 = arith.constant 8 : index
    %z = arith.constant 0 : i32
    %eight = arith.constant 8 : i32
    %two = arith.constant 2 : i32
    tpu.sem_signal %credit, %two : memref<!tpu.semaphore, #tpu.memory_space<semaphore_mem>>
    %a = vector.load %x[%c0, %c0] : memref<16x128xi32, #tpu.memory_space<vmem>>, vector<16x128xi32>
    %b = arith.addi %a, %a : vector<16x128xi32>
    tpu.vector_store %work[%c0, %c0], %b {strides = array<i32>} : memref<16x128xi32, #tpu.memory_space<vmem>>, vector<16x128xi32>,
    %low = tpu.memref_slice %work[%z, %z] : memref<16x128xi32, #tpu.memory_space<vmem>> -> memref<8x128xi32, #tpu.memory_space<vmem>>
    %high = tpu.memref_slice %work[%eight, %z] : memref<16x128xi32, #tpu.memory_space<vmem>> -> memref<8x128xi32, #tpu.memory_space<vmem>>
    %first = tpu.memref_slice %o[%z, %z] : memref<16x128xi32, #tpu.memory_space<any>> -> memref<8x128xi32, #tpu.memory_space<any>>
    %rows = tpu.assume_multiple %eight, 8 : i32
    %second = tpu.memref_slice %o[%rows, %z] : memref<16x128xi32, #tpu.memory_space<any>> -> memref<8x128xi32, #tpu.memory_space<any>>
    tpu.enqueue_dma source(%low : memref<8x128xi32, #tpu.memory_space<vmem>>) target(%first : memref<8x128xi32, #tpu.memory_space<any>>) target_semaphore(%sem : memref<!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>)
    tpu.enqueue_dma source(%high : memref<8x128xi32, #tpu.memory_space<vmem>>) target(%second : memref<8x128xi32, #tpu.memory_space<any>>) target_semaphore(%sem : memref<!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>)
    tpu.wait_dma2 semaphore(%sem : memref<!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>) src(%work : memref<16x128xi32, #tpu.memory_space<vmem>>) dst(%work : memref<16x128xi32, #tpu.memory_space<vmem>>)
    %zeros = arith.constant dense<0> : vector<16x128xi32>
    tpu.vector_store %work[%c0, %c0], %zeros {strides = array<i32>} : memref<16x128xi32, #tpu.memory_space<vmem>>, vector<16x128xi32>,
    tpu.sem_wait %credit, %two : memref<!tpu.semaphore, #tpu.memory_space<semaphore_mem>>
    return
  }
}
