// Sums pages picked by a table, fetched two deep: page i is added while page i+1 is under way.
//   n [1]         number of pages, at least 1
//   table [4]     page numbers
//   pages         all pages, in device memory
//   o             the sum
module @paged_sum {
  func.func @paged_sum(%n: memref<1xi32, #tpu.memory_space<smem>>, %table: memref<4xi32, #tpu.memory_space<smem>>, %pages: memref<8x8x128xf32, #tpu.memory_space<any>>, %o: memref<8x128xf32, #tpu.memory_space<vmem>>, %buf: memref<2x8x128xf32, #tpu.memory_space<vmem>>, %sem: memref<2x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>) attributes {scalar_prefetch = 2 : i64, scratch_operands = 2 : i64, tpu.core_type = #tpu.core_type<tc>} {
    %c0 = arith.constant 0 : index
    %z = arith.constant 0 : i32
    %one = arith.constant 1 : i32
    %zero = arith.constant dense<0.000000e+00> : vector<8x128xf32>
    tpu.vector_store %o[%c0, %c0], %zero {strides = array<i32>} : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<8x128xf32>,
    %count = memref.load %n[%c0] : memref<1xi32, #tpu.memory_space<smem>>
    %page0 = memref.load %table[%c0] : memref<4xi32, #tpu.memory_space<smem>>
    %from0 = tpu.memref_slice %pages[%page0, %z, %z] : memref<8x8x128xf32, #tpu.memory_space<any>> -> memref<1x8x128xf32, #tpu.memory_space<any>>
    %to0 = tpu.memref_slice %buf[%z, %z, %z] : memref<2x8x128xf32, #tpu.memory_space<vmem>> -> memref<1x8x128xf32, #tpu.memory_space<vmem>>
    %sem0 = tpu.memref_slice %sem[%z] : memref<2x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>> -> memref<1x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>
    %s0 = tpu.memref_squeeze %sem0 : memref<1x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>> -> memref<!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>
    tpu.enqueue_dma source(%from0 : memref<1x8x128xf32, #tpu.memory_space<any>>) target(%to0 : memref<1x8x128xf32, #tpu.memory_space<vmem>>) target_semaphore(%s0 : memref<!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>)
    scf.for %i = %z to %count step %one : i32 {
      %slot = arith.andi %i, %one : i32
      %other = arith.subi %one, %slot : i32
      %next = arith.addi %i, %one : i32
      %more = arith.cmpi slt, %next, %count : i32
      scf.if %more {
        %at = arith.index_cast %next : i32 to index
        %page = memref.load %table[%at] : memref<4xi32, #tpu.memory_space<smem>>
        %from = tpu.memref_slice %pages[%page, %z, %z] : memref<8x8x128xf32, #tpu.memory_space<any>> -> memref<1x8x128xf32, #tpu.memory_space<any>>
        %to = tpu.memref_slice %buf[%other, %z, %z] : memref<2x8x128xf32, #tpu.memory_space<vmem>> -> memref<1x8x128xf32, #tpu.memory_space<vmem>>
        %sem1 = tpu.memref_slice %sem[%other] : memref<2x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>> -> memref<1x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>
        %s1 = tpu.memref_squeeze %sem1 : memref<1x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>> -> memref<!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>
        tpu.enqueue_dma source(%from : memref<1x8x128xf32, #tpu.memory_space<any>>) target(%to : memref<1x8x128xf32, #tpu.memory_space<vmem>>) target_semaphore(%s1 : memref<!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>)
      }
      %sem2 = tpu.memref_slice %sem[%slot] : memref<2x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>> -> memref<1x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>
      %s2 = tpu.memref_squeeze %sem2 : memref<1x!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>> -> memref<!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>
      %here = tpu.memref_slice %buf[%slot, %z, %z] : memref<2x8x128xf32, #tpu.memory_space<vmem>> -> memref<1x8x128xf32, #tpu.memory_space<vmem>>
      tpu.wait_dma2 semaphore(%s2 : memref<!tpu.dma_semaphore, #tpu.memory_space<semaphore_mem>>) src(%here : memref<1x8x128xf32, #tpu.memory_space<vmem>>) dst(%here : memref<1x8x128xf32, #tpu.memory_space<vmem>>)
      %row = arith.index_cast %slot : i32 to index
      %read3 = vector.load %buf[%row, %c0, %c0] : memref<2x8x128xf32, #tpu.memory_space<vmem>>, vector<1x8x128xf32>
      %read = vector.shape_cast %read3 : vector<1x8x128xf32> to vector<8x128xf32>
      %sum = vector.load %o[%c0, %c0] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<8x128xf32>
      %new = arith.addf %sum, %read : vector<8x128xf32> // count: pages
      tpu.vector_store %o[%c0, %c0], %new {strides = array<i32>} : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<8x128xf32>,
    }
    return
  }
}
