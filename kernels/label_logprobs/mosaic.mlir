{#- Label log-probs from hidden states, for TPU: LM head, log-sum-exp and label pick in one pass over the vocabulary.

Algorithm. The grid is (blocks of rows, blocks of the vocabulary). The LM head streams through its window, one block
of {vocab_block} token rows a step; a running maximum m and sum l per hidden row make the log-sum-exp online. A label's
logit is picked in the step whose block holds it, from the very logits that the sum saw. The last step of a row block
ends with logprob = (logit - m) - log l: both differences are small numbers, so nothing cancels.

Orientation. Logits are kept transposed, S^T = W h^T: vocabulary on sublanes, hidden rows on lanes. Maximum, sum and
label pick then run down sublanes, on the vector unit, without crossing lanes.

Data. h [rows, hidden], w [vocab, hidden]; labels [label_rows, rows] i32, label j of every row in row {first} + j;
o [label_rows, rows] f32, each result where its label was. A step holds vocab_block x row_block logits, never more.

Partial sums. With `partial` the results stay apart: row 0 of o is m, row 1 is l, and label rows hold plain logits.
Then w is one shard of a vocabulary, and label ids count from the shard's first token: an id outside 0..vocab is
another shard's and its logit here is 0, so that logits of all shards add up to the label's.

Invariants.
- The vocabulary dimension counts up and is innermost: o, m and l of a row block live across its steps.
- The last window may hang over the end of w, where it holds anything, NaN included. One row of w makes one row of
  S^T and no other, so replacing scores by -inf is enough: their probability is exactly 0 and no label picks them.
- An id that is not of this vocabulary becomes -1, which no row of any block has: it picks nothing.
- m starts at the least finite number, not at -inf: m - m is never NaN.
#}
{%- set first = 2 if partial else 0 %}
{%- set blocks = (vocab + vocab_block - 1) // vocab_block %}
{%- set tail = vocab - (blocks - 1) * vocab_block %}
{%- set prec = "precision = #tpu.contract_precision<fp32>, " if dtype == "f32" else "" %}
{%- set vmem = "#tpu.memory_space<vmem>" %}
{%- set label_t = "memref<" ~ label_rows ~ "x" ~ row_block ~ "xi32, " ~ vmem ~ ">" %}
{%- set h_t = "memref<" ~ row_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set w_t = "memref<" ~ vocab_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set o_t = "memref<" ~ label_rows ~ "x" ~ row_block ~ "xf32, " ~ vmem ~ ">" %}
{%- set stat_t = "memref<8x" ~ row_block ~ "xf32, " ~ vmem ~ ">" %}
{%- set h_v = "vector<" ~ row_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set w_v = "vector<" ~ vocab_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set logits_f = "vector<" ~ vocab_block ~ "x" ~ row_block ~ "xf32>" %}
{%- set logits_i = "vector<" ~ vocab_block ~ "x" ~ row_block ~ "xi32>" %}
{%- set logits_b = "vector<" ~ vocab_block ~ "x" ~ row_block ~ "xi1>" %}
{%- set flat_f = "vector<" ~ row_block ~ "xf32>" %}
{%- set row_f = "vector<1x" ~ row_block ~ "xf32>" %}
{%- set row_i = "vector<1x" ~ row_block ~ "xi32>" %}
{%- set label_i = "vector<" ~ label_rows ~ "x" ~ row_block ~ "xi32>" %}
{%- set label_b = "vector<" ~ label_rows ~ "x" ~ row_block ~ "xi1>" %}
{%- set label_f = "vector<" ~ label_rows ~ "x" ~ row_block ~ "xf32>" %}
{#- One block of the vocabulary; `live` is how many of its rows w has. #}
{%- macro body(p, live) %}
      %{{ p }}_token = tpu.iota {dimensions = array<i32: 0>} : {{ logits_i }}
      %{{ p }}_none = arith.constant dense<0.000000e+00> : {{ logits_f }}
      %{{ p }}_zero = arith.constant dense<0.000000e+00> : {{ flat_f }}
      %{{ p }}_ninf = arith.constant dense<0xFF800000> : {{ flat_f }}
      %{{ p }}_h = vector.load %h[%i0, %i0] : {{ h_t }}, {{ h_v }}
      %{{ p }}_w = vector.load %w[%i0, %i0] : {{ w_t }}, {{ w_v }} // count: vocab_blocks
      %{{ p }}_wh = tpu.matmul %{{ p }}_w, %{{ p }}_h, %{{ p }}_none {dimension_numbers = #tpu.dot_dimension_numbers<[1], [1], [0], [0], [0, 0, 1, 0], [], []>, {{ prec }}transpose_lhs_hint = false} : {{ w_v }}, {{ h_v }}, {{ logits_f }} -> {{ logits_f }}
      {%- if live < vocab_block %}
      %{{ p }}_live = arith.constant dense<{{ live }}> : {{ logits_i }}
      %{{ p }}_real = arith.cmpi slt, %{{ p }}_token, %{{ p }}_live : {{ logits_i }}
      %{{ p }}_hidden = arith.constant dense<0xFF800000> : {{ logits_f }}
      %{{ p }}_sel = arith.select %{{ p }}_real, %{{ p }}_wh, %{{ p }}_hidden : {{ logits_b }}, {{ logits_f }}
      {%- set s = p ~ "_sel" %}
      {%- else %}
      {%- set s = p ~ "_wh" %}
      {%- endif %}
      %{{ p }}_mx1 = vector.multi_reduction <maximumf>, %{{ s }}, %{{ p }}_ninf [0] : {{ logits_f }} to {{ flat_f }}
      %{{ p }}_mx = vector.shape_cast %{{ p }}_mx1 : {{ flat_f }} to {{ row_f }}
      %{{ p }}_mo = vector.load %m[%i0, %i0] : {{ stat_t }}, {{ row_f }}
      %{{ p }}_mn = arith.maximumf %{{ p }}_mo, %{{ p }}_mx : {{ row_f }}
      tpu.vector_store %m[%i0, %i0], %{{ p }}_mn {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
      %{{ p }}_md = arith.subf %{{ p }}_mo, %{{ p }}_mn : {{ row_f }}
      %{{ p }}_al = math.exp %{{ p }}_md : {{ row_f }}
      %{{ p }}_mb = vector.broadcast %{{ p }}_mn : {{ row_f }} to {{ logits_f }}
      %{{ p }}_d = arith.subf %{{ s }}, %{{ p }}_mb : {{ logits_f }}
      %{{ p }}_p = math.exp %{{ p }}_d : {{ logits_f }}
      %{{ p }}_rs1 = vector.multi_reduction <add>, %{{ p }}_p, %{{ p }}_zero [0] : {{ logits_f }} to {{ flat_f }}
      %{{ p }}_rs = vector.shape_cast %{{ p }}_rs1 : {{ flat_f }} to {{ row_f }}
      %{{ p }}_lo = vector.load %l[%i0, %i0] : {{ stat_t }}, {{ row_f }}
      %{{ p }}_la = arith.mulf %{{ p }}_lo, %{{ p }}_al : {{ row_f }}
      %{{ p }}_ln = arith.addf %{{ p }}_la, %{{ p }}_rs : {{ row_f }}
      tpu.vector_store %l[%i0, %i0], %{{ p }}_ln {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
      {%- for j in range(first, first + labels) %}
      {%- set u = p ~ j %}
      %{{ u }}_at = vector.extract_strided_slice %at offsets = [{{ j }}, 0], sizes = [1, {{ row_block }}], strides = [1, 1] : {{ label_i }} to {{ row_i }}
      %{{ u }}_atb = vector.broadcast %{{ u }}_at : {{ row_i }} to {{ logits_i }}
      %{{ u }}_is = arith.cmpi eq, %{{ p }}_token, %{{ u }}_atb : {{ logits_i }}
      %{{ u }}_one = arith.select %{{ u }}_is, %{{ s }}, %{{ p }}_none : {{ logits_b }}, {{ logits_f }}
      %{{ u }}_sum = vector.multi_reduction <add>, %{{ u }}_one, %{{ p }}_zero [0] : {{ logits_f }} to {{ flat_f }}
      %{{ u }}_found = vector.shape_cast %{{ u }}_sum : {{ flat_f }} to {{ row_f }}
      %{{ u }}_old = vector.load %o[%j{{ j }}, %i0] : {{ o_t }}, {{ row_f }}
      %{{ u }}_new = arith.addf %{{ u }}_old, %{{ u }}_found : {{ row_f }}
      tpu.vector_store %o[%j{{ j }}, %i0], %{{ u }}_new {strides = array<i32>} : {{ o_t }}, {{ row_f }},
      {%- endfor %}
{%- endmacro %}
module @{{ name }} {
  func.func @{{ name }}(%r: i32, %b: i32, %labels: {{ label_t }}, %h: {{ h_t }}, %w: {{ w_t }}, %o: {{ o_t }}, %m: {{ stat_t }}, %l: {{ stat_t }}) attributes {dimension_semantics = [#tpu.dimension_semantics<parallel>, #tpu.dimension_semantics<arbitrary>], iteration_bounds = array<i64: {{ padded_rows // row_block }}, {{ blocks }}>, scalar_prefetch = 0 : i64, scratch_operands = 2 : i64, tpu.core_type = #tpu.core_type<tc>, window_params = [{transform_indices = @label_window, window_bounds = array<i64: {{ label_rows }}, {{ row_block }}>}, {transform_indices = @row_window, window_bounds = array<i64: {{ row_block }}, {{ hidden }}>}, {transform_indices = @vocab_window, window_bounds = array<i64: {{ vocab_block }}, {{ hidden }}>}, {transform_indices = @label_window, window_bounds = array<i64: {{ label_rows }}, {{ row_block }}>}]} {
    %i0 = arith.constant 0 : index
    {%- for j in range(first, first + labels) %}
    %j{{ j }} = arith.constant {{ j }} : index
    {%- endfor %}
    %c0 = arith.constant 0 : i32
    %starts = arith.cmpi eq, %b, %c0 : i32
    scf.if %starts {
      %o0 = arith.constant dense<0.000000e+00> : {{ label_f }}
      tpu.vector_store %o[%i0, %i0], %o0 {strides = array<i32>} : {{ o_t }}, {{ label_f }},
      %m0 = arith.constant dense<0xFF7FFFFF> : {{ row_f }}
      tpu.vector_store %m[%i0, %i0], %m0 {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
      %l0 = arith.constant dense<0.000000e+00> : {{ row_f }}
      tpu.vector_store %l[%i0, %i0], %l0 {strides = array<i32>} : {{ stat_t }}, {{ row_f }},
      scf.yield
    }
    // Where in this block each label lies; outside 0..{{ vocab_block }} if in another.
    %ids = vector.load %labels[%i0, %i0] : {{ label_t }}, {{ label_i }}
    %vocab = arith.constant dense<{{ vocab }}> : {{ label_i }}
    %inside = arith.cmpi slt, %ids, %vocab : {{ label_i }}
    %nowhere = arith.constant dense<-1> : {{ label_i }}
    %own = arith.select %inside, %ids, %nowhere : {{ label_b }}, {{ label_i }}
    %vocab_block = arith.constant {{ vocab_block }} : i32
    %start = arith.muli %b, %vocab_block : i32
    %start_b = vector.broadcast %start : i32 to {{ label_i }}
    %at = arith.subi %own, %start_b : {{ label_i }}
    %last = arith.constant {{ blocks - 1 }} : i32
    %ends = arith.cmpi eq, %b, %last : i32
    {%- if tail < vocab_block %}
    scf.if %ends {
      {{- body("t", tail) }}
      scf.yield
    } else {
      {{- body("f", vocab_block) }}
      scf.yield
    }
    {%- else %}
    {{- body("f", vocab_block) }}
    {%- endif %}
    scf.if %ends {
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
    }
    return
  }
  func.func @label_window(%r: i32, %b: i32) -> (i32, i32) {
    %z = arith.constant 0 : i32
    return %z, %r : i32, i32
  }
  func.func @row_window(%r: i32, %b: i32) -> (i32, i32) {
    %z = arith.constant 0 : i32
    return %r, %z : i32, i32
  }
  func.func @vocab_window(%r: i32, %b: i32) -> (i32, i32) {
    %z = arith.constant 0 : i32
    return %b, %z : i32, i32
  }
}
