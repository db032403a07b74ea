{#- Ragged paged attention with a shared prefix, for TPU.

Algorithm. The grid walks query tiles. For each, a loop walks exactly the key tiles that the planner listed, with a
running maximum m, a running sum l and an unnormalised result acc for every row (online softmax). Keys come by DMA
into one of two buffers; the next tile's copy runs while this one is computed.

Orientation. Scores are kept transposed, S^T = K Q^T: keys on sublanes, query rows on lanes. Softmax maxima and sums
then run down sublanes, on the vector unit, without crossing lanes; the result is kept as O^T = V^T P^T and turned
once at the end. A query row is (token, head of its group), so K and V are loaded once for all heads of a group.

Data. q, o [kv_heads, T * group, head_dim];
rows [8, T * group] i32: own_start, own_key, position of every row; pages [pool, 2, kv_heads, page_size, head_dim];
new_kv [2, kv_heads, slots, head_dim]: new keys and values in slot order; head and tables: the planner's words.

Body. Heads take turns: probabilities of one, scores of the next, result of the first. Scores and probabilities pass
through VMEM, two heads' worth: as values of the program they would outnumber the registers.

Tiles. Full: every row sees every key, no mask. Edge: a row sees the keys [lo, hi) of the tile. Keys of packed short
segments come in tiles of {own_tile}, all others in tiles of {kv_tile}.

Invariants.
- Every copy that was started is awaited before the body that reads it, and none is in flight at the end.
- Scores are scaled in f32, times log2(e): softmax works in base 2. Folding the factor into a bf16 q would round it.
- A masked score is -1e30 while running maxima start at -1e20: its probability is exactly 0, also in rows that have
  seen nothing yet. A row that never sees a key has l = 0 and gives 0.
- Behind a tile's key count a buffer holds anything, NaN included: scores there are replaced by a select, V by 0.
#}
{%- set R = q_tile * group %}
{%- set log2_e = 1.4426950408889634 %}
{%- set f32 = dtype == "f32" %}
{%- set prec = "precision = #tpu.contract_precision<fp32>, " if f32 else "" %}
{%- set smem = "#tpu.memory_space<smem>" %}
{%- set vmem = "#tpu.memory_space<vmem>" %}
{%- set any = "#tpu.memory_space<any>" %}
{%- set sems = "#tpu.memory_space<semaphore_mem>" %}
{%- set head_t = "memref<" ~ header ~ "xi32, " ~ smem ~ ">" %}
{%- set tab_t = "memref<" ~ table_words ~ "xi32, " ~ smem ~ ">" %}
{%- set q_t = "memref<" ~ kv_heads ~ "x" ~ R ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set rows_t = "memref<8x" ~ R ~ "xi32, " ~ vmem ~ ">" %}
{%- set pages_t = "memref<" ~ pool_pages ~ "x2x" ~ kv_heads ~ "x" ~ page_size ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
{%- set new_t = "memref<2x" ~ kv_heads ~ "x" ~ key_slots ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
{%- set buf_t = "memref<2x2x" ~ kv_heads ~ "x" ~ kv_tile ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set sem_t = "memref<2x!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set sem1_t = "memref<1x!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set sem0_t = "memref<!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set acc_t = "memref<" ~ kv_heads ~ "x" ~ head_dim ~ "x" ~ R ~ "xf32, " ~ vmem ~ ">" %}
{%- set stat_t = "memref<" ~ kv_heads ~ "x8x" ~ R ~ "xf32, " ~ vmem ~ ">" %}
{%- set scores_t = "memref<2x" ~ kv_tile ~ "x" ~ R ~ "xf32, " ~ vmem ~ ">" %}
{%- set probs_t = "memref<2x" ~ kv_tile ~ "x" ~ R ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set row_i = "vector<1x" ~ R ~ "xi32>" %}
{%- set row_f = "vector<1x" ~ R ~ "xf32>" %}
{%- set row_b = "vector<1x" ~ R ~ "xi1>" %}
{%- set page_any = "memref<1x2x" ~ kv_heads ~ "x" ~ page_size ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
{%- set page_vmem = "memref<1x2x" ~ kv_heads ~ "x" ~ page_size ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{#- %p = word `field` of the table entry at %at. #}
{%- macro word(out, at, field) %}
      %{{ out }}_w = arith.constant {{ field }} : i32
      %{{ out }}_a = arith.addi %{{ at }}, %{{ out }}_w : i32
      %{{ out }}_i = arith.index_cast %{{ out }}_a : i32 to index
      %{{ out }} = memref.load %tab[%{{ out }}_i] : {{ tab_t }}
{%- endmacro %}
{%- macro slot_sem(p, slot) %}
      %{{ p }}_sem1 = tpu.memref_slice %sem[%{{ slot }}] : {{ sem_t }} -> {{ sem1_t }}
      %{{ p }}_sem = tpu.memref_squeeze %{{ p }}_sem1 : {{ sem1_t }} -> {{ sem0_t }}
{%- endmacro %}
{#- A copy of `keys` slots of new keys and values into buffer %slot; `op` starts or awaits it. #}
{%- macro run_copy(p, keys, op) %}
        {%- set src = "memref<2x" ~ kv_heads ~ "x" ~ keys ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
        {%- set dst1 = "memref<1x2x" ~ kv_heads ~ "x" ~ keys ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
        {%- set dst = "memref<2x" ~ kv_heads ~ "x" ~ keys ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
        %{{ p }}_src = tpu.memref_slice %new_kv[%c0, %c0, %{{ p }}_from, %c0] : {{ new_t }} -> {{ src }}
        %{{ p }}_dst1 = tpu.memref_slice %buf[%{{ p }}_slot, %c0, %c0, %c0, %c0] : {{ buf_t }} -> {{ dst1 }}
        %{{ p }}_dst = tpu.memref_squeeze %{{ p }}_dst1 : {{ dst1 }} -> {{ dst }}
        {%- if op == "start" %}
        tpu.enqueue_dma source(%{{ p }}_src : {{ src }}) target(%{{ p }}_dst : {{ dst }}) target_semaphore(%{{ p }}_sem : {{ sem0_t }})
        {%- else %}
        tpu.wait_dma2 semaphore(%{{ p }}_sem : {{ sem0_t }}) src(%{{ p }}_src : {{ src }}) dst(%{{ p }}_dst : {{ dst }})
        {%- endif %}
{%- endmacro %}
{#- Starts or awaits the copies of table entry %{p}_at into buffer %{p}_slot. #}
{%- macro copies(p, op) %}
      {{- word(p ~ "_kind", p ~ "_at", tile_kind) }}
      {{- word(p ~ "_start", p ~ "_at", tile_start) }}
      {{- word(p ~ "_keys", p ~ "_at", tile_keys) }}
      {{- slot_sem(p, p ~ "_slot") }}
      %{{ p }}_kp = arith.constant {{ kind_pages }} : i32
      %{{ p }}_ks = arith.constant {{ kind_slots }} : i32
      %{{ p }}_is_pages = arith.cmpi eq, %{{ p }}_kind, %{{ p }}_kp : i32
      scf.if %{{ p }}_is_pages {
        %{{ p }}_ps = arith.constant {{ page_size }} : i32
        %{{ p }}_up = arith.constant {{ page_size - 1 }} : i32
        %{{ p }}_ku = arith.addi %{{ p }}_keys, %{{ p }}_up : i32
        %{{ p }}_np = arith.divsi %{{ p }}_ku, %{{ p }}_ps : i32
        %{{ p }}_list = arith.addi %pages_at, %{{ p }}_start : i32
        scf.for %{{ p }}_j = %c0 to %{{ p }}_np step %c1 : i32 {
          %{{ p }}_pa = arith.addi %{{ p }}_list, %{{ p }}_j : i32
          %{{ p }}_pi = arith.index_cast %{{ p }}_pa : i32 to index
          %{{ p }}_page = memref.load %tab[%{{ p }}_pi] : {{ tab_t }}
          %{{ p }}_row = arith.muli %{{ p }}_j, %{{ p }}_ps : i32
          %{{ p }}_psrc = tpu.memref_slice %pages[%{{ p }}_page, %c0, %c0, %c0, %c0] : {{ pages_t }} -> {{ page_any }}
          %{{ p }}_pdst = tpu.memref_slice %buf[%{{ p }}_slot, %c0, %c0, %{{ p }}_row, %c0] : {{ buf_t }} -> {{ page_vmem }}
          {%- if op == "start" %}
          tpu.enqueue_dma source(%{{ p }}_psrc : {{ page_any }}) target(%{{ p }}_pdst : {{ page_vmem }}) target_semaphore(%{{ p }}_sem : {{ sem0_t }}) // count: page_copies
          {%- else %}
          tpu.wait_dma2 semaphore(%{{ p }}_sem : {{ sem0_t }}) src(%{{ p }}_psrc : {{ page_any }}) dst(%{{ p }}_pdst : {{ page_vmem }})
          {%- endif %}
          scf.yield
        }
        scf.yield
      } else {
        %{{ p }}_is_slots = arith.cmpi eq, %{{ p }}_kind, %{{ p }}_ks : i32
        %{{ p }}_from = tpu.assume_multiple %{{ p }}_start, {{ run_align if own_tile >= run_align else own_tile }} : i32
        scf.if %{{ p }}_is_slots {
          {{- run_copy(p, own_tile, op) }}
          scf.yield
        } else {
          {{- run_copy(p, kv_tile, op) }}
          scf.yield
        }
        scf.yield
      }
{%- endmacro %}
{#- Scores of head `h`, keys on sublanes, into %scores; the running maximum becomes %{u}_mn, %{u}_al rescales what was. #}
{%- macro scores(p, u, h, keys, edge, counter) %}
      {%- set kd = keys ~ "x" ~ head_dim %}
      {%- set kr = keys ~ "x" ~ R %}
      %{{ u }}_k4 = vector.load %buf[%slot_i, %i0, %h{{ h }}, %i0, %i0] : {{ buf_t }}, vector<1x1x1x{{ kd }}x{{ dtype }}>{% if h == 0 %} // count: {{ counter }}{% endif %}
      %{{ u }}_k = vector.shape_cast %{{ u }}_k4 : vector<1x1x1x{{ kd }}x{{ dtype }}> to vector<{{ kd }}x{{ dtype }}>
      %{{ u }}_q3 = vector.load %q[%h{{ h }}, %i0, %i0] : {{ q_t }}, vector<1x{{ R }}x{{ head_dim }}x{{ dtype }}>
      %{{ u }}_q = vector.shape_cast %{{ u }}_q3 : vector<1x{{ R }}x{{ head_dim }}x{{ dtype }}> to vector<{{ R }}x{{ head_dim }}x{{ dtype }}>
      %{{ u }}_qk = tpu.matmul %{{ u }}_k, %{{ u }}_q, %{{ p }}_s0 {dimension_numbers = #tpu.dot_dimension_numbers<[1], [1], [0], [0], [0, 0, 1, 0], [], []>, {{ prec }}transpose_lhs_hint = false} : vector<{{ kd }}x{{ dtype }}>, vector<{{ R }}x{{ head_dim }}x{{ dtype }}>, vector<{{ kr }}xf32> -> vector<{{ kr }}xf32>
      {%- if soft_cap %}
      %{{ u }}_ratio = arith.mulf %{{ u }}_qk, %{{ p }}_inv : vector<{{ kr }}xf32>
      %{{ u }}_tanh = math.tanh %{{ u }}_ratio : vector<{{ kr }}xf32>
      %{{ u }}_sc = arith.mulf %{{ u }}_tanh, %{{ p }}_cap : vector<{{ kr }}xf32>
      {%- else %}
      %{{ u }}_sc = arith.mulf %{{ u }}_qk, %{{ p }}_factor : vector<{{ kr }}xf32>
      {%- endif %}
      {%- set score = u ~ "_sc" %}
      {%- if edge %}
      %{{ u }}_s = arith.select %{{ p }}_sees, %{{ score }}, %{{ p }}_hidden : vector<{{ kr }}xi1>, vector<{{ kr }}xf32>
      {%- set score = u ~ "_s" %}
      {%- endif %}
      %{{ u }}_s3 = vector.shape_cast %{{ score }} : vector<{{ kr }}xf32> to vector<1x{{ kr }}xf32>
      tpu.vector_store %scores[%i{{ h % 2 }}, %i0, %i0], %{{ u }}_s3 {strides = array<i32>} : {{ scores_t }}, vector<1x{{ kr }}xf32>,
      %{{ u }}_mx1 = vector.multi_reduction <maximumf>, %{{ score }}, %{{ p }}_ninf [0] : vector<{{ kr }}xf32> to vector<{{ R }}xf32>
      %{{ u }}_mx = vector.shape_cast %{{ u }}_mx1 : vector<{{ R }}xf32> to {{ row_f }}
      %{{ u }}_mo3 = vector.load %m[%h{{ h }}, %i0, %i0] : {{ stat_t }}, vector<1x1x{{ R }}xf32>
      %{{ u }}_mo = vector.shape_cast %{{ u }}_mo3 : vector<1x1x{{ R }}xf32> to {{ row_f }}
      %{{ u }}_mn = arith.maximumf %{{ u }}_mo, %{{ u }}_mx : {{ row_f }}
      %{{ u }}_mn3 = vector.shape_cast %{{ u }}_mn : {{ row_f }} to vector<1x1x{{ R }}xf32>
      tpu.vector_store %m[%h{{ h }}, %i0, %i0], %{{ u }}_mn3 {strides = array<i32>} : {{ stat_t }}, vector<1x1x{{ R }}xf32>,
      %{{ u }}_md = arith.subf %{{ u }}_mo, %{{ u }}_mn : {{ row_f }}
      %{{ u }}_al = math.exp2 %{{ u }}_md : {{ row_f }}
{%- endmacro %}
{#- Probabilities of head `h` from %scores into %probs; the running sum. #}
{%- macro probabilities(p, u, h, keys) %}
      {%- set kr = keys ~ "x" ~ R %}
      %{{ u }}_sl3 = vector.load %scores[%i{{ h % 2 }}, %i0, %i0] : {{ scores_t }}, vector<1x{{ kr }}xf32>
      %{{ u }}_sl = vector.shape_cast %{{ u }}_sl3 : vector<1x{{ kr }}xf32> to vector<{{ kr }}xf32>
      %{{ u }}_mb = vector.broadcast %{{ u }}_mn : {{ row_f }} to vector<{{ kr }}xf32>
      %{{ u }}_d = arith.subf %{{ u }}_sl, %{{ u }}_mb : vector<{{ kr }}xf32>
      %{{ u }}_p = math.exp2 %{{ u }}_d : vector<{{ kr }}xf32>
      %{{ u }}_rs1 = vector.multi_reduction <add>, %{{ u }}_p, %{{ p }}_zero [0] : vector<{{ kr }}xf32> to vector<{{ R }}xf32>
      %{{ u }}_rs = vector.shape_cast %{{ u }}_rs1 : vector<{{ R }}xf32> to {{ row_f }}
      %{{ u }}_lo3 = vector.load %l[%h{{ h }}, %i0, %i0] : {{ stat_t }}, vector<1x1x{{ R }}xf32>
      %{{ u }}_lo = vector.shape_cast %{{ u }}_lo3 : vector<1x1x{{ R }}xf32> to {{ row_f }}
      %{{ u }}_la = arith.mulf %{{ u }}_lo, %{{ u }}_al : {{ row_f }}
      %{{ u }}_ln = arith.addf %{{ u }}_la, %{{ u }}_rs : {{ row_f }}
      %{{ u }}_ln3 = vector.shape_cast %{{ u }}_ln : {{ row_f }} to vector<1x1x{{ R }}xf32>
      tpu.vector_store %l[%h{{ h }}, %i0, %i0], %{{ u }}_ln3 {strides = array<i32>} : {{ stat_t }}, vector<1x1x{{ R }}xf32>,
      {%- if f32 %}
      {%- set prob = u ~ "_p" %}
      {%- else %}
      %{{ u }}_pb = arith.truncf %{{ u }}_p : vector<{{ kr }}xf32> to vector<{{ kr }}xbf16>
      {%- set prob = u ~ "_pb" %}
      {%- endif %}
      %{{ u }}_p3 = vector.shape_cast %{{ prob }} : vector<{{ kr }}x{{ dtype }}> to vector<1x{{ kr }}x{{ dtype }}>
      tpu.vector_store %probs[%i{{ h % 2 }}, %i0, %i0], %{{ u }}_p3 {strides = array<i32>} : {{ probs_t }}, vector<1x{{ kr }}x{{ dtype }}>,
{%- endmacro %}
{#- Result of head `h` from %probs. #}
{%- macro values(p, u, h, keys, edge) %}
      {%- set kd = keys ~ "x" ~ head_dim %}
      {%- set kr = keys ~ "x" ~ R %}
      {%- set dr = head_dim ~ "x" ~ R %}
      %{{ u }}_v4 = vector.load %buf[%slot_i, %i1, %h{{ h }}, %i0, %i0] : {{ buf_t }}, vector<1x1x1x{{ kd }}x{{ dtype }}>
      %{{ u }}_v = vector.shape_cast %{{ u }}_v4 : vector<1x1x1x{{ kd }}x{{ dtype }}> to vector<{{ kd }}x{{ dtype }}>
      {%- if edge %}
      %{{ u }}_vs = arith.select %{{ p }}_live, %{{ u }}_v, %{{ p }}_v0 : vector<{{ kd }}xi1>, vector<{{ kd }}x{{ dtype }}>
      {%- set value = u ~ "_vs" %}
      {%- else %}
      {%- set value = u ~ "_v" %}
      {%- endif %}
      %{{ u }}_pl3 = vector.load %probs[%i{{ h % 2 }}, %i0, %i0] : {{ probs_t }}, vector<1x{{ kr }}x{{ dtype }}>
      %{{ u }}_pl = vector.shape_cast %{{ u }}_pl3 : vector<1x{{ kr }}x{{ dtype }}> to vector<{{ kr }}x{{ dtype }}>
      %{{ u }}_a3 = vector.load %acc[%h{{ h }}, %i0, %i0] : {{ acc_t }}, vector<1x{{ dr }}xf32>
      %{{ u }}_a = vector.shape_cast %{{ u }}_a3 : vector<1x{{ dr }}xf32> to vector<{{ dr }}xf32>
      %{{ u }}_ab = vector.broadcast %{{ u }}_al : {{ row_f }} to vector<{{ dr }}xf32>
      %{{ u }}_as = arith.mulf %{{ u }}_a, %{{ u }}_ab : vector<{{ dr }}xf32>
      %{{ u }}_an = tpu.matmul %{{ value }}, %{{ u }}_pl, %{{ u }}_as {dimension_numbers = #tpu.dot_dimension_numbers<[0], [0], [1], [1], [0, 1, 1, 1], [], []>, {{ prec }}transpose_lhs_hint = false} : vector<{{ kd }}x{{ dtype }}>, vector<{{ kr }}x{{ dtype }}>, vector<{{ dr }}xf32> -> vector<{{ dr }}xf32>
      %{{ u }}_an3 = vector.shape_cast %{{ u }}_an : vector<{{ dr }}xf32> to vector<1x{{ dr }}xf32>
      tpu.vector_store %acc[%h{{ h }}, %i0, %i0], %{{ u }}_an3 {strides = array<i32>} : {{ acc_t }}, vector<1x{{ dr }}xf32>,
{%- endmacro %}
{#- One tile of `keys` keys for every head. The next head's scores come between a head's probabilities and its result:
the matrix unit then has work while the vector unit takes exponentials. #}
{%- macro body(p, keys, edge, counter) %}
      {%- set kd = keys ~ "x" ~ head_dim %}
      {%- set kr = keys ~ "x" ~ R %}
      {%- if edge %}
      %{{ p }}_key = tpu.iota {dimensions = array<i32: 0>} : vector<{{ kr }}xi32>
      %{{ p }}_lob = vector.broadcast %lo : {{ row_i }} to vector<{{ kr }}xi32>
      %{{ p }}_hib = vector.broadcast %hi : {{ row_i }} to vector<{{ kr }}xi32>
      %{{ p }}_ge = arith.cmpi sge, %{{ p }}_key, %{{ p }}_lob : vector<{{ kr }}xi32>
      %{{ p }}_lt = arith.cmpi slt, %{{ p }}_key, %{{ p }}_hib : vector<{{ kr }}xi32>
      %{{ p }}_sees = arith.andi %{{ p }}_ge, %{{ p }}_lt : vector<{{ kr }}xi1>
      %{{ p }}_hidden = arith.constant dense<-1.000000e+30> : vector<{{ kr }}xf32>
      %{{ p }}_vkey = tpu.iota {dimensions = array<i32: 0>} : vector<{{ kd }}xi32>
      %{{ p }}_vn = vector.broadcast %keys : i32 to vector<{{ kd }}xi32>
      %{{ p }}_live = arith.cmpi slt, %{{ p }}_vkey, %{{ p }}_vn : vector<{{ kd }}xi32>
      %{{ p }}_v0 = arith.constant dense<0.000000e+00> : vector<{{ kd }}x{{ dtype }}>
      {%- endif %}
      %{{ p }}_s0 = arith.constant dense<0.000000e+00> : vector<{{ kr }}xf32>
      %{{ p }}_ninf = arith.constant dense<0xFF800000> : vector<{{ R }}xf32>
      %{{ p }}_zero = arith.constant dense<0.000000e+00> : vector<{{ R }}xf32>
      {%- if soft_cap %}
      %{{ p }}_inv = arith.constant dense<{{ scale / soft_cap }}> : vector<{{ kr }}xf32>
      %{{ p }}_cap = arith.constant dense<{{ soft_cap * log2_e }}> : vector<{{ kr }}xf32>
      {%- else %}
      %{{ p }}_factor = arith.constant dense<{{ scale * log2_e }}> : vector<{{ kr }}xf32>
      {%- endif %}
      {{- scores(p, p ~ "0", 0, keys, edge, counter) }}
      {%- for h in range(kv_heads) %}
      {{- probabilities(p, p ~ h, h, keys) }}
      {%- if h + 1 < kv_heads %}
      {{- scores(p, p ~ (h + 1), h + 1, keys, edge, counter) }}
      {%- endif %}
      {{- values(p, p ~ h, h, keys, edge) }}
      {%- endfor %}
{%- endmacro %}
module @{{ name }} {
  func.func @{{ name }}(%t: i32, %head: {{ head_t }}, %tab: {{ tab_t }}, %q: {{ q_t }}, %rows: {{ rows_t }}, %pages: {{ pages_t }}, %new_kv: {{ new_t }}, %o: {{ q_t }}, %buf: {{ buf_t }}, %sem: {{ sem_t }}, %acc: {{ acc_t }}, %m: {{ stat_t }}, %l: {{ stat_t }}, %scores: {{ scores_t }}, %probs: {{ probs_t }}) attributes {dimension_semantics = [#tpu.dimension_semantics<parallel>], iteration_bounds = array<i64: {{ tokens // q_tile }}>, scalar_prefetch = 2 : i64, scratch_operands = 7 : i64, tpu.core_type = #tpu.core_type<tc>, window_params = [{transform_indices = @q_block, window_bounds = array<i64: {{ kv_heads }}, {{ R }}, {{ head_dim }}>}, {transform_indices = @row_block, window_bounds = array<i64: 8, {{ R }}>}, {}, {}, {transform_indices = @q_block, window_bounds = array<i64: {{ kv_heads }}, {{ R }}, {{ head_dim }}>}]} {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %i0 = arith.constant 0 : index
    %i1 = arith.constant 1 : index
    {%- for h in range(kv_heads) %}
    %h{{ h }} = arith.constant {{ h }} : index
    {%- endfor %}
    // The planner's offsets count from the start of its tensor; tables start behind header and rows.
    %behind = arith.constant {{ header + row_sections * tokens }} : i32
    {%- for out, at in [("offsets", word_tile_offsets), ("tiles", word_tiles), ("pages", word_pages)] %}
    %w_{{ out }} = arith.constant {{ at }} : index
    %r_{{ out }} = memref.load %head[%w_{{ out }}] : {{ head_t }}
    %{{ out }}_at = arith.subi %r_{{ out }}, %behind : i32
    {%- endfor %}
    %w_live = arith.constant {{ word_num_q_tiles }} : index
    %q_tiles = memref.load %head[%w_live] : {{ head_t }}
    // Query tiles of padding rows visit nothing; their offsets are read from the last live one.
    %last = arith.subi %q_tiles, %c1 : i32
    %tc = arith.minsi %t, %last : i32
    %oa = arith.addi %offsets_at, %tc : i32
    %oi = arith.index_cast %oa : i32 to index
    %first = memref.load %tab[%oi] : {{ tab_t }}
    %ob = arith.addi %oa, %c1 : i32
    %oj = arith.index_cast %ob : i32 to index
    %listed = memref.load %tab[%oj] : {{ tab_t }}
    %live = arith.cmpi slt, %t, %q_tiles : i32
    %end = arith.select %live, %listed, %first : i32
    %acc0 = arith.constant dense<0.000000e+00> : vector<{{ kv_heads }}x{{ head_dim }}x{{ R }}xf32>
    tpu.vector_store %acc[%i0, %i0, %i0], %acc0 {strides = array<i32>} : {{ acc_t }}, vector<{{ kv_heads }}x{{ head_dim }}x{{ R }}xf32>,
    %m0 = arith.constant dense<-1.000000e+20> : vector<{{ kv_heads }}x8x{{ R }}xf32>
    tpu.vector_store %m[%i0, %i0, %i0], %m0 {strides = array<i32>} : {{ stat_t }}, vector<{{ kv_heads }}x8x{{ R }}xf32>,
    %l0 = arith.constant dense<0.000000e+00> : vector<{{ kv_heads }}x8x{{ R }}xf32>
    tpu.vector_store %l[%i0, %i0, %i0], %l0 {strides = array<i32>} : {{ stat_t }}, vector<{{ kv_heads }}x8x{{ R }}xf32>,
    %own_start = vector.load %rows[%i0, %i0] : {{ rows_t }}, {{ row_i }}
    %r1 = arith.constant {{ section_own_key }} : index
    %own_key = vector.load %rows[%r1, %i0] : {{ rows_t }}, {{ row_i }}
    %ones = arith.constant dense<1> : {{ row_i }}
    %own_end = arith.addi %own_key, %ones : {{ row_i }}
    %row = tpu.iota {dimensions = array<i32: 1>} : {{ row_i }}
    %words = arith.constant {{ tile_words }} : i32
    %some = arith.cmpi slt, %first, %end : i32
    scf.if %some {
      %a_off = arith.muli %first, %words : i32
      %a_at = arith.addi %tiles_at, %a_off : i32
      %a_slot = arith.constant 0 : i32
      {{- copies("a", "start") }}
      scf.yield
    }
    scf.for %i = %first to %end step %c1 : i32 {
      %nth = arith.subi %i, %first : i32
      %slot = arith.andi %nth, %c1 : i32
      %slot_i = arith.index_cast %slot : i32 to index
      %off = arith.muli %i, %words : i32
      %at = arith.addi %tiles_at, %off : i32
      %ni = arith.addi %i, %c1 : i32
      %more = arith.cmpi slt, %ni, %end : i32
      scf.if %more {
        %b_off = arith.muli %ni, %words : i32
        %b_at = arith.addi %tiles_at, %b_off : i32
        %b_slot = arith.subi %c1, %slot : i32
        {{- copies("b", "start") }}
        scf.yield
      }
      %w_at = arith.addi %at, %c0 : i32
      %w_slot = arith.addi %slot, %c0 : i32
      {{- copies("w", "wait") }}
      {{- word("full", "at", tile_full) }}
      %is_full = arith.cmpi eq, %full, %c1 : i32
      scf.if %is_full {
        {{- body("f", kv_tile, false, "full_tiles") }}
        scf.yield
      } else {
        {{- word("kind", "at", tile_kind) }}
        {{- word("keys", "at", tile_keys) }}
        {{- word("whole_lo", "at", tile_whole_lo) }}
        {{- word("whole_hi", "at", tile_whole_hi) }}
        {{- word("base", "at", tile_key_base) }}
        // The interval [lo, hi) of keys that each row sees in this tile.
        %group = arith.constant {{ group }} : i32
        %wlo = arith.muli %whole_lo, %group : i32
        %whi = arith.muli %whole_hi, %group : i32
        %wlo_v = vector.broadcast %wlo : i32 to {{ row_i }}
        %whi_v = vector.broadcast %whi : i32 to {{ row_i }}
        %in_lo = arith.cmpi sge, %row, %wlo_v : {{ row_i }}
        %in_hi = arith.cmpi slt, %row, %whi_v : {{ row_i }}
        %whole = arith.andi %in_lo, %in_hi : {{ row_b }}
        %n_v = vector.broadcast %keys : i32 to {{ row_i }}
        %base_v = vector.broadcast %base : i32 to {{ row_i }}
        %own_hi = arith.subi %own_end, %base_v : {{ row_i }}
        %own_hin = arith.minsi %own_hi, %n_v : {{ row_i }}
        %hi = arith.select %whole, %n_v, %own_hin : {{ row_b }}, {{ row_i }}
        %own_lo = arith.subi %own_start, %base_v : {{ row_i }}
        {%- if window %}
        {{- word("position", "at", tile_position) }}
        %r2 = arith.constant {{ section_position }} : index
        %row_position = vector.load %rows[%r2, %i0] : {{ rows_t }}, {{ row_i }}
        // Sliding window: no key at or below position - window.
        %reach = arith.constant dense<{{ window }}> : {{ row_i }}
        %own_reach = arith.subi %own_hi, %reach : {{ row_i }}
        %lo_own = arith.maxsi %own_lo, %own_reach : {{ row_i }}
        %tile_pos = vector.broadcast %position : i32 to {{ row_i }}
        %ahead = arith.subi %row_position, %tile_pos : {{ row_i }}
        %ahead1 = arith.addi %ahead, %ones : {{ row_i }}
        %lo_whole = arith.subi %ahead1, %reach : {{ row_i }}
        %lo = arith.select %whole, %lo_whole, %lo_own : {{ row_b }}, {{ row_i }}
        {%- else %}
        %zeros = arith.constant dense<0> : {{ row_i }}
        %lo = arith.select %whole, %zeros, %own_lo : {{ row_b }}, {{ row_i }}
        {%- endif %}
        %ks = arith.constant {{ kind_slots }} : i32
        %is_slots = arith.cmpi eq, %kind, %ks : i32
        scf.if %is_slots {
          {{- body("s", own_tile, true, "slot_tiles") }}
          scf.yield
        } else {
          {{- body("e", kv_tile, true, "edge_tiles") }}
          scf.yield
        }
        scf.yield
      }
      scf.yield
    }
    %tiny = arith.constant dense<1.000000e-30> : {{ row_f }}
    // Full tiles compute padding rows too: they give 0 whatever their q holds.
    %no_key = arith.constant dense<0> : {{ row_i }}
    %real = arith.cmpi sge, %own_key, %no_key : {{ row_i }}
    %real_b = vector.broadcast %real : {{ row_b }} to vector<{{ head_dim }}x{{ R }}xi1>
    %padding = arith.constant dense<0.000000e+00> : vector<{{ head_dim }}x{{ R }}xf32>
    {%- for h in range(kv_heads) %}
    %o{{ h }}_l3 = vector.load %l[%h{{ h }}, %i0, %i0] : {{ stat_t }}, vector<1x1x{{ R }}xf32>
    %o{{ h }}_l = vector.shape_cast %o{{ h }}_l3 : vector<1x1x{{ R }}xf32> to {{ row_f }}
    %o{{ h }}_ls = arith.maximumf %o{{ h }}_l, %tiny : {{ row_f }}
    %o{{ h }}_inv = tpu.reciprocal %o{{ h }}_ls {approx = false} : {{ row_f }} -> {{ row_f }}
    %o{{ h }}_invb = vector.broadcast %o{{ h }}_inv : {{ row_f }} to vector<{{ head_dim }}x{{ R }}xf32>
    %o{{ h }}_a3 = vector.load %acc[%h{{ h }}, %i0, %i0] : {{ acc_t }}, vector<1x{{ head_dim }}x{{ R }}xf32>
    %o{{ h }}_a = vector.shape_cast %o{{ h }}_a3 : vector<1x{{ head_dim }}x{{ R }}xf32> to vector<{{ head_dim }}x{{ R }}xf32>
    %o{{ h }}_m = arith.mulf %o{{ h }}_a, %o{{ h }}_invb : vector<{{ head_dim }}x{{ R }}xf32>
    %o{{ h }}_n = arith.select %real_b, %o{{ h }}_m, %padding : vector<{{ head_dim }}x{{ R }}xi1>, vector<{{ head_dim }}x{{ R }}xf32>
    {%- if f32 %}
    {%- set result = "o" ~ h ~ "_n" %}
    {%- else %}
    %o{{ h }}_b = arith.truncf %o{{ h }}_n : vector<{{ head_dim }}x{{ R }}xf32> to vector<{{ head_dim }}x{{ R }}xbf16>
    {%- set result = "o" ~ h ~ "_b" %}
    {%- endif %}
    %o{{ h }}_t = tpu.transpose %{{ result }}, [1, 0] : vector<{{ head_dim }}x{{ R }}x{{ dtype }}> -> vector<{{ R }}x{{ head_dim }}x{{ dtype }}>
    %o{{ h }}_t3 = vector.shape_cast %o{{ h }}_t : vector<{{ R }}x{{ head_dim }}x{{ dtype }}> to vector<1x{{ R }}x{{ head_dim }}x{{ dtype }}>
    tpu.vector_store %o[%h{{ h }}, %i0, %i0], %o{{ h }}_t3 {strides = array<i32>} : {{ q_t }}, vector<1x{{ R }}x{{ head_dim }}x{{ dtype }}>,
    {%- endfor %}
    return
  }
  func.func @q_block(%t: i32, %head: {{ head_t }}, %tab: {{ tab_t }}) -> (i32, i32, i32) {
    %z = arith.constant 0 : i32
    return %z, %t, %z : i32, i32, i32
  }
  func.func @row_block(%t: i32, %head: {{ head_t }}, %tab: {{ tab_t }}) -> (i32, i32) {
    %z = arith.constant 0 : i32
    return %z, %t : i32, i32
  }
}
