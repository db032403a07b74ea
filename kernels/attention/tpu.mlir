{#- Ragged paged attention on TPU as a StableHLO function: brings operands into the Mosaic kernel's layout, calls it,
and turns its result back. Same signature as the portable form. #}
{%- set q_t = "tensor<" ~ tokens ~ "x" ~ q_heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set grouped = tokens ~ "x" ~ kv_heads ~ "x" ~ group ~ "x" ~ head_dim %}
{%- set heads = kv_heads ~ "x" ~ tokens ~ "x" ~ group ~ "x" ~ head_dim %}
{%- set rows_q = kv_heads ~ "x" ~ tokens * group ~ "x" ~ head_dim %}
{%- set kv_t = "tensor<" ~ tokens ~ "x" ~ kv_heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set pages_t = "tensor<" ~ pool_pages ~ "x2x" ~ kv_heads ~ "x" ~ page_size ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set meta_t = "tensor<" ~ meta_words ~ "xi32>" %}
{%- set behind = header + row_sections * tokens %}
{%- set row_t = "tensor<" ~ tokens ~ "xi32>" %}
{%- set wide_t = "tensor<" ~ tokens ~ "x" ~ group ~ "xi32>" %}
{%- set flat_t = "tensor<1x" ~ tokens * group ~ "xi32>" %}
{%- set rows_t = "tensor<8x" ~ tokens * group ~ "xi32>" %}
{%- set slot_kv = key_slots ~ "x" ~ kv_heads ~ "x" ~ head_dim ~ "x" ~ dtype %}
{%- set head_kv = kv_heads ~ "x" ~ key_slots ~ "x" ~ head_dim ~ "x" ~ dtype %}
func.func private @{{ name }}(%q: {{ q_t }}, %k: {{ kv_t }}, %v: {{ kv_t }}, %kv_pages: {{ pages_t }}, %meta: {{ meta_t }}, %first_page: tensor<i32>) -> {{ q_t }} {
  %head = stablehlo.slice %meta [0:{{ header }}] : ({{ meta_t }}) -> tensor<{{ header }}xi32>
  %tables = stablehlo.slice %meta [{{ behind }}:{{ meta_words }}] : ({{ meta_t }}) -> tensor<{{ table_words }}xi32>
  %at = stablehlo.reshape %first_page : (tensor<i32>) -> tensor<1xi32>
  {%- for section in range(row_sections) %}
  %row{{ section }} = stablehlo.slice %meta [{{ header + section * tokens }}:{{ header + (section + 1) * tokens }}] : ({{ meta_t }}) -> {{ row_t }}
  %wide{{ section }} = stablehlo.broadcast_in_dim %row{{ section }}, dims = [0] : ({{ row_t }}) -> {{ wide_t }}
  %flat{{ section }} = stablehlo.reshape %wide{{ section }} : ({{ wide_t }}) -> {{ flat_t }}
  {%- endfor %}
  %unused = stablehlo.constant dense<0> : tensor<{{ 8 - row_sections }}x{{ tokens * group }}xi32>
  %rows = stablehlo.concatenate %flat0, %flat1, %flat2, %unused, dim = 0 : ({{ flat_t }}, {{ flat_t }}, {{ flat_t }}, tensor<{{ 8 - row_sections }}x{{ tokens * group }}xi32>) -> {{ rows_t }}
  %q_grouped = stablehlo.reshape %q : ({{ q_t }}) -> tensor<{{ grouped }}x{{ dtype }}>
  %q_heads = stablehlo.transpose %q_grouped, dims = [1, 0, 2, 3] : (tensor<{{ grouped }}x{{ dtype }}>) -> tensor<{{ heads }}x{{ dtype }}>
  %q_rows = stablehlo.reshape %q_heads : (tensor<{{ heads }}x{{ dtype }}>) -> tensor<{{ rows_q }}x{{ dtype }}>
  // New keys and values in slot order.
  %slots_word = stablehlo.slice %head [{{ word_slots }}:{{ word_slots + 1 }}] : (tensor<{{ header }}xi32>) -> tensor<1xi32>
  %slots_at = stablehlo.reshape %slots_word : (tensor<1xi32>) -> tensor<i32>
  %slots = stablehlo.dynamic_slice %meta, %slots_at, sizes = [{{ key_slots }}] : ({{ meta_t }}, tensor<i32>) -> tensor<{{ key_slots }}xi32>
  {%- for which in ["k", "v"] %}
  %{{ which }}_slots = "stablehlo.gather"(%{{ which }}, %slots) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, {{ kv_heads }}, {{ head_dim }}>}> : ({{ kv_t }}, tensor<{{ key_slots }}xi32>) -> tensor<{{ slot_kv }}>
  %{{ which }}_heads = stablehlo.transpose %{{ which }}_slots, dims = [1, 0, 2] : (tensor<{{ slot_kv }}>) -> tensor<{{ head_kv }}>
  %{{ which }}_one = stablehlo.reshape %{{ which }}_heads : (tensor<{{ head_kv }}>) -> tensor<1x{{ head_kv }}>
  {%- endfor %}
  %new_kv = stablehlo.concatenate %k_one, %v_one, dim = 0 : (tensor<1x{{ head_kv }}>, tensor<1x{{ head_kv }}>) -> tensor<2x{{ head_kv }}>
  %o_rows = stablehlo.custom_call @tpu_custom_call(%head, %tables, %at, %q_rows, %rows, %kv_pages, %new_kv) {backend_config = "{\22custom_call_config\22: {\22body\22: \22{{ body }}\22, \22needs_layout_passes\22: true, \22disable_bounds_checks\22: true}, \22scoped_memory_configs\22: [{\22memory_space\22: 1, \22offset\22: 0, \22size\22: {{ vmem_limit }}}]}", kernel_name = "{{ name }}", operand_layouts = [dense<0> : tensor<1xindex>, dense<0> : tensor<1xindex>, dense<0> : tensor<1xindex>, dense<[2, 1, 0]> : tensor<3xindex>, dense<[1, 0]> : tensor<2xindex>, dense<[4, 3, 2, 1, 0]> : tensor<5xindex>, dense<[3, 2, 1, 0]> : tensor<4xindex>], result_layouts = [dense<[2, 1, 0]> : tensor<3xindex>]} : (tensor<{{ header }}xi32>, tensor<{{ table_words }}xi32>, tensor<1xi32>, tensor<{{ rows_q }}x{{ dtype }}>, {{ rows_t }}, {{ pages_t }}, tensor<2x{{ head_kv }}>) -> tensor<{{ rows_q }}x{{ dtype }}>
  %o_heads = stablehlo.reshape %o_rows : (tensor<{{ rows_q }}x{{ dtype }}>) -> tensor<{{ heads }}x{{ dtype }}>
  %o_grouped = stablehlo.transpose %o_heads, dims = [1, 0, 2, 3] : (tensor<{{ heads }}x{{ dtype }}>) -> tensor<{{ grouped }}x{{ dtype }}>
  %o = stablehlo.reshape %o_grouped : (tensor<{{ grouped }}x{{ dtype }}>) -> {{ q_t }}
  return %o : {{ q_t }}
}
