{#- Softmax over the labels alone, for TPU: hidden rows times the label rows of the LM head, which XLA has gathered.

Algorithm. The log-sum-exp over the vocabulary cancels in a softmax over labels, so logits of labels are all there is.
The grid is (blocks of rows, blocks of labels). Every step leaves its logits in the result's window, which stays until the
last step of a row block; that one turns them into probabilities: exp(logit - max) / sum.

Orientation. Logits are kept transposed, S^T = W h^T: labels on sublanes, hidden rows on lanes, so that maximum and sum
run down sublanes, on the vector unit, without crossing lanes.

{% if per_row -%}
Data. h [rows, hidden]; w [labels, rows, hidden], the LM head's row for label j of row r at [j, r]; o [label_rows, rows]
f32. A step is one label: the product of all its rows of w with all rows of h, of which only the diagonal is kept. The matrix
unit does that faster than the vector unit multiplies rows one by one.
{%- else -%}
Data. h [rows, hidden]; w [label_rows, hidden], labels padded with any token; o [label_rows, rows] f32.
{%- endif %}

Invariants.
- The label dimension counts up and is innermost: o of a row block lives across its steps.
- A row of h makes one lane of S^T and no other: what a padding row holds stays in its lane.
- Rows of o behind the last label are -inf before the maximum, so their probability is exactly 0.
#}
{%- set prec = "precision = #tpu.contract_precision<fp32>, " if dtype == "f32" else "" %}
{%- set vmem = "#tpu.memory_space<vmem>" %}
{%- set h_t = "memref<" ~ row_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ", " ~ vmem ~ ">" %}
{%- set w_rows = row_block if per_row else label_block %}
{%- set w_dims = w_rows ~ "x" ~ hidden ~ "x" ~ dtype %}
{%- set w_t = "memref<" ~ ("1x" if per_row else "") ~ w_dims ~ ", " ~ vmem ~ ">" %}
{%- set o_t = "memref<" ~ label_rows ~ "x" ~ row_block ~ "xf32, " ~ vmem ~ ">" %}
{%- set h_v = "vector<" ~ row_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set w_v = "vector<" ~ w_dims ~ ">" %}
{%- set product = w_rows ~ "x" ~ row_block %}
{%- set flat_f = "vector<" ~ row_block ~ "xf32>" %}
{%- set row_f = "vector<1x" ~ row_block ~ "xf32>" %}
{%- set all = label_rows ~ "x" ~ row_block %}
module @{{ name }} {
  func.func @{{ name }}(%r: i32, %b: i32, %h: {{ h_t }}, %w: {{ w_t }}, %o: {{ o_t }}) attributes {dimension_semantics = [#tpu.dimension_semantics<parallel>, #tpu.dimension_semantics<arbitrary>], iteration_bounds = array<i64: {{ padded_rows // row_block }}, {{ label_steps }}>, scalar_prefetch = 0 : i64, scratch_operands = 0 : i64, tpu.core_type = #tpu.core_type<tc>, window_params = [{transform_indices = @row_window, window_bounds = array<i64: {{ row_block }}, {{ hidden }}>}, {transform_indices = @label_window, window_bounds = array<i64: {% if per_row %}1, {% endif %}{{ w_rows }}, {{ hidden }}>}, {transform_indices = @out_window, window_bounds = array<i64: {{ label_rows }}, {{ row_block }}>}]} {
    %i0 = arith.constant 0 : index
    {%- if per_row and labels < label_rows %}
    // Rows of the result that no step writes.
    %c0 = arith.constant 0 : i32
    %starts = arith.cmpi eq, %b, %c0 : i32
    scf.if %starts {
      %o0 = arith.constant dense<0.000000e+00> : vector<{{ all }}xf32>
      tpu.vector_store %o[%i0, %i0], %o0 {strides = array<i32>} : {{ o_t }}, vector<{{ all }}xf32>,
      scf.yield
    }
    {%- endif %}
    %none = arith.constant dense<0.000000e+00> : vector<{{ product }}xf32>
    %hv = vector.load %h[%i0, %i0] : {{ h_t }}, {{ h_v }}
    {%- if per_row %}
    %w3 = vector.load %w[%i0, %i0, %i0] : {{ w_t }}, vector<1x{{ w_dims }}> // count: label_blocks
    %wv = vector.shape_cast %w3 : vector<1x{{ w_dims }}> to {{ w_v }}
    {%- else %}
    %wv = vector.load %w[%i0, %i0] : {{ w_t }}, {{ w_v }} // count: label_blocks
    {%- endif %}
    %wh = tpu.matmul %wv, %hv, %none {dimension_numbers = #tpu.dot_dimension_numbers<[1], [1], [0], [0], [0, 0, 1, 0], [], []>, {{ prec }}transpose_lhs_hint = false} : {{ w_v }}, {{ h_v }}, vector<{{ product }}xf32> -> vector<{{ product }}xf32>
    {%- if per_row %}
    %of = tpu.iota {dimensions = array<i32: 0>} : vector<{{ product }}xi32>
    %by = tpu.iota {dimensions = array<i32: 1>} : vector<{{ product }}xi32>
    %own = arith.cmpi eq, %of, %by : vector<{{ product }}xi32>
    %diagonal = arith.select %own, %wh, %none : vector<{{ product }}xi1>, vector<{{ product }}xf32>
    %zero_row = arith.constant dense<0.000000e+00> : {{ flat_f }}
    %logit1 = vector.multi_reduction <add>, %diagonal, %zero_row [0] : vector<{{ product }}xf32> to {{ flat_f }}
    %logit = vector.shape_cast %logit1 : {{ flat_f }} to {{ row_f }}
    %at = arith.index_cast %b : i32 to index
    tpu.vector_store %o[%at, %i0], %logit {strides = array<i32>} : {{ o_t }}, {{ row_f }},
    {%- else %}
    %label_block = arith.constant {{ label_block }} : i32
    %first = arith.muli %b, %label_block : i32
    %at = arith.index_cast %first : i32 to index
    tpu.vector_store %o[%at, %i0], %wh {strides = array<i32>} : {{ o_t }}, vector<{{ product }}xf32>,
    {%- endif %}
    %last = arith.constant {{ label_steps - 1 }} : i32
    %ends = arith.cmpi eq, %b, %last : i32
    scf.if %ends {
      %logits = vector.load %o[%i0, %i0] : {{ o_t }}, vector<{{ all }}xf32>
      {%- if labels < label_rows %}
      %label = tpu.iota {dimensions = array<i32: 0>} : vector<{{ all }}xi32>
      %labels = arith.constant dense<{{ labels }}> : vector<{{ all }}xi32>
      %real = arith.cmpi slt, %label, %labels : vector<{{ all }}xi32>
      %hidden = arith.constant dense<0xFF800000> : vector<{{ all }}xf32>
      %s = arith.select %real, %logits, %hidden : vector<{{ all }}xi1>, vector<{{ all }}xf32>
      {%- set s = "%s" %}
      {%- else %}
      {%- set s = "%logits" %}
      {%- endif %}
      %ninf = arith.constant dense<0xFF800000> : {{ flat_f }}
      %zero = arith.constant dense<0.000000e+00> : {{ flat_f }}
      %m1 = vector.multi_reduction <maximumf>, {{ s }}, %ninf [0] : vector<{{ all }}xf32> to {{ flat_f }}
      %m = vector.shape_cast %m1 : {{ flat_f }} to {{ row_f }}
      %mb = vector.broadcast %m : {{ row_f }} to vector<{{ all }}xf32>
      %d = arith.subf {{ s }}, %mb : vector<{{ all }}xf32>
      %p = math.exp %d : vector<{{ all }}xf32>
      %l1 = vector.multi_reduction <add>, %p, %zero [0] : vector<{{ all }}xf32> to {{ flat_f }}
      %l = vector.shape_cast %l1 : {{ flat_f }} to {{ row_f }}
      %lb = vector.broadcast %l : {{ row_f }} to vector<{{ all }}xf32>
      %probabilities = arith.divf %p, %lb : vector<{{ all }}xf32>
      tpu.vector_store %o[%i0, %i0], %probabilities {strides = array<i32>} : {{ o_t }}, vector<{{ all }}xf32>,
      scf.yield
    }
    return
  }
  func.func @row_window(%r: i32, %b: i32) -> (i32, i32) {
    %z = arith.constant 0 : i32
    return %r, %z : i32, i32
  }
  {%- if per_row %}
  func.func @label_window(%r: i32, %b: i32) -> (i32, i32, i32) {
    %z = arith.constant 0 : i32
    return %b, %r, %z : i32, i32, i32
  }
  {%- else %}
  func.func @label_window(%r: i32, %b: i32) -> (i32, i32) {
    %z = arith.constant 0 : i32
    return %b, %z : i32, i32
  }
  {%- endif %}
  func.func @out_window(%r: i32, %b: i32) -> (i32, i32) {
    %z = arith.constant 0 : i32
    return %z, %r : i32, i32
  }
}
