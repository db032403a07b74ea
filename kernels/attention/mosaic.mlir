{#- Ragged paged attention with a shared prefix, for TPU.

Algorithm. The grid walks query tiles. For each, a loop walks exactly the key tiles that the planner listed, with a
running maximum m, a running sum l and an unnormalised result acc for every row (online softmax).

Row blocks. A query tile is one block of rows, or several of {row_block} tokens. With several, a table entry is a step: a key
tile for one block. Steps of one tile follow one another and share its copy; blocks without a row that sees the tile have
no step. So sequences with few new tokens compute few lanes, and long prefixes are still copied once a query tile. What
running softmax keeps, acc, m and l, every block has of its own.

Copies. The table lists tiles in the order of their use, whatever their query tile; copy i comes by DMA into buffer i mod
{depth} of a ring: the table's tiles, or with several row blocks those of the planner's list of copies. A step of the loop
starts the copy that is {depth} - 1 ahead and awaits the next tile's, so copies run ahead across query tiles too, and grid
steps follow one another.

Orientation. Scores are kept transposed, S^T = K Q^T: keys on sublanes, query rows on lanes. Softmax maxima and sums
then run down sublanes, on the vector unit, without crossing lanes; the result is kept as O^T = V^T P^T and turned
once at the end. A query row is (token, head of its group), so K and V are loaded once for all heads of a group.

Data. q, o [kv_heads, T * group, head_dim];
rows [8, T * group] i32: own_start, own_key, position of every row; pages [pool, 2, kv_heads, page_size, head_dim];
new_kv [2, kv_heads, slots, head_dim]: new keys and values in slot order; head and tables: the planner's words; at [1]: page
of the pool from which the planner's pages count.

Body. A step computes probabilities and result of its tile and the scores of the next one: for each head in turn the
probabilities, the next tile's scores, the result. The matrix unit so has work while the vector unit takes exponentials, and
nothing waits for a product of the same step. Scores of all heads lie in VMEM from one step to the next, with the factor al
that rescales older sums. A query tile begins with scores alone, and its last step writes the result instead; with several
row blocks the results are written behind the last step.

Tiles. Full: every row sees every key that exists, no mask. Edge: a row sees the keys [lo, hi) of the tile. Keys of packed
short segments come in slot tiles of {own_tile}, all others in tiles of {kv_tile}. Slot tiles come first. With several row
blocks no tile is full, for a mask costs next to nothing there, and any tile of at most {own_tile} keys is computed like a
slot tile. (A form for whole tiles without mask was measured: 899 slots instead of 914 at 256 keys, eight heads, v6e.)

Masks. A mask is a bias of 0 or -inf, made once a tile and added to the scores of every head, in the matrix product where
nothing stands between. A full tile may be short: its missing keys are copies of its first ones, which leave the maximum as
it is, and their scores are hidden before probabilities are taken.

Scale. Scores are scaled in f32, times log2(e): softmax works in base 2. A factor folded into a bf16 q would round it. So q
times the factor is the sum of two bf16 terms, 16 bits together, both contracted with k at once: heads of up to 128 fill half
of the 256 elements that a matrix unit of v6e and v7x contracts, and a multiplication of every score is more than the vector
unit has time for. On v5e, whose units contract 128, the tiling asks for scaled scores; larger heads and f32 scale them too.

Pairs. Blocks of 128 rows fill only half of a 256-wide unit's other side, and then the half that two terms would take is worth
more for a second head: keys of two heads side by side, contracted with a block diagonal of their queries, give the scores of
both side by side on 256 lanes in the time of one. Scores are scaled then.

Invariants.
- Every copy that was started is awaited before the body that reads it, and none is in flight at the end.
- A buffer is filled again only after the step that takes its values.
- A masked score is -inf while running maxima start at the least finite number: its probability is exactly 0, also in rows
  that have seen nothing yet, and the maximum of any finite score is right. Padding rows give 0. Any other row sees itself: where
  all its scores are -inf it gives NaN, 0 / 0.
- Behind a tile's key count a copy leaves anything, NaN included: keys and values there are replaced in the buffer.
- NaN in a live query, key or value reaches every row that sees it. A NaN or infinity in a key or value also reaches rows that
  compute its tile and do not see it: 0 times it is NaN, and so is -inf plus infinity. Finite ones reach only rows that see them.
- A short full tile has at least {run_align} keys.
- A plan of another identity, or of pages that do not lie in the pool from the first page on, has no tiles: nothing of it is
  read but the header, and all rows are NaN.
#}
{%- set R = row_block * group %}
{%- set blocks = q_tile // row_block %}
{%- set many = blocks > 1 %}
{%- set log2_e = 1.4426950408889634 %}
{%- set f32 = dtype == "f32" %}
{%- set prec = "precision = #tpu.contract_precision<fp32>, " if f32 else "" %}
{%- set smem = "#tpu.memory_space<smem>" %}
{%- set vmem = "#tpu.memory_space<vmem>" %}
{%- set any = "#tpu.memory_space<any>" %}
{%- set sems = "#tpu.memory_space<semaphore_mem>" %}
{%- set head_t = "memref<" ~ header ~ "xi32, " ~ smem ~ ">" %}
{%- set at_t = "memref<1xi32, " ~ smem ~ ">" %}
{%- set tab_t = "memref<" ~ table_words ~ "xi32, " ~ smem ~ ">" %}
{%- set q_t = "memref<" ~ kv_heads ~ "x" ~ blocks * R ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set rows_t = "memref<8x" ~ blocks * R ~ "xi32, " ~ vmem ~ ">" %}
{%- set pages_t = "memref<" ~ pool_pages ~ "x2x" ~ kv_heads ~ "x" ~ page_size ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
{%- set new_t = "memref<2x" ~ kv_heads ~ "x" ~ key_slots ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
{%- set depth = 8 if many else 4 %}
{%- set buf_t = "memref<" ~ depth ~ "x2x" ~ kv_heads ~ "x" ~ kv_tile ~ "x" ~ head_dim ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set sem_t = "memref<" ~ depth ~ "x!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set sem1_t = "memref<1x!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set sem0_t = "memref<!tpu.dma_semaphore, " ~ sems ~ ">" %}
{#- Arrays that a row block has its own part of start with its dimension. -#}
{%- set per_block = blocks ~ "x" if many else "" %}
{%- set one = "1x" if many else "" %}
{%- set acc_t = "memref<" ~ per_block ~ kv_heads ~ "x" ~ head_dim ~ "x" ~ R ~ "xf32, " ~ vmem ~ ">" %}
{#- Heads whose scores are one product: two where 128 rows fill half of a 256-wide matrix unit. -#}
{%- set paired = not f32 and R == 128 and head_dim == 128 and kv_heads % 2 == 0 and not scaled_scores %}
{%- set width = 2 if paired else 1 %}
{%- set sets = kv_heads // width %}
{%- set W = width * R %}
{%- set step_t = "memref<" ~ sets ~ "x8x" ~ W ~ "xf32, " ~ vmem ~ ">" %}
{%- set stat_t = "memref<" ~ per_block ~ sets ~ "x8x" ~ W ~ "xf32, " ~ vmem ~ ">" %}
{%- set scores_t = "memref<" ~ sets ~ "x" ~ kv_tile ~ "x" ~ W ~ "xf32, " ~ vmem ~ ">" %}
{%- set probs_t = "memref<" ~ sets ~ "x" ~ kv_tile ~ "x" ~ W ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set bias_t = "memref<" ~ kv_tile ~ "x" ~ W ~ "xf32, " ~ vmem ~ ">" %}
{%- set granule = 16 if kv_tile % 16 == 0 and own_tile % 16 == 0 else 8 %}
{#- Half of a 256-wide matrix unit is idle at 128 contracted elements: q in two bf16 terms fits in. -#}
{%- set split = not f32 and head_dim <= 128 and not scaled_scores and not paired %}
{%- set factor = scale / soft_cap if soft_cap else scale * log2_e %}
{%- set qd = 2 * head_dim %}
{%- set qs_t = "memref<" ~ per_block ~ sets ~ "x" ~ qd ~ "x" ~ W ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set row_i = "vector<1x" ~ R ~ "xi32>" %}
{%- set row_f = "vector<1x" ~ W ~ "xf32>" %}
{%- set head_f = "vector<1x" ~ R ~ "xf32>" %}
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
{#- Row block, copy and buffer of step %at; %{out}_fresh where it is the first of its copy. #}
{%- macro step(out, at) %}
      %{{ out }}_wa = arith.addi %steps_at, %{{ at }} : i32
      %{{ out }}_wi = arith.index_cast %{{ out }}_wa : i32 to index
      %{{ out }}_w = memref.load %tab[%{{ out }}_wi] : {{ tab_t }}
      %{{ out }}_mask_s = arith.constant {{ step_fresh - 1 }} : i32
      %{{ out }}_flag_s = arith.constant {{ step_fresh }} : i32
      %{{ out }}_shift_s = arith.constant {{ step_copy_shift }} : i32
      %{{ out }}_none_s = arith.constant 0 : i32
      %{{ out }}_blk = arith.andi %{{ out }}_w, %{{ out }}_mask_s : i32
      %{{ out }}_block = arith.index_cast %{{ out }}_blk : i32 to index
      %{{ out }}_fr = arith.andi %{{ out }}_w, %{{ out }}_flag_s : i32
      %{{ out }}_fresh = arith.cmpi ne, %{{ out }}_fr, %{{ out }}_none_s : i32
      %{{ out }}_copy = arith.shrsi %{{ out }}_w, %{{ out }}_shift_s : i32
      %{{ out }}_buf = arith.andi %{{ out }}_copy, %ring : i32
{%- endmacro %}
{#- Table entry %{out}_at of copy %at. #}
{%- macro copy_entry(out, at) %}
      %{{ out }}_ca = arith.addi %copies_at, %{{ at }} : i32
      %{{ out }}_ci = arith.index_cast %{{ out }}_ca : i32 to index
      %{{ out }}_entry = memref.load %tab[%{{ out }}_ci] : {{ tab_t }}
      %{{ out }}_off = arith.muli %{{ out }}_entry, %words : i32
      %{{ out }}_at = arith.addi %tiles_at, %{{ out }}_off : i32
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
{#- What a copy needs of table entry %{p}_at. #}
{%- macro entry(p) %}
      {{- word(p ~ "_kind", p ~ "_at", tile_kind) }}
      {{- word(p ~ "_start", p ~ "_at", tile_start) }}
      {{- word(p ~ "_keys", p ~ "_at", tile_keys) }}
{%- endmacro %}
{#- Whether table entry %{p}_at has the size of a slot tile; with several row blocks, any of as few keys. #}
{%- macro is_short(out, p) %}
      {%- if many %}
      %{{ out }}_most = arith.constant {{ own_tile }} : i32
      %{{ out }} = arith.cmpi sle, %{{ p }}_keys, %{{ out }}_most : i32
      {%- else %}
      %{{ out }}_kind = arith.constant {{ kind_slots }} : i32
      %{{ out }} = arith.cmpi eq, %{{ p }}_kind, %{{ out }}_kind : i32
      {%- endif %}
{%- endmacro %}
{#- Starts or awaits the copies of table entry %{p}_at into buffer %{p}_slot. #}
{%- macro copies(p, op) %}
      {{- slot_sem(p, p ~ "_slot") }}
      %{{ p }}_kp = arith.constant {{ kind_pages }} : i32
      %{{ p }}_is_pages = arith.cmpi eq, %{{ p }}_kind, %{{ p }}_kp : i32
      scf.if %{{ p }}_is_pages {
        %{{ p }}_ps = arith.constant {{ page_size }} : i32
        %{{ p }}_up = arith.constant {{ page_size - 1 }} : i32
        %{{ p }}_ku = arith.addi %{{ p }}_keys, %{{ p }}_up : i32
        {%- for bits in range(3, 11) %}
        {%- if 2 ** bits == page_size %}
        %{{ p }}_bits = arith.constant {{ bits }} : i32
        {%- endif %}
        {%- endfor %}
        %{{ p }}_np = arith.shrsi %{{ p }}_ku, %{{ p }}_bits : i32
        {%- if op == "start" %}
        // Read anew in every step: a scalar that lives as long as the loop would be spilled.
        %{{ p }}_base = memref.load %at[%i0] : {{ at_t }}
        %{{ p }}_list = arith.addi %pages_at, %{{ p }}_start : i32
        {%- endif %}
        scf.for %{{ p }}_j = %c0 to %{{ p }}_np step %c1 : i32 {
          {%- if op == "start" %}
          %{{ p }}_pa = arith.addi %{{ p }}_list, %{{ p }}_j : i32
          %{{ p }}_pi = arith.index_cast %{{ p }}_pa : i32 to index
          %{{ p }}_id = memref.load %tab[%{{ p }}_pi] : {{ tab_t }}
          %{{ p }}_page = arith.addi %{{ p }}_id, %{{ p }}_base : i32
          {%- else %}
          // A wait counts bytes: any page will do.
          %{{ p }}_page = arith.constant 0 : i32
          {%- endif %}
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
        {{- is_short(p ~ "_is_slots", p) }}
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

{#- Replaces what lies behind the keys of table entry %{p}_at in its buffer %{p}_slot, for NaN would outlive every mask: values
by 0, keys by the tile's first ones, or 0 where there are no 16. -#}
{%- macro clean(p) %}
      {%- set gd = granule ~ "x" ~ head_dim %}
      %{{ p }}_all = arith.constant {{ kv_tile }} : i32
      %{{ p }}_own = arith.constant {{ own_tile }} : i32
      {{- is_short(p ~ "_is_own", p) }}
      %{{ p }}_size = arith.select %{{ p }}_is_own, %{{ p }}_own, %{{ p }}_all : i32
      %{{ p }}_granule = arith.constant {{ granule }} : i32
      %{{ p }}_shift = arith.constant {{ 4 if granule == 16 else 3 }} : i32
      %{{ p }}_dirty = arith.shrsi %{{ p }}_keys, %{{ p }}_shift : i32
      %{{ p }}_granules = arith.shrsi %{{ p }}_size, %{{ p }}_shift : i32
      %{{ p }}_slot_i = arith.index_cast %{{ p }}_slot : i32 to index
      scf.for %{{ p }}_g = %{{ p }}_dirty to %{{ p }}_granules step %c1 : i32 {
        %{{ p }}_at_row = arith.muli %{{ p }}_g, %{{ p }}_granule : i32
        %{{ p }}_at_i = arith.index_cast %{{ p }}_at_row : i32 to index
        %{{ p }}_key = tpu.iota {dimensions = array<i32: 0>} : vector<{{ gd }}xi32>
        %{{ p }}_left = arith.subi %{{ p }}_keys, %{{ p }}_at_row : i32
        %{{ p }}_left_v = vector.broadcast %{{ p }}_left : i32 to vector<{{ gd }}xi32>
        %{{ p }}_keep = arith.cmpi slt, %{{ p }}_key, %{{ p }}_left_v : vector<{{ gd }}xi32>
        %{{ p }}_keys_v = vector.broadcast %{{ p }}_keys : i32 to vector<{{ gd }}xi32>
        %{{ p }}_there = arith.cmpi slt, %{{ p }}_key, %{{ p }}_keys_v : vector<{{ gd }}xi32>
        %{{ p }}_none = arith.constant dense<0.000000e+00> : vector<{{ gd }}x{{ dtype }}>
        // All loads come first: the compiler cannot know that they are from other places than the stores.
        {%- for h in range(kv_heads) %}
        {%- for kv in range(2) %}
        {%- set u = p ~ "_" ~ "kv"[kv] ~ h ~ "_" %}
        %{{ u }}5 = vector.load %buf[%{{ p }}_slot_i, %i{{ kv }}, %h{{ h }}, %{{ p }}_at_i, %i0] : {{ buf_t }}, vector<1x1x1x{{ gd }}x{{ dtype }}>
        %{{ u }} = vector.shape_cast %{{ u }}5 : vector<1x1x1x{{ gd }}x{{ dtype }}> to vector<{{ gd }}x{{ dtype }}>
        {%- if kv == 0 %}
        %{{ u }}f5 = vector.load %buf[%{{ p }}_slot_i, %i0, %h{{ h }}, %i0, %i0] : {{ buf_t }}, vector<1x1x1x{{ gd }}x{{ dtype }}>
        %{{ u }}f = vector.shape_cast %{{ u }}f5 : vector<1x1x1x{{ gd }}x{{ dtype }}> to vector<{{ gd }}x{{ dtype }}>
        %{{ u }}r = arith.select %{{ p }}_there, %{{ u }}f, %{{ p }}_none : vector<{{ gd }}xi1>, vector<{{ gd }}x{{ dtype }}>
        %{{ u }}c = arith.select %{{ p }}_keep, %{{ u }}, %{{ u }}r : vector<{{ gd }}xi1>, vector<{{ gd }}x{{ dtype }}>
        {%- else %}
        %{{ u }}c = arith.select %{{ p }}_keep, %{{ u }}, %{{ p }}_none : vector<{{ gd }}xi1>, vector<{{ gd }}x{{ dtype }}>
        {%- endif %}
        {%- endfor %}
        {%- endfor %}
        {%- for h in range(kv_heads) %}
        {%- for kv in range(2) %}
        {%- set u = p ~ "_" ~ "kv"[kv] ~ h ~ "_" %}
        %{{ u }}c5 = vector.shape_cast %{{ u }}c : vector<{{ gd }}x{{ dtype }}> to vector<1x1x1x{{ gd }}x{{ dtype }}>
        tpu.vector_store %buf[%{{ p }}_slot_i, %i{{ kv }}, %h{{ h }}, %{{ p }}_at_i, %i0], %{{ u }}c5 {strides = array<i32>} : {{ buf_t }}, vector<1x1x1x{{ gd }}x{{ dtype }}>,
        {%- endfor %}
        {%- endfor %}
        scf.yield
      }
{%- endmacro %}
{#- Hides the scores of keys that the full tile of table entry %c_at lacks: they are those of its first keys. #}
{%- macro hide() %}
      {%- set gr = granule ~ "x" ~ W %}
      %c_granule = arith.constant {{ granule }} : i32
      %c_shift = arith.constant {{ 4 if granule == 16 else 3 }} : i32
      %c_lacking = arith.shrsi %c_keys, %c_shift : i32
      %c_all = arith.constant {{ kv_tile // granule }} : i32
      %c_granules = arith.select %c_is_full, %c_all, %c_lacking : i32
      scf.for %c_g = %c_lacking to %c_granules step %c1 : i32 {
        %c_row = arith.muli %c_g, %c_granule : i32
        %c_row_i = arith.index_cast %c_row : i32 to index
        %c_left = arith.subi %c_keys, %c_row : i32
        %c_left_v = vector.broadcast %c_left : i32 to vector<{{ gr }}xi32>
        %c_key = tpu.iota {dimensions = array<i32: 0>} : vector<{{ gr }}xi32>
        %c_keep = arith.cmpi slt, %c_key, %c_left_v : vector<{{ gr }}xi32>
        %c_hidden = arith.constant dense<0xFF800000> : vector<{{ gr }}xf32>
        {%- for h in range(sets) %}
        %cs{{ h }}_3 = vector.load %scores[%h{{ h }}, %c_row_i, %i0] : {{ scores_t }}, vector<1x{{ gr }}xf32>
        %cs{{ h }} = vector.shape_cast %cs{{ h }}_3 : vector<1x{{ gr }}xf32> to vector<{{ gr }}xf32>
        %cs{{ h }}_s = arith.select %c_keep, %cs{{ h }}, %c_hidden : vector<{{ gr }}xi1>, vector<{{ gr }}xf32>
        %cs{{ h }}_s3 = vector.shape_cast %cs{{ h }}_s : vector<{{ gr }}xf32> to vector<1x{{ gr }}xf32>
        tpu.vector_store %scores[%h{{ h }}, %c_row_i, %i0], %cs{{ h }}_s3 {strides = array<i32>} : {{ scores_t }}, vector<1x{{ gr }}xf32>,
        {%- endfor %}
        scf.yield
      }
{%- endmacro %}
{#- The interval [%{u}_lo, %{u}_hi) of keys that each row sees in the tile of table entry %{p}_at. #}
{%- macro interval(p, u, slots) %}
        {%- set lane = "i0" %}
        {%- if many %}
        %{{ u }}_lanes = arith.constant {{ R }} : i32
        %{{ u }}_lane32 = arith.muli %{{ p }}_blk, %{{ u }}_lanes : i32
        %{{ u }}_lane = arith.index_cast %{{ u }}_lane32 : i32 to index
        {%- set lane = u ~ "_lane" %}
        {%- endif %}
        {{- word(u ~ "_n", p ~ "_at", tile_keys) }}
        {{- word(u ~ "_base", p ~ "_at", tile_key_base) }}
        %{{ u }}_n_v = vector.broadcast %{{ u }}_n : i32 to {{ row_i }}
        %{{ u }}_base_v = vector.broadcast %{{ u }}_base : i32 to {{ row_i }}
        %{{ u }}_own_start = vector.load %rows[%i0, %{{ lane }}] : {{ rows_t }}, {{ row_i }}
        %{{ u }}_r1 = arith.constant {{ section_own_key }} : index
        %{{ u }}_own_key = vector.load %rows[%{{ u }}_r1, %{{ lane }}] : {{ rows_t }}, {{ row_i }}
        %{{ u }}_ones = arith.constant dense<1> : {{ row_i }}
        %{{ u }}_own_end = arith.addi %{{ u }}_own_key, %{{ u }}_ones : {{ row_i }}
        %{{ u }}_own_past = arith.subi %{{ u }}_own_end, %{{ u }}_base_v : {{ row_i }}
        %{{ u }}_own_hi = arith.minsi %{{ u }}_own_past, %{{ u }}_n_v : {{ row_i }}
        {%- if window %}
        // Sliding window: no key at or below position - window.
        %{{ u }}_run_lo = arith.subi %{{ u }}_own_start, %{{ u }}_base_v : {{ row_i }}
        %{{ u }}_reach = arith.constant dense<{{ window }}> : {{ row_i }}
        %{{ u }}_own_reach = arith.subi %{{ u }}_own_past, %{{ u }}_reach : {{ row_i }}
        %{{ u }}_own_lo = arith.maxsi %{{ u }}_run_lo, %{{ u }}_own_reach : {{ row_i }}
        {%- else %}
        %{{ u }}_own_lo = arith.subi %{{ u }}_own_start, %{{ u }}_base_v : {{ row_i }}
        {%- endif %}
        {%- if not slots %}
        {{- word(u ~ "_wlo", p ~ "_at", tile_whole_lo) }}
        {{- word(u ~ "_whi", p ~ "_at", tile_whole_hi) }}
        %{{ u }}_group = arith.constant {{ group }} : i32
        %{{ u }}_from = arith.muli %{{ u }}_wlo, %{{ u }}_group : i32
        %{{ u }}_to = arith.muli %{{ u }}_whi, %{{ u }}_group : i32
        %{{ u }}_from_v = vector.broadcast %{{ u }}_from : i32 to {{ row_i }}
        %{{ u }}_to_v = vector.broadcast %{{ u }}_to : i32 to {{ row_i }}
        %{{ u }}_row = tpu.iota {dimensions = array<i32: 1>} : {{ row_i }}
        %{{ u }}_behind = arith.cmpi sge, %{{ u }}_row, %{{ u }}_from_v : {{ row_i }}
        %{{ u }}_before = arith.cmpi slt, %{{ u }}_row, %{{ u }}_to_v : {{ row_i }}
        %{{ u }}_whole = arith.andi %{{ u }}_behind, %{{ u }}_before : {{ row_b }}
        %{{ u }}_hi = arith.select %{{ u }}_whole, %{{ u }}_n_v, %{{ u }}_own_hi : {{ row_b }}, {{ row_i }}
        {%- if window %}
        {{- word(u ~ "_position", p ~ "_at", tile_position) }}
        %{{ u }}_r2 = arith.constant {{ section_position }} : index
        %{{ u }}_row_position = vector.load %rows[%{{ u }}_r2, %{{ lane }}] : {{ rows_t }}, {{ row_i }}
        %{{ u }}_tile_pos = vector.broadcast %{{ u }}_position : i32 to {{ row_i }}
        %{{ u }}_ahead = arith.subi %{{ u }}_row_position, %{{ u }}_tile_pos : {{ row_i }}
        %{{ u }}_ahead1 = arith.addi %{{ u }}_ahead, %{{ u }}_ones : {{ row_i }}
        %{{ u }}_whole_lo = arith.subi %{{ u }}_ahead1, %{{ u }}_reach : {{ row_i }}
        {%- else %}
        %{{ u }}_whole_lo = arith.constant dense<0> : {{ row_i }}
        {%- endif %}
        %{{ u }}_lo = arith.select %{{ u }}_whole, %{{ u }}_whole_lo, %{{ u }}_own_lo : {{ row_b }}, {{ row_i }}
        {%- endif %}
{%- endmacro %}
{#- %bias of a tile of `keys` keys whose rows see [%{lo}, %{hi}): 0, or -inf. #}
{%- macro bias(p, lo, hi, keys) %}
      {%- set kr = keys ~ "x" ~ W %}
      // lo <= key < hi is one comparison of key - lo with hi - lo without signs: both less 2^31, with signs.
      %{{ p }}_nought = arith.constant dense<0> : {{ row_i }}
      %{{ p }}_least = arith.constant dense<-2147483648> : {{ row_i }}
      %{{ p }}_span = arith.subi %{{ hi }}, %{{ lo }} : {{ row_i }}
      %{{ p }}_some = arith.maxsi %{{ p }}_span, %{{ p }}_nought : {{ row_i }}
      %{{ p }}_lim = arith.addi %{{ p }}_some, %{{ p }}_least : {{ row_i }}
      %{{ p }}_off = arith.addi %{{ lo }}, %{{ p }}_least : {{ row_i }}
      {%- set row_w = "vector<1x" ~ W ~ "xi32>" %}
      {%- if paired %}
      %{{ p }}_off_w = tpu.concatenate %{{ p }}_off, %{{ p }}_off in 1 : {{ row_i }}, {{ row_i }} -> {{ row_w }}
      %{{ p }}_lim_w = tpu.concatenate %{{ p }}_lim, %{{ p }}_lim in 1 : {{ row_i }}, {{ row_i }} -> {{ row_w }}
      {%- endif %}
      {%- set wide = "_w" if paired else "" %}
      %{{ p }}_key = tpu.iota {dimensions = array<i32: 0>} : vector<{{ kr }}xi32>
      %{{ p }}_offb = vector.broadcast %{{ p }}_off{{ wide }} : {{ row_w }} to vector<{{ kr }}xi32>
      %{{ p }}_limb = vector.broadcast %{{ p }}_lim{{ wide }} : {{ row_w }} to vector<{{ kr }}xi32>
      %{{ p }}_far = arith.subi %{{ p }}_key, %{{ p }}_offb : vector<{{ kr }}xi32>
      %{{ p }}_sees = arith.cmpi slt, %{{ p }}_far, %{{ p }}_limb : vector<{{ kr }}xi32>
      %{{ p }}_hidden = arith.constant dense<0xFF800000> : vector<{{ kr }}xf32>
      %{{ p }}_seen = arith.constant dense<0.000000e+00> : vector<{{ kr }}xf32>
      %{{ p }}_bias = arith.select %{{ p }}_sees, %{{ p }}_seen, %{{ p }}_hidden : vector<{{ kr }}xi1>, vector<{{ kr }}xf32>
      tpu.vector_store %bias[%i0, %i0], %{{ p }}_bias {strides = array<i32>} : {{ bias_t }}, vector<{{ kr }}xf32>,
{%- endmacro %}
{#- Scores of head `h` for `keys` keys of buffer %{slot}: %scores, the running maximum, and what rescales older sums. #}
{%- macro scores(p, h, keys, masked, slot, counter) %}
      {%- set u = p ~ "a" ~ h %}
      {%- set wide_q = split or paired %}
      {%- set rq = (qd ~ "x" ~ W) if wide_q else (R ~ "x" ~ head_dim) %}
      {%- set kd = keys ~ "x" ~ head_dim %}
      {%- set kr = keys ~ "x" ~ W %}
      {%- for j in range(width) %}
      %{{ u }}_k{{ j }}5 = vector.load %buf[%{{ slot }}, %i0, %h{{ width * h + j }}, %i0, %i0] : {{ buf_t }}, vector<1x1x1x{{ kd }}x{{ dtype }}>{% if h == 0 and j == 0 %} // count: {{ counter }}{% endif %}
      %{{ u }}_k{{ j }} = vector.shape_cast %{{ u }}_k{{ j }}5 : vector<1x1x1x{{ kd }}x{{ dtype }}> to vector<{{ kd }}x{{ dtype }}>
      {%- endfor %}
      {%- set in_product = masked and wide_q and not soft_cap %}
      {%- if masked %}
      %{{ u }}_b = vector.load %bias[%i0, %i0] : {{ bias_t }}, vector<{{ kr }}xf32>
      {%- endif %}
      %{{ u }}_q3 = vector.load %{{ "qs" if wide_q else "q" }}[{{ "%x_block, " if many and wide_q }}%h{{ h }}, {{ "%" ~ p ~ "_q_row" if many and not wide_q else "%i0" }}, %i0] : {{ qs_t if wide_q else q_t }}, vector<{{ one if wide_q }}1x{{ rq }}x{{ dtype }}>
      %{{ u }}_q = vector.shape_cast %{{ u }}_q3 : vector<{{ one if wide_q }}1x{{ rq }}x{{ dtype }}> to vector<{{ rq }}x{{ dtype }}>
      {%- set kk = u ~ "_k0" %}
      {%- if wide_q %}
      %{{ u }}_kk = tpu.concatenate %{{ u }}_k0, %{{ u }}_k{{ width - 1 }} in 1 : vector<{{ kd }}x{{ dtype }}>, vector<{{ kd }}x{{ dtype }}> -> vector<{{ keys }}x{{ qd }}x{{ dtype }}>
      {%- set kk = u ~ "_kk" %}
      {%- endif %}
      %{{ u }}_qk = tpu.matmul %{{ kk }}, %{{ u }}_q, %{{ u ~ "_b" if in_product else p ~ "_s0" }} {dimension_numbers = #tpu.dot_dimension_numbers<{{ "[1], [0], [0], [1], [0, 0, 1, 1]" if wide_q else "[1], [1], [0], [0], [0, 0, 1, 0]" }}, [], []>, {{ prec }}transpose_lhs_hint = false} : vector<{{ keys }}x{{ qd if wide_q else head_dim }}x{{ dtype }}>, vector<{{ rq }}x{{ dtype }}>, vector<{{ kr }}xf32> -> vector<{{ kr }}xf32>
      {%- set score = u ~ "_qk" %}
      {%- if not split %}
      %{{ u }}_sc = arith.mulf %{{ score }}, %{{ p }}_factor : vector<{{ kr }}xf32>
      {%- set score = u ~ "_sc" %}
      {%- endif %}
      {%- if soft_cap %}
      %{{ u }}_tanh = math.tanh %{{ score }} : vector<{{ kr }}xf32>
      %{{ u }}_capped = arith.mulf %{{ u }}_tanh, %{{ p }}_cap : vector<{{ kr }}xf32>
      {%- set score = u ~ "_capped" %}
      {%- endif %}
      {%- if masked and not in_product %}
      %{{ u }}_s = arith.addf %{{ score }}, %{{ u }}_b : vector<{{ kr }}xf32>
      {%- set score = u ~ "_s" %}
      {%- endif %}
      %{{ u }}_s3 = vector.shape_cast %{{ score }} : vector<{{ kr }}xf32> to vector<1x{{ kr }}xf32>
      tpu.vector_store %scores[%h{{ h }}, %i0, %i0], %{{ u }}_s3 {strides = array<i32>} : {{ scores_t }}, vector<1x{{ kr }}xf32>,
      %{{ u }}_mx1 = vector.multi_reduction <maximumf>, %{{ score }}, %{{ p }}_ninf [0] : vector<{{ kr }}xf32> to vector<{{ W }}xf32>
      %{{ u }}_mx = vector.shape_cast %{{ u }}_mx1 : vector<{{ W }}xf32> to {{ row_f }}
      %{{ u }}_mo3 = vector.load %m[{{ "%x_block, " if many }}%h{{ h }}, %i0, %i0] : {{ stat_t }}, vector<{{ one }}1x1x{{ W }}xf32>
      %{{ u }}_mo = vector.shape_cast %{{ u }}_mo3 : vector<{{ one }}1x1x{{ W }}xf32> to {{ row_f }}
      %{{ u }}_mn = arith.maximumf %{{ u }}_mo, %{{ u }}_mx : {{ row_f }}
      %{{ u }}_mn3 = vector.shape_cast %{{ u }}_mn : {{ row_f }} to vector<{{ one }}1x1x{{ W }}xf32>
      tpu.vector_store %m[{{ "%x_block, " if many }}%h{{ h }}, %i0, %i0], %{{ u }}_mn3 {strides = array<i32>} : {{ stat_t }}, vector<{{ one }}1x1x{{ W }}xf32>,
      {%- if many %}
      %{{ u }}_ms3 = vector.shape_cast %{{ u }}_mn : {{ row_f }} to vector<1x1x{{ W }}xf32>
      tpu.vector_store %ms[%h{{ h }}, %i0, %i0], %{{ u }}_ms3 {strides = array<i32>} : {{ step_t }}, vector<1x1x{{ W }}xf32>,
      {%- endif %}
      %{{ u }}_md = arith.subf %{{ u }}_mo, %{{ u }}_mn : {{ row_f }}
      %{{ u }}_al = math.exp2 %{{ u }}_md : {{ row_f }}
      %{{ u }}_al3 = vector.shape_cast %{{ u }}_al : {{ row_f }} to vector<1x1x{{ W }}xf32>
      tpu.vector_store %al[%h{{ h }}, %i0, %i0], %{{ u }}_al3 {strides = array<i32>} : {{ step_t }}, vector<1x1x{{ W }}xf32>,
{%- endmacro %}
{%- macro score_constants(p, keys) %}
      {%- set kr = keys ~ "x" ~ W %}
      %{{ p }}_s0 = arith.constant dense<0.000000e+00> : vector<{{ kr }}xf32>
      %{{ p }}_ninf = arith.constant dense<0xFF800000> : vector<{{ W }}xf32>
      {%- if not split %}
      %{{ p }}_factor = arith.constant dense<{{ factor }}> : vector<{{ kr }}xf32>
      {%- endif %}
      {%- if soft_cap %}
      %{{ p }}_cap = arith.constant dense<{{ soft_cap * log2_e }}> : vector<{{ kr }}xf32>
      {%- endif %}
{%- endmacro %}
{#- Probabilities of head `h` from %scores into %probs; the running sum. #}
{%- macro probabilities(p, h, keys) %}
            {%- set u = p ~ "b" ~ h %}
      {%- set kr = keys ~ "x" ~ W %}
      %{{ u }}_al3 = vector.load %al[%h{{ h }}, %i0, %i0] : {{ step_t }}, vector<1x1x{{ W }}xf32>
      %{{ u }}_al = vector.shape_cast %{{ u }}_al3 : vector<1x1x{{ W }}xf32> to {{ row_f }}
      %{{ u }}_m3 = vector.load %{{ "ms" if many else "m" }}[%h{{ h }}, %i0, %i0] : {{ step_t }}, vector<1x1x{{ W }}xf32>
      %{{ u }}_m = vector.shape_cast %{{ u }}_m3 : vector<1x1x{{ W }}xf32> to {{ row_f }}
      %{{ u }}_s3 = vector.load %scores[%h{{ h }}, %i0, %i0] : {{ scores_t }}, vector<1x{{ kr }}xf32>
      %{{ u }}_s = vector.shape_cast %{{ u }}_s3 : vector<1x{{ kr }}xf32> to vector<{{ kr }}xf32>
      %{{ u }}_mb = vector.broadcast %{{ u }}_m : {{ row_f }} to vector<{{ kr }}xf32>
      %{{ u }}_d = arith.subf %{{ u }}_s, %{{ u }}_mb : vector<{{ kr }}xf32>
      %{{ u }}_p = math.exp2 %{{ u }}_d : vector<{{ kr }}xf32>
      %{{ u }}_rs1 = vector.multi_reduction <add>, %{{ u }}_p, %{{ p }}_zero_sum [0] : vector<{{ kr }}xf32> to vector<{{ W }}xf32>
      %{{ u }}_rs = vector.shape_cast %{{ u }}_rs1 : vector<{{ W }}xf32> to {{ row_f }}
      %{{ u }}_lo3 = vector.load %l[{{ "%c_block, " if many }}%h{{ h }}, %i0, %i0] : {{ stat_t }}, vector<{{ one }}1x1x{{ W }}xf32>
      %{{ u }}_lo = vector.shape_cast %{{ u }}_lo3 : vector<{{ one }}1x1x{{ W }}xf32> to {{ row_f }}
      %{{ u }}_la = arith.mulf %{{ u }}_lo, %{{ u }}_al : {{ row_f }}
      %{{ u }}_ln = arith.addf %{{ u }}_la, %{{ u }}_rs : {{ row_f }}
      %{{ u }}_ln3 = vector.shape_cast %{{ u }}_ln : {{ row_f }} to vector<{{ one }}1x1x{{ W }}xf32>
      tpu.vector_store %l[{{ "%c_block, " if many }}%h{{ h }}, %i0, %i0], %{{ u }}_ln3 {strides = array<i32>} : {{ stat_t }}, vector<{{ one }}1x1x{{ W }}xf32>,
      {%- if f32 %}
      {%- set prob = u ~ "_p" %}
      {%- else %}
      %{{ u }}_pb = arith.truncf %{{ u }}_p : vector<{{ kr }}xf32> to vector<{{ kr }}xbf16>
      {%- set prob = u ~ "_pb" %}
      {%- endif %}
      %{{ u }}_p3 = vector.shape_cast %{{ prob }} : vector<{{ kr }}x{{ dtype }}> to vector<1x{{ kr }}x{{ dtype }}>
      tpu.vector_store %probs[%h{{ h }}, %i0, %i0], %{{ u }}_p3 {strides = array<i32>} : {{ probs_t }}, vector<1x{{ kr }}x{{ dtype }}>,
{%- endmacro %}
{#- Result of head `h` from %probs. #}
{%- macro values(p, h, keys) %}
            {%- set u = p ~ "c" ~ h %}
      {%- set kd = keys ~ "x" ~ head_dim %}
      {%- set kr = keys ~ "x" ~ R %}
      {%- set dr = head_dim ~ "x" ~ R %}
      %{{ u }}_v5 = vector.load %buf[%slot_i, %i1, %h{{ h }}, %i0, %i0] : {{ buf_t }}, vector<1x1x1x{{ kd }}x{{ dtype }}>
      %{{ u }}_v = vector.shape_cast %{{ u }}_v5 : vector<1x1x1x{{ kd }}x{{ dtype }}> to vector<{{ kd }}x{{ dtype }}>
      {%- set lanes = (h % width) * R %}
      %{{ u }}_lanes = arith.constant {{ lanes }} : index
      %{{ u }}_p3 = vector.load %probs[%h{{ h // width }}, %i0, %{{ u }}_lanes] : {{ probs_t }}, vector<1x{{ kr }}x{{ dtype }}>
      %{{ u }}_p = vector.shape_cast %{{ u }}_p3 : vector<1x{{ kr }}x{{ dtype }}> to vector<{{ kr }}x{{ dtype }}>
      %{{ u }}_o3 = vector.load %acc[{{ "%c_block, " if many }}%h{{ h }}, %i0, %i0] : {{ acc_t }}, vector<{{ one }}1x{{ dr }}xf32>
      %{{ u }}_o = vector.shape_cast %{{ u }}_o3 : vector<{{ one }}1x{{ dr }}xf32> to vector<{{ dr }}xf32>
      {%- set al = p ~ "b" ~ h // width ~ "_al" %}
      {%- if paired %}
      %{{ u }}_al = vector.extract_strided_slice %{{ al }} offsets = [0, {{ lanes }}], sizes = [1, {{ R }}], strides = [1, 1] : {{ row_f }} to {{ head_f }}
      {%- set al = u ~ "_al" %}
      {%- endif %}
      %{{ u }}_alb = vector.broadcast %{{ al }} : {{ head_f }} to vector<{{ dr }}xf32>
      %{{ u }}_os = arith.mulf %{{ u }}_o, %{{ u }}_alb : vector<{{ dr }}xf32>
      %{{ u }}_on = tpu.matmul %{{ u }}_v, %{{ u }}_p, %{{ u }}_os {dimension_numbers = #tpu.dot_dimension_numbers<[0], [0], [1], [1], [0, 1, 1, 1], [], []>, {{ prec }}transpose_lhs_hint = false} : vector<{{ kd }}x{{ dtype }}>, vector<{{ kr }}x{{ dtype }}>, vector<{{ dr }}xf32> -> vector<{{ dr }}xf32>
      %{{ u }}_on3 = vector.shape_cast %{{ u }}_on : vector<{{ dr }}xf32> to vector<{{ one }}1x{{ dr }}xf32>
      tpu.vector_store %acc[{{ "%c_block, " if many }}%h{{ h }}, %i0, %i0], %{{ u }}_on3 {strides = array<i32>} : {{ acc_t }}, vector<{{ one }}1x{{ dr }}xf32>,
{%- endmacro %}
{%- set counters = {"full": "full_tiles", "edge": "edge_tiles", "slots": "slot_tiles"} %}
{%- set sizes = {"full": kv_tile, "edge": kv_tile, "slots": own_tile} %}
{#- What precedes scores of a tile of a kind, table entry %x_at. #}
{%- macro prelude(p, kind) %}
      {{- score_constants(p, sizes[kind]) }}
      {%- if kind != "full" %}
      {{- interval("x", p, kind == "slots" and not many) }}
      {%- set own = "_own" if kind == "slots" and not many else "" %}
      {{- bias(p, p ~ own ~ "_lo", p ~ own ~ "_hi", sizes[kind]) }}
      {%- endif %}
      {%- if many and not (split or paired) %}
      %{{ p }}_q_lanes = arith.constant {{ R }} : i32
      %{{ p }}_q_row32 = arith.muli %x_blk, %{{ p }}_q_lanes : i32
      %{{ p }}_q_row = arith.index_cast %{{ p }}_q_row32 : i32 to index
      {%- endif %}
{%- endmacro %}
{#- Scores of head `h` for the tile of table entry %x_at in buffer %{slot}. #}
{%- macro scores_of(p, h, kind, slot) %}
      {{- scores(p, h, sizes[kind], kind != "full", slot, counters[kind]) }}
{%- endmacro %}
{#- The first key tile of a query tile: scores of all heads. #}
{%- macro begin(p, kind) %}
      {{- prelude(p, kind) }}
      {%- if not many %}
      {{- init(p) }}
      {%- endif %}
      {%- for h in range(sets) %}
      {%- if not many %}
      {{- prepare(p, h) }}
      {%- endif %}
      {{- scores_of(p, h, kind, "first_i") }}
      {%- endfor %}
{%- endmacro %}
{%- macro init(p) %}
    {%- set at = "%" ~ p ~ "_block, " if many else "" %}
    %{{ p }}_acc0 = arith.constant dense<0.000000e+00> : vector<{{ one }}{{ kv_heads }}x{{ head_dim }}x{{ R }}xf32>
    tpu.vector_store %acc[{{ at }}%i0, %i0, %i0], %{{ p }}_acc0 {strides = array<i32>} : {{ acc_t }}, vector<{{ one }}{{ kv_heads }}x{{ head_dim }}x{{ R }}xf32>,
    %{{ p }}_m0 = arith.constant dense<0xFF7FFFFF> : vector<{{ one }}{{ sets }}x8x{{ W }}xf32>
    tpu.vector_store %m[{{ at }}%i0, %i0, %i0], %{{ p }}_m0 {strides = array<i32>} : {{ stat_t }}, vector<{{ one }}{{ sets }}x8x{{ W }}xf32>,
    %{{ p }}_l0 = arith.constant dense<0.000000e+00> : vector<{{ one }}{{ sets }}x8x{{ W }}xf32>
    tpu.vector_store %l[{{ at }}%i0, %i0, %i0], %{{ p }}_l0 {strides = array<i32>} : {{ stat_t }}, vector<{{ one }}{{ sets }}x8x{{ W }}xf32>,
{%- endmacro %}
{%- macro prepare(p, h) %}
    {%- set at = "%" ~ p ~ "_block, " if many else "" %}
    {%- set row = "%" ~ p ~ "_row" if many else "%i0" %}
    {%- set u = p ~ "q" ~ h %}
    {%- set rd = R ~ "x" ~ head_dim %}
    {%- set dr = head_dim ~ "x" ~ R %}
    {%- if split %}
    %{{ u }}_3 = vector.load %q[%h{{ h }}, {{ row }}, %i0] : {{ q_t }}, vector<1x{{ rd }}x{{ dtype }}>
    %{{ u }} = vector.shape_cast %{{ u }}_3 : vector<1x{{ rd }}x{{ dtype }}> to vector<{{ rd }}x{{ dtype }}>
    %{{ u }}_t = tpu.transpose %{{ u }}, [1, 0] : vector<{{ rd }}x{{ dtype }}> -> vector<{{ dr }}x{{ dtype }}>
    %{{ u }}_f = arith.extf %{{ u }}_t : vector<{{ dr }}x{{ dtype }}> to vector<{{ dr }}xf32>
    %{{ u }}_c = arith.constant dense<{{ factor }}> : vector<{{ dr }}xf32>
    %{{ u }}_x = arith.mulf %{{ u }}_f, %{{ u }}_c : vector<{{ dr }}xf32>
    %{{ u }}_h = arith.truncf %{{ u }}_x : vector<{{ dr }}xf32> to vector<{{ dr }}x{{ dtype }}>
    %{{ u }}_h3 = vector.shape_cast %{{ u }}_h : vector<{{ dr }}x{{ dtype }}> to vector<{{ one }}1x{{ dr }}x{{ dtype }}>
    %{{ u }}_at0 = arith.constant 0 : index
    tpu.vector_store %qs[{{ at }}%h{{ h }}, %{{ u }}_at0, %i0], %{{ u }}_h3 {strides = array<i32>} : {{ qs_t }}, vector<{{ one }}1x{{ dr }}x{{ dtype }}>,
    {%- if split %}
    %{{ u }}_hf = arith.extf %{{ u }}_h : vector<{{ dr }}x{{ dtype }}> to vector<{{ dr }}xf32>
    %{{ u }}_r = arith.subf %{{ u }}_x, %{{ u }}_hf : vector<{{ dr }}xf32>
    %{{ u }}_l = arith.truncf %{{ u }}_r : vector<{{ dr }}xf32> to vector<{{ dr }}x{{ dtype }}>
    %{{ u }}_l3 = vector.shape_cast %{{ u }}_l : vector<{{ dr }}x{{ dtype }}> to vector<{{ one }}1x{{ dr }}x{{ dtype }}>
    %{{ u }}_at1 = arith.constant {{ head_dim }} : index
    tpu.vector_store %qs[{{ at }}%h{{ h }}, %{{ u }}_at1, %i0], %{{ u }}_l3 {strides = array<i32>} : {{ qs_t }}, vector<{{ one }}1x{{ dr }}x{{ dtype }}>,
    {%- endif %}
    {%- endif %}
    {%- if paired %}
    // The diagonal of a block matrix, whose rest is 0: two heads' keys side by side give their scores side by side.
    {%- for j in range(2) %}
    {%- set w = u ~ "_" ~ j %}
    %{{ w }}_3 = vector.load %q[%h{{ 2 * h + j }}, {{ row }}, %i0] : {{ q_t }}, vector<1x{{ rd }}x{{ dtype }}>
    %{{ w }} = vector.shape_cast %{{ w }}_3 : vector<1x{{ rd }}x{{ dtype }}> to vector<{{ rd }}x{{ dtype }}>
    %{{ w }}_t = tpu.transpose %{{ w }}, [1, 0] : vector<{{ rd }}x{{ dtype }}> -> vector<{{ dr }}x{{ dtype }}>
    %{{ w }}_t3 = vector.shape_cast %{{ w }}_t : vector<{{ dr }}x{{ dtype }}> to vector<{{ one }}1x{{ dr }}x{{ dtype }}>
    %{{ w }}_row = arith.constant {{ j * head_dim }} : index
    %{{ w }}_lane = arith.constant {{ j * R }} : index
    tpu.vector_store %qs[{{ at }}%h{{ h }}, %{{ w }}_row, %{{ w }}_lane], %{{ w }}_t3 {strides = array<i32>} : {{ qs_t }}, vector<{{ one }}1x{{ dr }}x{{ dtype }}>,
    {%- endfor %}
    {%- endif %}
{%- endmacro %}
{#- One tile for every head: probabilities and result; between them scores of the next tile of the query tile, or behind
them, for the last one, what leaves the kernel. #}
{%- macro body(p, slots, next) %}
      {%- set keys = own_tile if slots else kv_tile %}
      {%- if next %}
      {{- prelude(p, next) }}
      {%- elif not many %}
      {{- finish_constants(p) }}
      {%- endif %}
      %{{ p }}_zero_sum = arith.constant dense<0.000000e+00> : vector<{{ W }}xf32>
      {%- for g in range(sets) %}
      {{- probabilities(p, g, keys) }}
      {%- if next %}
      {{- scores_of(p, g, next, "next_i") }}
      {%- endif %}
      {%- for h in range(g * width, g * width + width) %}
      {{- values(p, h, keys) }}
      {%- if not next and not many %}
      {{- finish(p, h) }}
      {%- endif %}
      {%- endfor %}
      {%- endfor %}
{%- endmacro %}
{#- The body for a tile whose next one is of one of these kinds, or the first scores of a tile of one of them. #}
{%- set letter = {"full": "f", "slots": "s", "edge": "e"} %}
{%- macro bodies(p, slots, kinds) %}
      {%- if kinds | length == 1 %}
      {{- body(p ~ letter[kinds[0]], slots, kinds[0]) }}
      {%- else %}
      scf.if %next_{{ kinds[0] }} {
      {{- body(p ~ letter[kinds[0]], slots, kinds[0]) }}
      scf.yield
      } else {
      {{- bodies(p, slots, kinds[1:]) }}
      scf.yield
      }
      {%- endif %}
{%- endmacro %}
{%- macro begins(kinds) %}
      {%- if kinds | length == 1 %}
      {{- begin(letter[kinds[0]] ~ "b", kinds[0]) }}
      {%- else %}
      scf.if %next_{{ kinds[0] }} {
      {{- begin(letter[kinds[0]] ~ "b", kinds[0]) }}
      scf.yield
      } else {
      {{- begins(kinds[1:]) }}
      scf.yield
      }
      {%- endif %}
{%- endmacro %}
{%- set dr = head_dim ~ "x" ~ R %}
{%- macro finish_constants(p) %}
    // Full tiles compute padding rows too: they give 0 whatever their q holds.
    %{{ p }}_r1 = arith.constant {{ section_own_key }} : index
    %{{ p }}_own_key = vector.load %rows[%{{ p }}_r1, {{ "%" ~ p ~ "_row" if many else "%i0" }}] : {{ rows_t }}, {{ row_i }}
    %{{ p }}_no_key = arith.constant dense<0> : {{ row_i }}
    %{{ p }}_real = arith.cmpi sge, %{{ p }}_own_key, %{{ p }}_no_key : {{ row_i }}
    %{{ p }}_real_b = vector.broadcast %{{ p }}_real : {{ row_b }} to vector<{{ dr }}xi1>
    %{{ p }}_padding = arith.constant dense<0.000000e+00> : vector<{{ dr }}xf32>
{%- endmacro %}
{#- Result of head `h`, divided by the sum and turned. #}
{%- macro finish(p, h) %}
    {%- set u = p ~ "o" ~ h %}
    {%- set at = "%" ~ p ~ "_block, " if many else "" %}
    %{{ u }}_lanes = arith.constant {{ (h % width) * R }} : index
    %{{ u }}_l3 = vector.load %l[{{ at }}%h{{ h // width }}, %i0, %{{ u }}_lanes] : {{ stat_t }}, vector<{{ one }}1x1x{{ R }}xf32>
    %{{ u }}_l = vector.shape_cast %{{ u }}_l3 : vector<{{ one }}1x1x{{ R }}xf32> to {{ head_f }}
    %{{ u }}_inv = tpu.reciprocal %{{ u }}_l {approx = false} : {{ head_f }} -> {{ head_f }}
    %{{ u }}_invb = vector.broadcast %{{ u }}_inv : {{ head_f }} to vector<{{ dr }}xf32>
    %{{ u }}_a3 = vector.load %acc[{{ at }}%h{{ h }}, %i0, %i0] : {{ acc_t }}, vector<{{ one }}1x{{ dr }}xf32>
    %{{ u }}_a = vector.shape_cast %{{ u }}_a3 : vector<{{ one }}1x{{ dr }}xf32> to vector<{{ dr }}xf32>
    %{{ u }}_m = arith.mulf %{{ u }}_a, %{{ u }}_invb : vector<{{ dr }}xf32>
    %{{ u }}_n = arith.select %{{ p }}_real_b, %{{ u }}_m, %{{ p }}_padding : vector<{{ dr }}xi1>, vector<{{ dr }}xf32>
    {%- if f32 %}
    {%- set result = u ~ "_n" %}
    {%- else %}
    %{{ u }}_b = arith.truncf %{{ u }}_n : vector<{{ dr }}xf32> to vector<{{ dr }}xbf16>
    {%- set result = u ~ "_b" %}
    {%- endif %}
    %{{ u }}_t = tpu.transpose %{{ result }}, [1, 0] : vector<{{ dr }}x{{ dtype }}> -> vector<{{ R }}x{{ head_dim }}x{{ dtype }}>
    %{{ u }}_t3 = vector.shape_cast %{{ u }}_t : vector<{{ R }}x{{ head_dim }}x{{ dtype }}> to vector<1x{{ R }}x{{ head_dim }}x{{ dtype }}>
    tpu.vector_store %o[%h{{ h }}, {{ "%" ~ p ~ "_row" if many else "%i0" }}, %i0], %{{ u }}_t3 {strides = array<i32>} : {{ q_t }}, vector<1x{{ R }}x{{ head_dim }}x{{ dtype }}>,
{%- endmacro %}
module @{{ name }} {
  func.func @{{ name }}(%t: i32, %head: {{ head_t }}, %tab: {{ tab_t }}, %at: {{ at_t }}, %q: {{ q_t }}, %rows: {{ rows_t }}, %pages: {{ pages_t }}, %new_kv: {{ new_t }}, %o: {{ q_t }}, %buf: {{ buf_t }}, %sem: {{ sem_t }}, %acc: {{ acc_t }}, %m: {{ stat_t }}, %l: {{ stat_t }}, %scores: {{ scores_t }}, %probs: {{ probs_t }}, %bias: {{ bias_t }}, %al: {{ step_t }}{% if many %}, %ms: {{ step_t }}{% endif %}{% if split or paired %}, %qs: {{ qs_t }}{% endif %}) attributes {dimension_semantics = [#tpu.dimension_semantics<arbitrary>], iteration_bounds = array<i64: {{ tokens // q_tile }}>, scalar_prefetch = 3 : i64, scratch_operands = {{ 9 + (1 if split or paired else 0) + (1 if many else 0) }} : i64, tpu.core_type = #tpu.core_type<tc>, window_params = [{transform_indices = @q_block, window_bounds = array<i64: {{ kv_heads }}, {{ blocks * R }}, {{ head_dim }}>}, {transform_indices = @row_block, window_bounds = array<i64: 8, {{ blocks * R }}>}, {}, {}, {transform_indices = @q_block, window_bounds = array<i64: {{ kv_heads }}, {{ blocks * R }}, {{ head_dim }}>}]} {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %i0 = arith.constant 0 : index
    %i1 = arith.constant 1 : index
    {%- for h in range(kv_heads) %}
    %h{{ h }} = arith.constant {{ h }} : index
    {%- endfor %}
    // A plan that is not this kernel's, or whose pool, counted from the first page, is not within this one, has no tiles.
    %w_identity = arith.constant {{ word_identity }} : index
    %plan_identity = memref.load %head[%w_identity] : {{ head_t }}
    %identity = arith.constant {{ identity }} : i32
    %is_ours = arith.cmpi eq, %plan_identity, %identity : i32
    %w_pool = arith.constant {{ word_pool_pages }} : index
    %plan_pool = memref.load %head[%w_pool] : {{ head_t }}
    %first_page = memref.load %at[%i0] : {{ at_t }}
    %pool = arith.constant {{ pool_pages }} : i32
    %most = arith.subi %pool, %plan_pool : i32
    %not_below = arith.cmpi sge, %first_page, %c0 : i32
    %not_above = arith.cmpi sle, %first_page, %most : i32
    %in_pool = arith.andi %not_below, %not_above : i1
    %taken = arith.andi %is_ours, %in_pool : i1
    // The planner's offsets count from the start of its tensor; tables start behind header and rows.
    %behind = arith.constant {{ header + row_sections * tokens }} : i32
    {%- for out, at in [("offsets", word_tile_offsets), ("tiles", word_tiles), ("pages", word_pages), ("steps", word_steps), ("copies", word_copies)] if many or not out in ["steps", "copies"] %}
    %w_{{ out }} = arith.constant {{ at }} : index
    %r_{{ out }} = memref.load %head[%w_{{ out }}] : {{ head_t }}
    {%- if out in ["offsets", "copies"] %}
    %s_{{ out }} = arith.subi %r_{{ out }}, %behind : i32
    %{{ out }}_at = arith.select %taken, %s_{{ out }}, %c1 : i32
    {%- else %}
    %{{ out }}_at = arith.subi %r_{{ out }}, %behind : i32
    {%- endif %}
    {%- endfor %}
    %w_live = arith.constant {{ word_num_q_tiles }} : index
    %listed_tiles = memref.load %head[%w_live] : {{ head_t }}
    %q_tiles = arith.select %taken, %listed_tiles, %c0 : i32
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
    %words = arith.constant {{ tile_words }} : i32
    %total_o = arith.addi %offsets_at, %q_tiles : i32
    %total_i = arith.index_cast %total_o : i32 to index
    %all_tiles = memref.load %tab[%total_i] : {{ tab_t }}
    %total = arith.select %taken, %all_tiles, %c0 : i32
    %ring = arith.constant {{ depth - 1 }} : i32
    %is_first = arith.cmpi eq, %t, %c0 : i32
    {%- set copies_all = "total" %}
    {%- if many %}
    // The list of copies starts with their number.
    %copies_n = arith.subi %copies_at, %c1 : i32
    %copies_i = arith.index_cast %copies_n : i32 to index
    %listed_copies = memref.load %tab[%copies_i] : {{ tab_t }}
    %copies_all = arith.select %taken, %listed_copies, %c0 : i32
    {%- set copies_all = "copies_all" %}
    {%- endif %}
    scf.if %is_first {
      {%- if paired %}
      %blank = arith.constant dense<0.000000e+00> : vector<{{ per_block }}{{ sets }}x{{ qd }}x{{ W }}x{{ dtype }}>
      tpu.vector_store %qs[{{ "%i0, " if many }}%i0, %i0, %i0], %blank {strides = array<i32>} : {{ qs_t }}, vector<{{ per_block }}{{ sets }}x{{ qd }}x{{ W }}x{{ dtype }}>,
      {%- endif %}
      %primed = arith.minsi %{{ copies_all }}, %ring : i32
      scf.for %a_slot = %c0 to %primed step %c1 : i32 {
        {%- if many %}
        {{- copy_entry("a", "a_slot") }}
        {%- else %}
        %a_off = arith.muli %a_slot, %words : i32
        %a_at = arith.addi %tiles_at, %a_off : i32
        {%- endif %}
        {{- entry("a") }}
        {{- copies("a", "start") }}
        scf.yield
      }
      %z_some = arith.cmpi slt, %c0, %total : i32
      scf.if %z_some {
        %z_at = arith.addi %tiles_at, %c0 : i32
        %z_slot = arith.constant 0 : i32
        {{- entry("z") }}
        {{- copies("z", "wait") }}
        {{- clean("z") }}
        scf.yield
      }
      scf.yield
    }
    %some = arith.cmpi slt, %first, %end : i32
    scf.if %some {
      %x_off = arith.muli %first, %words : i32
      %x_at = arith.addi %tiles_at, %x_off : i32
      {{- word("x_full", "x_at", tile_full) }}
      {{- word("x_kind", "x_at", tile_kind) }}
      {%- if many %}
      {{- word("x_keys", "x_at", tile_keys) }}
      {%- endif %}
      {{- is_short("next_slots", "x") }}
      {%- if many %}
      {{- step("x", "first") }}
      %first_i = arith.index_cast %x_buf : i32 to index
      %blocks = arith.constant {{ blocks }} : i32
      %rows_b = arith.constant {{ R }} : i32
      scf.for %p_blk = %c0 to %blocks step %c1 : i32 {
        %p_block = arith.index_cast %p_blk : i32 to index
        %p_row32 = arith.muli %p_blk, %rows_b : i32
        %p_row = arith.index_cast %p_row32 : i32 to index
        {{- init("p") }}
        {%- for h in range(sets) %}
        {{- prepare("p", h) }}
        {%- endfor %}
        scf.yield
      }
      {%- else %}
      %first_s = arith.andi %first, %ring : i32
      %first_i = arith.index_cast %first_s : i32 to index
      %next_full = arith.cmpi eq, %x_full, %c1 : i32
      {%- endif %}
      {{- begins(["slots", "edge"] if many else ["full", "slots", "edge"]) }}
      scf.yield
    } else {
      {%- set all_t = "vector<" ~ kv_heads ~ "x" ~ blocks * R ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
      scf.if %taken {
        // Rows of padding alone.
        %nothing = arith.constant dense<0.000000e+00> : {{ all_t }}
        tpu.vector_store %o[%i0, %i0, %i0], %nothing {strides = array<i32>} : {{ q_t }}, {{ all_t }},
        scf.yield
      } else {
        %refused = arith.constant dense<{{ "0x7FC00000" if f32 else "0x7FC0" }}> : {{ all_t }}
        tpu.vector_store %o[%i0, %i0, %i0], %refused {strides = array<i32>} : {{ q_t }}, {{ all_t }},
        scf.yield
      }
      scf.yield
    }
    scf.for %i = %first to %end step %c1 : i32 {
      %ni = arith.addi %i, %c1 : i32
      %off = arith.muli %i, %words : i32
      %c_at = arith.addi %tiles_at, %off : i32
      // All words that decide about this step, in one go: a load from SMEM takes a while.
      %x_at = arith.addi %c_at, %words : i32
      {%- if many %}
      {{- step("c", "i") }}
      {{- step("x", "ni") }}
      %slot = arith.andi %c_copy, %ring : i32
      {%- else %}
      %slot = arith.andi %i, %ring : i32
      {%- endif %}
      %slot_i = arith.index_cast %slot : i32 to index
      {{- word("c_kind", "c_at", tile_kind) }}
      {{- word("c_keys", "c_at", tile_keys) }}
      {{- word("c_full", "c_at", tile_full) }}
      {{- entry("x") }}
      {{- word("x_full", "x_at", tile_full) }}
      %c_is_full = arith.cmpi eq, %c_full, %c1 : i32
      {{- is_short("this_slots", "c") }}
      %next_full = arith.cmpi eq, %x_full, %c1 : i32
      {{- is_short("next_slots", "x") }}
      %bi = arith.addi %{{ "c_copy" if many else "i" }}, %ring : i32
      %ahead = arith.cmpi slt, %bi, %{{ copies_all }} : i32
      {%- if many %}
      %more = arith.andi %ahead, %c_fresh : i1
      {%- endif %}
      scf.if %{{ "more" if many else "ahead" }} {
        {%- if many %}
        {{- copy_entry("b", "bi") }}
        {%- else %}
        %b_off = arith.muli %bi, %words : i32
        %b_at = arith.addi %tiles_at, %b_off : i32
        {%- endif %}
        %b_slot = arith.andi %bi, %ring : i32
        {{- entry("b") }}
        {{- copies("b", "start") }}
        scf.yield
      }
      %x_slot = arith.andi %{{ "x_copy" if many else "ni" }}, %ring : i32
      %next_i = arith.index_cast %x_slot : i32 to index
      %another = arith.cmpi slt, %ni, %total : i32
      {%- if many %}
      %follows = arith.andi %another, %x_fresh : i1
      {%- endif %}
      scf.if %{{ "follows" if many else "another" }} {
        {{- copies("x", "wait") }}
        {{- clean("x") }}
        scf.yield
      }
      %inside = arith.cmpi slt, %ni, %end : i32
      {%- if not many %}
      {{- hide() }}
      {%- endif %}
      scf.if %inside {
        scf.if %this_slots {
          {{- bodies("s", true, ["slots", "edge"] if many else ["full", "slots", "edge"]) }}
          scf.yield
        } else {
          {{- bodies("k", false, ["slots", "edge"] if many else ["full", "edge"]) }}
          scf.yield
        }
        scf.yield
      } else {
        scf.if %this_slots {
          {{- body("s", true, none) }}
          scf.yield
        } else {
          {{- body("k", false, none) }}
          scf.yield
        }
        scf.yield
      }
      scf.yield
    }
    {%- if many %}
    scf.if %some {
      %all_blocks = arith.constant {{ blocks }} : i32
      %block_rows = arith.constant {{ R }} : i32
      scf.for %f_blk = %c0 to %all_blocks step %c1 : i32 {
        %f_block = arith.index_cast %f_blk : i32 to index
        %f_row32 = arith.muli %f_blk, %block_rows : i32
        %f_row = arith.index_cast %f_row32 : i32 to index
        {{- finish_constants("f") }}
        {%- for h in range(kv_heads) %}
        {{- finish("f", h) }}
        {%- endfor %}
        scf.yield
      }
      scf.yield
    }
    {%- endif %}
    return
  }
  func.func @q_block(%t: i32, %head: {{ head_t }}, %tab: {{ tab_t }}, %at: {{ at_t }}) -> (i32, i32, i32) {
    %z = arith.constant 0 : i32
    return %z, %t, %z : i32, i32, i32
  }
  func.func @row_block(%t: i32, %head: {{ head_t }}, %tab: {{ tab_t }}, %at: {{ at_t }}) -> (i32, i32) {
    %z = arith.constant 0 : i32
    return %z, %t : i32, i32
  }
}
