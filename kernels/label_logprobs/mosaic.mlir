{#- Label log-probs from hidden states, for TPU: LM head, log-sum-exp and label pick in one pass over the vocabulary.

Algorithm. The grid is (blocks of rows, blocks of the vocabulary and one step more). A running maximum m and sum l per hidden
row make the log-sum-exp online. A label's logit is picked from the very logits that the sum saw. A row block ends with
logprob = (logit - m) - log l: both differences are small numbers, so nothing cancels.

Body. A step takes the exponentials of one block of logits and makes the logits of the next: the matrix unit has work while the
vector unit takes exponentials, and nothing waits for a product of the same step. Logits and the factor al that rescales
the older sum lie in VMEM from one step to the next. The first step of a row block has logits alone, the last one
exponentials alone.

Copies. The vocabulary's last block comes first, by its window, which alone may hang over the end of w. All others are whole;
copy i, numbered through all row blocks, comes by DMA into buffer i mod {depth} of a ring, started {ahead} steps ahead.

Orientation. Logits are kept transposed, S^T = W h^T: vocabulary on sublanes, hidden rows on lanes. Maximum, sum and
label pick then run down sublanes, on the vector unit, without crossing lanes.

Labels. A label that all rows share is a row of the logits in VMEM, read where its block has just been made, and costs
nothing elsewhere. Labels of a row's own are sought by comparison in each block, next to its exponentials.

Data. h [rows, hidden]; w [vocab, hidden], given twice: as the last block's window and for copies; o [label_rows, rows] f32.
Labels are ids [labels] i32 in SMEM if all rows share them, else labels [label_rows, rows] i32, label j of every row in row
{first} + j, where its result will be in o. A step holds vocab_block x row_block logits, never more.

Partial sums. With `partial` the results stay apart: row 0 of o is m, row 1 is l, and label rows hold plain logits.
Then w is one shard of a vocabulary, and label ids count from the shard's first token: an id outside 0..vocab is
another shard's and its logit here is 0, so that logits of all shards add up to the label's.

Invariants.
- The vocabulary dimension counts up and is innermost, and row blocks follow one another: copies run ahead across them.
- Every copy that was started is awaited in the step that reads it. A buffer is filled again only after that step.
- Behind the end of w the window holds anything, NaN included. One row of w makes one row of S^T and no other, so
  replacing scores by -inf is enough: their probability is exactly 0 and no label picks them.
- An id that is not of this vocabulary lies in no block: it picks nothing.
- m starts at the least finite number, not at -inf: m - m is never NaN.
#}
{%- set first = 2 if partial else 0 %}
{%- set blocks = (vocab + vocab_block - 1) // vocab_block %}
{%- set tail = vocab - (blocks - 1) * vocab_block %}
{#- What of the last block is computed. #}
{%- set tail_size = (tail + 127) // 128 * 128 %}
{%- set prec = "precision = #tpu.contract_precision<fp32>, " if dtype == "f32" else "" %}
{%- set vmem = "#tpu.memory_space<vmem>" %}
{%- set label_t = "memref<" ~ label_rows ~ "x" ~ row_block ~ "xi32, " ~ vmem ~ ">" %}
{%- set h_t = "memref<" ~ row_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set w_t = "memref<" ~ vocab_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set o_t = "memref<" ~ label_rows ~ "x" ~ row_block ~ "xf32, " ~ vmem ~ ">" %}
{%- set stat_t = "memref<8x" ~ row_block ~ "xf32, " ~ vmem ~ ">" %}
{%- set h_v = "vector<" ~ row_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set flat_f = "vector<" ~ row_block ~ "xf32>" %}
{%- set row_f = "vector<1x" ~ row_block ~ "xf32>" %}
{%- set row_i = "vector<1x" ~ row_block ~ "xi32>" %}
{%- set label_i = "vector<" ~ label_rows ~ "x" ~ row_block ~ "xi32>" %}
{%- set label_b = "vector<" ~ label_rows ~ "x" ~ row_block ~ "xi1>" %}
{%- set label_f = "vector<" ~ label_rows ~ "x" ~ row_block ~ "xf32>" %}
{%- set ids_t = "memref<" ~ labels ~ "xi32, #tpu.memory_space<smem>>" %}
{%- set any = "#tpu.memory_space<any>" %}
{%- set sems = "#tpu.memory_space<semaphore_mem>" %}
{%- set depth = 4 %}
{%- set ahead = depth - 1 %}
{%- set copies = (padded_rows // row_block) * (blocks - 1) %}
{%- set all_t = "memref<" ~ vocab ~ "x" ~ hidden ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
{%- set part_t = "memref<" ~ vocab_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ", " ~ any ~ ">" %}
{%- set buf_t = "memref<" ~ depth ~ "x" ~ vocab_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set buf1_t = "memref<1x" ~ vocab_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set sem_t = "memref<" ~ depth ~ "x!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set sem1_t = "memref<1x!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set sem0_t = "memref<!tpu.dma_semaphore, " ~ sems ~ ">" %}
{%- set s_t = "memref<" ~ vocab_block ~ "x" ~ row_block ~ "xf32, " ~ vmem ~ ">" %}
{#- Copies of w: block `from` into buffer %{slot}; `op` starts or awaits it. #}
{%- macro copy(p, slot, from, op) %}
      %{{ p }}_sem1 = tpu.memref_slice %sem[%{{ slot }}] : {{ sem_t }} -> {{ sem1_t }}
      %{{ p }}_sem = tpu.memref_squeeze %{{ p }}_sem1 : {{ sem1_t }} -> {{ sem0_t }}
      %{{ p }}_dst1 = tpu.memref_slice %buf[%{{ slot }}, %c0, %c0] : {{ buf_t }} -> {{ buf1_t }}
      %{{ p }}_dst = tpu.memref_squeeze %{{ p }}_dst1 : {{ buf1_t }} -> {{ w_t }}
      {%- if op == "start" %}
      %{{ p }}_row = arith.muli %{{ from }}, %vocab_block : i32
      %{{ p }}_src = tpu.memref_slice %w[%{{ p }}_row, %c0] : {{ all_t }} -> {{ part_t }}
      tpu.enqueue_dma source(%{{ p }}_src : {{ part_t }}) target(%{{ p }}_dst : {{ w_t }}) target_semaphore(%{{ p }}_sem : {{ sem0_t }})
      {%- else %}
      tpu.wait_dma2 semaphore(%{{ p }}_sem : {{ sem0_t }}) src(%{{ p }}_dst : {{ w_t }}) dst(%{{ p }}_dst : {{ w_t }})
      {%- endif %}
{%- endmacro %}
{#- Logits of the `size` rows of w in %{p}_w, of which `live` exist: %s, the running maximum, and what rescales the older sum. #}
{%- macro logits(p, live, size) %}
      {%- set w_v = "vector<" ~ size ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
      {%- set logits_f = "vector<" ~ size ~ "x" ~ row_block ~ "xf32>" %}
      {%- set logits_i = "vector<" ~ size ~ "x" ~ row_block ~ "xi32>" %}
      {%- set logits_b = "vector<" ~ size ~ "x" ~ row_block ~ "xi1>" %}
      %{{ p }}_none = arith.constant dense<0.000000e+00> : {{ logits_f }}
      %{{ p }}_ninf = arith.constant dense<0xFF800000> : {{ flat_f }}
      %{{ p }}_h = vector.load %h[%i0, %i0] : {{ h_t }}, {{ h_v }}
      %{{ p }}_wh = tpu.matmul %{{ p }}_w, %{{ p }}_h, %{{ p }}_none {dimension_numbers = #tpu.dot_dimension_numbers<[1], [1], [0], [0], [0, 0, 1, 0], [], []>, {{ prec }}transpose_lhs_hint = false} : {{ w_v }}, {{ h_v }}, {{ logits_f }} -> {{ logits_f }}
      {%- set s = p ~ "_wh" %}
      {%- if live < size %}
      %{{ p }}_token = tpu.iota {dimensions = array<i32: 0>} : {{ logits_i }}
      %{{ p }}_live = arith.constant dense<{{ live }}> : {{ logits_i }}
      %{{ p }}_real = arith.cmpi slt, %{{ p }}_token, %{{ p }}_live : {{ logits_i }}
      %{{ p }}_hidden = arith.constant dense<0xFF800000> : {{ logits_f }}
      %{{ p }}_sel = arith.select %{{ p }}_real, %{{ p }}_wh, %{{ p }}_hidden : {{ logits_b }}, {{ logits_f }}
      {%- set s = p ~ "_sel" %}
      {%- endif %}
      tpu.vector_store %s[%i0, %i0], %{{ s }} {strides = array<i32>} : {{ s_t }}, {{ logits_f }},
      %{{ p }}_mx1 = vector.multi_reduction <maximumf>, %{{ s }}, %{{ p }}_ninf [0] : {{ logits_f }} to {{ flat_f }}
      %{{ p }}_mx = vector.shape_cast %{{ p }}_mx1 : {{ flat_f }} to {{ row_f }}
      %{{ p }}_mo = vector.load %m[%i0, %i0] : {{ stat_t }}, {{ row_f }}
      %{{ p }}_mn = arith.maximumf %{{ p }}_mo, %{{ p }}_mx : {{ row_f }}
      tpu.vector_store %m[%i0, %i0], %{{ p }}_mn {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
      %{{ p }}_md = arith.subf %{{ p }}_mo, %{{ p }}_mn : {{ row_f }}
      %{{ p }}_al = math.exp %{{ p }}_md : {{ row_f }}
      tpu.vector_store %al[%i0, %i0], %{{ p }}_al {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
{%- endmacro %}
{#- Probabilities of the logits in %s, of block %{from}: the running sum, and labels of a row's own. With `next` also the logits
of the block in buffer %{next}, as above. Both go by halves, each half's logits after its exponentials: fewer values wait. #}
{%- macro step(p, from, next) %}
      {%- set half = vocab_block // 2 %}
      {%- set w_v = "vector<" ~ half ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
      {%- set w_v3 = "vector<1x" ~ half ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
      {%- set logits_f = "vector<" ~ half ~ "x" ~ row_block ~ "xf32>" %}
      {%- set logits_i = "vector<" ~ half ~ "x" ~ row_block ~ "xi32>" %}
      {%- set logits_b = "vector<" ~ half ~ "x" ~ row_block ~ "xi1>" %}
      %{{ p }}_al = vector.load %al[%i0, %i0] : {{ stat_t }}, {{ row_f }}
      %{{ p }}_m = vector.load %m[%i0, %i0] : {{ stat_t }}, {{ row_f }}
      %{{ p }}_zero = arith.constant dense<0.000000e+00> : {{ flat_f }}
      %{{ p }}_none = arith.constant dense<0.000000e+00> : {{ logits_f }}
      %{{ p }}_mb = vector.broadcast %{{ p }}_m : {{ row_f }} to {{ logits_f }}
      %{{ p }}_lo = vector.load %l[%i0, %i0] : {{ stat_t }}, {{ row_f }}
      %{{ p }}_la = arith.mulf %{{ p }}_lo, %{{ p }}_al : {{ row_f }}
      {%- if per_row %}
      // Where in this block each label lies; outside 0..{{ vocab_block }} if in another.
      %{{ p }}_ids = vector.load %labels[%i0, %i0] : {{ label_t }}, {{ label_i }}
      %{{ p }}_vocab = arith.constant dense<{{ vocab }}> : {{ label_i }}
      %{{ p }}_inside = arith.cmpi slt, %{{ p }}_ids, %{{ p }}_vocab : {{ label_i }}
      %{{ p }}_nowhere = arith.constant dense<-1> : {{ label_i }}
      %{{ p }}_own = arith.select %{{ p }}_inside, %{{ p }}_ids, %{{ p }}_nowhere : {{ label_b }}, {{ label_i }}
      %{{ p }}_start = arith.muli %{{ from }}, %vocab_block : i32
      %{{ p }}_start_b = vector.broadcast %{{ p }}_start : i32 to {{ label_i }}
      %{{ p }}_at = arith.subi %{{ p }}_own, %{{ p }}_start_b : {{ label_i }}
      %{{ p }}_token = tpu.iota {dimensions = array<i32: 0>} : {{ logits_i }}
      {%- endif %}
      {%- if next %}
      %{{ p }}_ninf = arith.constant dense<0xFF800000> : {{ flat_f }}
      %{{ p }}_h = vector.load %h[%i0, %i0] : {{ h_t }}, {{ h_v }}
      %{{ p }}_slot = arith.index_cast %{{ next }} : i32 to index
      {%- endif %}
      {%- for c in range(2) %}
      {%- set u = p ~ c %}
      %{{ u }}_row = arith.constant {{ c * half }} : index
      %{{ u }}_s = vector.load %s[%{{ u }}_row, %i0] : {{ s_t }}, {{ logits_f }}{% if c == 0 %} // count: vocab_blocks{% endif %}
      %{{ u }}_d = arith.subf %{{ u }}_s, %{{ p }}_mb : {{ logits_f }}
      %{{ u }}_p = math.exp %{{ u }}_d : {{ logits_f }}
      %{{ u }}_rs1 = vector.multi_reduction <add>, %{{ u }}_p, %{{ p }}_zero [0] : {{ logits_f }} to {{ flat_f }}
      %{{ u }}_rs = vector.shape_cast %{{ u }}_rs1 : {{ flat_f }} to {{ row_f }}
      %{{ u }}_l = arith.addf %{{ p ~ "0_l" if c else p ~ "_la" }}, %{{ u }}_rs : {{ row_f }}
      {%- if per_row %}
      %{{ u }}_half = arith.constant dense<{{ c * half }}> : {{ label_i }}
      %{{ u }}_at = arith.subi %{{ p }}_at, %{{ u }}_half : {{ label_i }}
      {%- for j in range(first, first + labels) %}
      {%- set v = u ~ "_" ~ j %}
      %{{ v }}_at = vector.extract_strided_slice %{{ u }}_at offsets = [{{ j }}, 0], sizes = [1, {{ row_block }}], strides = [1, 1] : {{ label_i }} to {{ row_i }}
      %{{ v }}_atb = vector.broadcast %{{ v }}_at : {{ row_i }} to {{ logits_i }}
      %{{ v }}_is = arith.cmpi eq, %{{ p }}_token, %{{ v }}_atb : {{ logits_i }}
      %{{ v }}_one = arith.select %{{ v }}_is, %{{ u }}_s, %{{ p }}_none : {{ logits_b }}, {{ logits_f }}
      %{{ v }}_sum = vector.multi_reduction <add>, %{{ v }}_one, %{{ p }}_zero [0] : {{ logits_f }} to {{ flat_f }}
      %{{ v }}_found = vector.shape_cast %{{ v }}_sum : {{ flat_f }} to {{ row_f }}
      %{{ v }}_old = vector.load %o[%j{{ j }}, %i0] : {{ o_t }}, {{ row_f }}
      %{{ v }}_new = arith.addf %{{ v }}_old, %{{ v }}_found : {{ row_f }}
      tpu.vector_store %o[%j{{ j }}, %i0], %{{ v }}_new {strides = array<i32>} : {{ o_t }}, {{ row_f }},
      {%- endfor %}
      {%- endif %}
      {%- if next %}
      %{{ u }}_w3 = vector.load %buf[%{{ p }}_slot, %{{ u }}_row, %i0] : {{ buf_t }}, {{ w_v3 }}
      %{{ u }}_w = vector.shape_cast %{{ u }}_w3 : {{ w_v3 }} to {{ w_v }}
      %{{ u }}_wh = tpu.matmul %{{ u }}_w, %{{ p }}_h, %{{ p }}_none {dimension_numbers = #tpu.dot_dimension_numbers<[1], [1], [0], [0], [0, 0, 1, 0], [], []>, {{ prec }}transpose_lhs_hint = false} : {{ w_v }}, {{ h_v }}, {{ logits_f }} -> {{ logits_f }}
      tpu.vector_store %s[%{{ u }}_row, %i0], %{{ u }}_wh {strides = array<i32>} : {{ s_t }}, {{ logits_f }},
      %{{ u }}_mx1 = vector.multi_reduction <maximumf>, %{{ u }}_wh, %{{ p }}_ninf [0] : {{ logits_f }} to {{ flat_f }}
      %{{ u }}_mx = vector.shape_cast %{{ u }}_mx1 : {{ flat_f }} to {{ row_f }}
      %{{ u }}_mn = arith.maximumf %{{ p ~ "0_mn" if c else p ~ "_m" }}, %{{ u }}_mx : {{ row_f }}
      {%- endif %}
      {%- endfor %}
      tpu.vector_store %l[%i0, %i0], %{{ p }}1_l {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
      {%- if next %}
      tpu.vector_store %m[%i0, %i0], %{{ p }}1_mn {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
      %{{ p }}_md = arith.subf %{{ p }}_m, %{{ p }}1_mn : {{ row_f }}
      %{{ p }}_aln = math.exp %{{ p }}_md : {{ row_f }}
      tpu.vector_store %al[%i0, %i0], %{{ p }}_aln {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
      {%- endif %}
{%- endmacro %}
{#- Labels that all rows share: those among the `live` tokens from block %{from} on have their logits in a row of %s. #}
{%- macro pick(p, from, live) %}
      {%- if not per_row %}
      %{{ p }}_start = arith.muli %{{ from }}, %vocab_block : i32
      %{{ p }}_count = arith.constant {{ live }} : i32
      %{{ p }}_any0 = arith.constant 0 : i1
      {%- for j in range(labels) %}
      %{{ p }}{{ j }}_id = memref.load %ids[%k{{ j }}] : {{ ids_t }}
      %{{ p }}{{ j }}_at = arith.subi %{{ p }}{{ j }}_id, %{{ p }}_start : i32
      %{{ p }}{{ j }}_in = arith.cmpi ult, %{{ p }}{{ j }}_at, %{{ p }}_count : i32
      %{{ p }}_any{{ j + 1 }} = arith.ori %{{ p }}_any{{ j }}, %{{ p }}{{ j }}_in : i1
      {%- endfor %}
      scf.if %{{ p }}_any{{ labels }} {
        {%- for j in range(labels) %}
        scf.if %{{ p }}{{ j }}_in {
          %{{ p }}{{ j }}_row = arith.index_cast %{{ p }}{{ j }}_at : i32 to index
          %{{ p }}{{ j }}_logits = vector.load %s[%{{ p }}{{ j }}_row, %i0] : {{ s_t }}, {{ row_f }}
          tpu.vector_store %o[%j{{ first + j }}, %i0], %{{ p }}{{ j }}_logits {strides = array<i32>} : {{ o_t }}, {{ row_f }},
          scf.yield
        }
        {%- endfor %}
        scf.yield
      }
      {%- endif %}
{%- endmacro %}
module @{{ name }} {
  func.func @{{ name }}(%r: i32, %b: i32, {% if per_row %}%labels: {{ label_t }}{% else %}%ids: {{ ids_t }}{% endif %}, %h: {{ h_t }}, %end: {{ w_t }}, %w: {{ all_t }}, %o: {{ o_t }}, %m: {{ stat_t }}, %l: {{ stat_t }}, %al: {{ stat_t }}, %s: {{ s_t }}{% if blocks > 1 %}, %buf: {{ buf_t }}, %sem: {{ sem_t }}{% endif %}) attributes {dimension_semantics = [#tpu.dimension_semantics<arbitrary>, #tpu.dimension_semantics<arbitrary>], iteration_bounds = array<i64: {{ padded_rows // row_block }}, {{ blocks + 1 }}>, scalar_prefetch = {{ 0 if per_row else 1 }} : i64, scratch_operands = {{ 6 if blocks > 1 else 4 }} : i64, tpu.core_type = #tpu.core_type<tc>, window_params = [{% if per_row %}{transform_indices = @label_window, window_bounds = array<i64: {{ label_rows }}, {{ row_block }}>}, {% endif %}{transform_indices = @row_window, window_bounds = array<i64: {{ row_block }}, {{ hidden }}>}, {pipeline_mode = #tpu.pipeline_mode<synchronous>, transform_indices = @end_window, window_bounds = array<i64: {{ vocab_block }}, {{ hidden }}>}, {}, {transform_indices = @label_window, window_bounds = array<i64: {{ label_rows }}, {{ row_block }}>}]} {
    %i0 = arith.constant 0 : index
    {%- for j in range(first, first + labels) %}
    %j{{ j }} = arith.constant {{ j }} : index
    {%- endfor %}
    {%- for j in range(labels if not per_row else 0) %}
    %k{{ j }} = arith.constant {{ j }} : index
    {%- endfor %}
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %vocab_block = arith.constant {{ vocab_block }} : i32
    %ending = arith.constant {{ blocks - 1 }} : i32
    %steps = arith.constant {{ blocks }} : i32
    %starts = arith.cmpi eq, %b, %c0 : i32
    %ends = arith.cmpi eq, %b, %steps : i32
    scf.if %starts {
      {%- if blocks > 1 %}
      %first_row_block = arith.cmpi eq, %r, %c0 : i32
      scf.if %first_row_block {
        {%- for i in range([ahead, copies] | min) %}
        %n{{ i }}_slot = arith.constant {{ i }} : i32
        %n{{ i }}_block = arith.constant {{ i % (blocks - 1) }} : i32
        {{- copy("n" ~ i, "n" ~ i ~ "_slot", "n" ~ i ~ "_block", "start") }}
        {%- endfor %}
        scf.yield
      }
      {%- endif %}
      %o0 = arith.constant dense<0.000000e+00> : {{ label_f }}
      tpu.vector_store %o[%i0, %i0], %o0 {strides = array<i32>} : {{ o_t }}, {{ label_f }},
      %m0 = arith.constant dense<0xFF7FFFFF> : {{ row_f }}
      tpu.vector_store %m[%i0, %i0], %m0 {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
      %l0 = arith.constant dense<0.000000e+00> : {{ row_f }}
      tpu.vector_store %l[%i0, %i0], %l0 {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
      {%- if tail_size < vocab_block %}
      %behind = arith.constant {{ tail_size }} : index
      %nothing = arith.constant dense<0xFF800000> : vector<{{ vocab_block - tail_size }}x{{ row_block }}xf32>
      tpu.vector_store %s[%behind, %i0], %nothing {strides = array<i32>} : {{ s_t }}, vector<{{ vocab_block - tail_size }}x{{ row_block }}xf32>,
      {%- endif %}
      %t_w = vector.load %end[%i0, %i0] : {{ w_t }}, vector<{{ tail_size }}x{{ hidden }}x{{ dtype }}>
      {{- logits("t", tail, tail_size) }}
      {{- pick("tp", "ending", tail) }}
      scf.yield
    } else {
      scf.if %ends {
        %before_last = arith.constant {{ blocks - 2 if blocks > 1 else 0 }} : i32
        {{- step("e", "before_last", "") }}
        %mf = vector.load %m[%i0, %i0] : {{ stat_t }}, {{ row_f }}
        %lf = vector.load %l[%i0, %i0] : {{ stat_t }}, {{ row_f }}
        {%- if partial %}
        %i1 = arith.constant 1 : index
        tpu.vector_store %o[%i0, %i0], %mf {strides = array<i32>} : {{ o_t }}, {{ row_f }},
        tpu.vector_store %o[%i1, %i0], %lf {strides = array<i32>} : {{ o_t }}, {{ row_f }},
        {%- else %}
        %log = math.log %lf : {{ row_f }}
        %mfb = vector.broadcast %mf : {{ row_f }} to {{ label_f }}
        %logb = vector.broadcast %log : {{ row_f }} to {{ label_f }}
        %logits = vector.load %o[%i0, %i0] : {{ o_t }}, {{ label_f }}
        %above = arith.subf %logits, %mfb : {{ label_f }}
        %logprobs = arith.subf %above, %logb : {{ label_f }}
        tpu.vector_store %o[%i0, %i0], %logprobs {strides = array<i32>} : {{ o_t }}, {{ label_f }},
        {%- endif %}
        scf.yield
      } else {
        {%- if blocks > 1 %}
        // Copies are numbered through all row blocks.
        %each = arith.constant {{ blocks - 1 }} : i32
        %of_row_block = arith.muli %r, %each : i32
        %block = arith.subi %b, %c1 : i32
        %copy = arith.addi %of_row_block, %block : i32
        %depth_mask = arith.constant {{ depth - 1 }} : i32
        %slot = arith.andi %copy, %depth_mask : i32
        %ahead = arith.constant {{ ahead }} : i32
        %next = arith.addi %copy, %ahead : i32
        %all = arith.constant {{ copies }} : i32
        %more = arith.cmpi slt, %next, %all : i32
        scf.if %more {
          %next_slot = arith.andi %next, %depth_mask : i32
          %next_block = arith.remsi %next, %each : i32
          {{- copy("n", "next_slot", "next_block", "start") }}
          scf.yield
        }
        {{- copy("a", "slot", "block", "wait") }}
        // The block before: the last one, then those from the front.
        %second = arith.cmpi eq, %block, %c0 : i32
        %back = arith.subi %block, %c1 : i32
        %before = arith.select %second, %ending, %back : i32
        {{- step("b", "before", "slot") }}
        {{- pick("fp", "block", vocab_block) }}
        {%- endif %}
        scf.yield
      }
      scf.yield
    }
    return
  }
  func.func @label_window(%r: i32, %b: i32{% if not per_row %}, %ids: {{ ids_t }}{% endif %}) -> (i32, i32) {
    %z = arith.constant 0 : i32
    return %z, %r : i32, i32
  }
  func.func @row_window(%r: i32, %b: i32{% if not per_row %}, %ids: {{ ids_t }}{% endif %}) -> (i32, i32) {
    %z = arith.constant 0 : i32
    return %r, %z : i32, i32
  }
  func.func @end_window(%r: i32, %b: i32{% if not per_row %}, %ids: {{ ids_t }}{% endif %}) -> (i32, i32) {
    %z = arith.constant 0 : i32
    %last = arith.constant {{ blocks - 1 }} : i32
    return %last, %z : i32, i32
  }
}
