{#- KV-page write in place, for TPU: new keys and values into arbitrary slots, every other byte left as it was.

Algorithm. A single token of a page is no unit that can be copied; an aligned chunk of {chunk} tokens is. The host sorts
the writes by chunk. For each chunk that is written a loop brings in the chunk as it is and its new rows, merges them
by a mask, and copies the chunk back. A chunk that is written whole is not read. {depth} chunks are under way at a time:
copies in run ahead, copies out are awaited when their buffer is needed again.

Data. table i32: word 0 says whose it is; word 1 the number of chunks; from word 2 three words a chunk: chunk (page * chunks of a page + chunk
in it), mask (bit i: token i is written), first of its entries; one chunk behind the last carries the end; from word
{entries} the entries, row * {chunk} + token in the chunk. at [1]: page of the pool from which chunks count. new_kv [T, 2 * kv_heads, head_dim], keys in front;
pages [pool, 2, kv_heads, page_size, head_dim], the result being the same memory.

Invariants.
- A table of another identity, or with a chunk outside the pool, writes nothing.
- A chunk is named once, so no two copies in flight touch the same bytes.
- The merge is of bits, as integers: NaN payloads outside the written slots survive it.
- What a merge does not take from a buffer may be anything: rows without an entry, the old content of a whole chunk.
- Every copy that was started is awaited: copies in before the merge that reads them, copies out before their buffer is
  filled again and at the end. Chunk i lives in buffers and semaphores i mod {depth}.
#}
{%- set heads = 2 * kv_heads %}
{%- set bf16 = dtype == "bf16" %}
{%- set any = "#tpu.memory_space<any>" %}
{%- set vmem = "#tpu.memory_space<vmem>" %}
{%- set sems = "#tpu.memory_space<semaphore_mem>" %}
{%- set table_t = "memref<" ~ table_words ~ "xi32, #tpu.memory_space<smem>>" %}
{%- set at_t = "memref<1xi32, #tpu.memory_space<smem>>" %}
{%- set new_t = "memref<" ~ tokens ~ "x" ~ heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
{%- set row_any = "memref<1x" ~ heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
{%- set row_vmem = "memref<1x" ~ heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set pages_t = "memref<" ~ pool_pages ~ "x2x" ~ kv_heads ~ "x" ~ page_size ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
{%- set one = "1x2x" ~ kv_heads ~ "x" ~ chunk ~ "x" ~ head_dim ~ "x" ~ dtype %}
{%- set chunk_any = "memref<" ~ one ~ ", " ~ any ~ ">" %}
{%- set chunk_vmem = "memref<" ~ one ~ ", " ~ vmem ~ ">" %}
{%- set chunks_t = "memref<" ~ depth ~ "x2x" ~ kv_heads ~ "x" ~ chunk ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set rows_t = "memref<" ~ depth * chunk ~ "x" ~ heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set sem_t = "memref<" ~ depth ~ "x!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set sem1_t = "memref<1x!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set sem0_t = "memref<!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set cd = chunk ~ "x" ~ head_dim %}
{%- set bits_i = "vector<" ~ (chunk // 2 if bf16 else chunk) ~ "x" ~ head_dim ~ "xi32>" %}
{%- set tile = "vector<" ~ cd ~ "x" ~ dtype ~ ">" %}
{#- %p = word `field` of the table's chunk %at. #}
{%- macro word(p, at, field) %}
      %{{ p }}_n = arith.constant 3 : i32
      %{{ p }}_f = arith.constant {{ 2 + field }} : i32
      %{{ p }}_o = arith.muli %{{ at }}, %{{ p }}_n : i32
      %{{ p }}_a = arith.addi %{{ p }}_o, %{{ p }}_f : i32
      %{{ p }}_i = arith.index_cast %{{ p }}_a : i32 to index
      %{{ p }} = memref.load %table[%{{ p }}_i] : {{ table_t }}
{%- endmacro %}
{%- macro buffer_sem(p, of) %}
      %{{ p }}_ring = arith.constant {{ depth - 1 }} : i32
      %{{ p }}_slot = arith.andi %{{ p }}_at, %{{ p }}_ring : i32
      %{{ p }}_sem1 = tpu.memref_slice %{{ of }}[%{{ p }}_slot] : {{ sem_t }} -> {{ sem1_t }}
      %{{ p }}_sem = tpu.memref_squeeze %{{ p }}_sem1 : {{ sem1_t }} -> {{ sem0_t }}
{%- endmacro %}
{#- Chunk %{p}_at in `pages` and in `buffers`. #}
{%- macro places(p, pages, buffers) %}
      {{- word(p ~ "_chunk", p ~ "_at", 0) }}
      %{{ p }}_per = arith.constant {{ page_size // chunk }} : i32
      %{{ p }}_nth_page = arith.divsi %{{ p }}_chunk, %{{ p }}_per : i32
      %{{ p }}_page = arith.addi %{{ p }}_nth_page, %first_page : i32
      %{{ p }}_nth = arith.remsi %{{ p }}_chunk, %{{ p }}_per : i32
      %{{ p }}_size = arith.constant {{ chunk }} : i32
      %{{ p }}_token = arith.muli %{{ p }}_nth, %{{ p }}_size : i32
      %{{ p }}_hbm = tpu.memref_slice %{{ pages }}[%{{ p }}_page, %c0, %c0, %{{ p }}_token, %c0] : {{ pages_t }} -> {{ chunk_any }}
      %{{ p }}_buf = tpu.memref_slice %{{ buffers }}[%{{ p }}_slot, %c0, %c0, %c0, %c0] : {{ chunks_t }} -> {{ chunk_vmem }}
{%- endmacro %}
{#- Starts or awaits the copies in of chunk %{p}_at: its old content unless all is replaced, and its new rows. #}
{%- macro copies_in(p, op) %}
      {{- buffer_sem(p, "in_sem") }}
      {{- word(p ~ "_mask", p ~ "_at", 1) }}
      %{{ p }}_all = arith.constant {{ 2 ** chunk - 1 }} : i32
      %{{ p }}_keeps = arith.cmpi ne, %{{ p }}_mask, %{{ p }}_all : i32
      scf.if %{{ p }}_keeps {
        {{- places(p, "pages", "old") }}
        {%- if op == "start" %}
        tpu.enqueue_dma source(%{{ p }}_hbm : {{ chunk_any }}) target(%{{ p }}_buf : {{ chunk_vmem }}) target_semaphore(%{{ p }}_sem : {{ sem0_t }}) // count: chunks_read
        {%- else %}
        tpu.wait_dma2 semaphore(%{{ p }}_sem : {{ sem0_t }}) src(%{{ p }}_hbm : {{ chunk_any }}) dst(%{{ p }}_buf : {{ chunk_vmem }})
        {%- endif %}
        scf.yield
      }
      {{- word(p ~ "_from", p ~ "_at", 2) }}
      %{{ p }}_next = arith.addi %{{ p }}_at, %c1 : i32
      {{- word(p ~ "_to", p ~ "_next", 2) }}
      %{{ p }}_rows = arith.constant {{ chunk }} : i32
      %{{ p }}_base = arith.muli %{{ p }}_slot, %{{ p }}_rows : i32
      scf.for %{{ p }}_j = %{{ p }}_from to %{{ p }}_to step %c1 : i32 {
        %{{ p }}_eb = arith.constant {{ entries }} : i32
        %{{ p }}_ea = arith.addi %{{ p }}_eb, %{{ p }}_j : i32
        %{{ p }}_ei = arith.index_cast %{{ p }}_ea : i32 to index
        %{{ p }}_entry = memref.load %table[%{{ p }}_ei] : {{ table_t }}
        %{{ p }}_row = arith.divsi %{{ p }}_entry, %{{ p }}_rows : i32
        %{{ p }}_in = arith.remsi %{{ p }}_entry, %{{ p }}_rows : i32
        %{{ p }}_dst = arith.addi %{{ p }}_base, %{{ p }}_in : i32
        %{{ p }}_rh = tpu.memref_slice %new_kv[%{{ p }}_row, %c0, %c0] : {{ new_t }} -> {{ row_any }}
        %{{ p }}_rb = tpu.memref_slice %new[%{{ p }}_dst, %c0, %c0] : {{ rows_t }} -> {{ row_vmem }}
        {%- if op == "start" %}
        tpu.enqueue_dma source(%{{ p }}_rh : {{ row_any }}) target(%{{ p }}_rb : {{ row_vmem }}) target_semaphore(%{{ p }}_sem : {{ sem0_t }}) // count: rows_read
        {%- else %}
        tpu.wait_dma2 semaphore(%{{ p }}_sem : {{ sem0_t }}) src(%{{ p }}_rh : {{ row_any }}) dst(%{{ p }}_rb : {{ row_vmem }})
        {%- endif %}
        scf.yield
      }
{%- endmacro %}
{#- Starts or awaits the copy of chunk %{p}_at back to its page. #}
{%- macro copy_out(p, op) %}
      {{- buffer_sem(p, "out_sem") }}
      {{- places(p, "written", "merged") }}
      {%- if op == "start" %}
      tpu.enqueue_dma source(%{{ p }}_buf : {{ chunk_vmem }}) target(%{{ p }}_hbm : {{ chunk_any }}) target_semaphore(%{{ p }}_sem : {{ sem0_t }}) // count: chunks_written
      {%- else %}
      tpu.wait_dma2 semaphore(%{{ p }}_sem : {{ sem0_t }}) src(%{{ p }}_buf : {{ chunk_vmem }}) dst(%{{ p }}_hbm : {{ chunk_any }})
      {%- endif %}
{%- endmacro %}
module @{{ name }} {
  func.func @{{ name }}(%g: i32, %table: {{ table_t }}, %at: {{ at_t }}, %new_kv: {{ new_t }}, %pages: {{ pages_t }}, %written: {{ pages_t }}, %old: {{ chunks_t }}, %new: {{ rows_t }}, %merged: {{ chunks_t }}, %in_sem: {{ sem_t }}, %out_sem: {{ sem_t }}) attributes {dimension_semantics = [#tpu.dimension_semantics<arbitrary>], iteration_bounds = array<i64: 1>, scalar_prefetch = 2 : i64, scratch_operands = 5 : i64, tpu.core_type = #tpu.core_type<tc>, window_params = [{}, {}, {}]} {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %i0 = arith.constant 0 : index
    {%- for g in range(1, heads) %}
    %i{{ g }} = arith.constant {{ g }} : index
    {%- endfor %}
    %found = memref.load %table[%i0] : {{ table_t }}
    %identity = arith.constant {{ identity }} : i32
    %is_ours = arith.cmpi eq, %found, %identity : i32
    %named = memref.load %table[%i1] : {{ table_t }}
    %listed = arith.select %is_ours, %named, %c0 : i32
    %first_page = memref.load %at[%i0] : {{ at_t }}
    // Chunks ascend: where the last one lies behind the pool, or the first page below it, nothing is written.
    %l_three = arith.constant 3 : i32
    %l_words = arith.muli %listed, %l_three : i32
    %l_from = arith.subi %l_words, %c1 : i32
    %l_first = arith.constant 2 : i32
    %l_at = arith.maxsi %l_from, %l_first : i32
    %l_i = arith.index_cast %l_at : i32 to index
    %l_chunk = memref.load %table[%l_i] : {{ table_t }}
    %l_per = arith.constant {{ page_size // chunk }} : i32
    %l_page = arith.divsi %l_chunk, %l_per : i32
    %pool = arith.constant {{ pool_pages }} : i32
    %room = arith.subi %pool, %first_page : i32
    %not_below = arith.cmpi sge, %first_page, %c0 : i32
    %not_above = arith.cmpi slt, %l_page, %room : i32
    %in_pool = arith.andi %not_below, %not_above : i1
    %chunks = arith.select %in_pool, %listed, %c0 : i32
    %ahead = arith.constant {{ depth - 1 }} : i32
    %depth = arith.constant {{ depth }} : i32
    %filled = arith.minsi %chunks, %ahead : i32
    scf.for %a_at = %c0 to %filled step %c1 : i32 {
      {{- copies_in("a", "start") }}
      scf.yield
    }
    scf.for %i = %c0 to %chunks step %c1 : i32 {
      %b_at = arith.addi %i, %ahead : i32
      %more = arith.cmpi slt, %b_at, %chunks : i32
      scf.if %more {
        {{- copies_in("b", "start") }}
        scf.yield
      }
      %w_at = arith.addi %i, %c0 : i32
      {{- copies_in("w", "wait") }}
      %used = arith.cmpi sge, %i, %depth : i32
      scf.if %used {
        %u_at = arith.subi %i, %depth : i32
        {{- copy_out("u", "wait") }}
        scf.yield
      }
      // All ones where a bit comes from a new row{% if bf16 %}; a word holds tokens 2s and 2s + 1, low half first{% endif %}.
      %s = tpu.iota {dimensions = array<i32: 0>} : {{ bits_i }}
      %ones = arith.constant dense<1> : {{ bits_i }}
      %mask_b = vector.broadcast %w_mask : i32 to {{ bits_i }}
      {%- if bf16 %}
      %low_at = arith.addi %s, %s : {{ bits_i }}
      %low_bits = arith.shrui %mask_b, %low_at : {{ bits_i }}
      %low_one = arith.andi %low_bits, %ones : {{ bits_i }}
      %low_all = arith.constant dense<65535> : {{ bits_i }}
      %low = arith.muli %low_one, %low_all : {{ bits_i }}
      %high_at = arith.addi %low_at, %ones : {{ bits_i }}
      %high_bits = arith.shrui %mask_b, %high_at : {{ bits_i }}
      %high_one = arith.andi %high_bits, %ones : {{ bits_i }}
      %high_all = arith.constant dense<-65536> : {{ bits_i }}
      %high = arith.muli %high_one, %high_all : {{ bits_i }}
      %take = arith.ori %low, %high : {{ bits_i }}
      {%- else %}
      %bit = arith.shrui %mask_b, %s : {{ bits_i }}
      %bit_one = arith.andi %bit, %ones : {{ bits_i }}
      %all = arith.constant dense<-1> : {{ bits_i }}
      %take = arith.muli %bit_one, %all : {{ bits_i }}
      {%- endif %}
      %every = arith.constant dense<-1> : {{ bits_i }}
      %keep = arith.xori %take, %every : {{ bits_i }}
      %slot_i = arith.index_cast %w_slot : i32 to index
      %base_i = arith.index_cast %w_base : i32 to index
      {%- for g in range(heads) %}
      {%- set at = "%slot_i, %i" ~ g // kv_heads ~ ", %i" ~ g % kv_heads ~ ", %i0, %i0" %}
      %n{{ g }}_3 = vector.load %new[%base_i, %i{{ g }}, %i0] : {{ rows_t }}, vector<{{ chunk }}x1x{{ head_dim }}x{{ dtype }}>
      %n{{ g }}_2 = vector.shape_cast %n{{ g }}_3 : vector<{{ chunk }}x1x{{ head_dim }}x{{ dtype }}> to {{ tile }}
      %n{{ g }} = tpu.bitcast %n{{ g }}_2 : {{ tile }} -> {{ bits_i }}
      %o{{ g }}_5 = vector.load %old[{{ at }}] : {{ chunks_t }}, vector<1x1x1x{{ cd }}x{{ dtype }}>
      %o{{ g }}_2 = vector.shape_cast %o{{ g }}_5 : vector<1x1x1x{{ cd }}x{{ dtype }}> to {{ tile }}
      %o{{ g }} = tpu.bitcast %o{{ g }}_2 : {{ tile }} -> {{ bits_i }}
      %n{{ g }}_t = arith.andi %n{{ g }}, %take : {{ bits_i }}
      %o{{ g }}_k = arith.andi %o{{ g }}, %keep : {{ bits_i }}
      %m{{ g }} = arith.ori %n{{ g }}_t, %o{{ g }}_k : {{ bits_i }}
      %m{{ g }}_2 = tpu.bitcast %m{{ g }} : {{ bits_i }} -> {{ tile }}
      %m{{ g }}_5 = vector.shape_cast %m{{ g }}_2 : {{ tile }} to vector<1x1x1x{{ cd }}x{{ dtype }}>
      tpu.vector_store %merged[{{ at }}], %m{{ g }}_5 {strides = array<i32>} : {{ chunks_t }}, vector<1x1x1x{{ cd }}x{{ dtype }}>,
      {%- endfor %}
      %x_at = arith.addi %i, %c0 : i32
      {{- copy_out("x", "start") }}
      scf.yield
    }
    %early = arith.subi %chunks, %depth : i32
    %undone = arith.maxsi %early, %c0 : i32
    scf.for %z_at = %undone to %chunks step %c1 : i32 {
      {{- copy_out("z", "wait") }}
      scf.yield
    }
    return
  }
}
