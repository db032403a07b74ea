{#- KV-page write on TPU as a StableHLO function: keys and values of a token side by side, then the Mosaic kernel, which
updates kv_pages in place. Signature of the portable form, with the chunk table in place of the slots. #}
{%- set row_t = "tensor<" ~ tokens ~ "x" ~ kv_heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set new_t = "tensor<" ~ tokens ~ "x" ~ 2 * kv_heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set pages_t = "tensor<" ~ pool_pages ~ "x2x" ~ kv_heads ~ "x" ~ page_size ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set table_t = "tensor<" ~ table_words ~ "xi32>" %}
func.func private @{{ name }}(%k: {{ row_t }}, %v: {{ row_t }}, %kv_pages: {{ pages_t }}, %table: {{ table_t }}, %first_page: tensor<i32>) -> {{ pages_t }} {
  %new_kv = stablehlo.concatenate %k, %v, dim = 1 : ({{ row_t }}, {{ row_t }}) -> {{ new_t }}
  %at = stablehlo.reshape %first_page : (tensor<i32>) -> tensor<1xi32>
  %written = stablehlo.custom_call @tpu_custom_call(%table, %at, %new_kv, %kv_pages) {backend_config = "{\22custom_call_config\22: {\22body\22: \22{{ body }}\22, \22needs_layout_passes\22: true, \22disable_bounds_checks\22: true}, \22scoped_memory_configs\22: [{\22memory_space\22: 1, \22offset\22: 0, \22size\22: {{ vmem_limit }}}]}", kernel_name = "{{ name }}", operand_layouts = [dense<0> : tensor<1xindex>, dense<0> : tensor<1xindex>, dense<[2, 1, 0]> : tensor<3xindex>, dense<[4, 3, 2, 1, 0]> : tensor<5xindex>], output_operand_aliases = [#stablehlo.output_operand_alias<output_tuple_indices = [], operand_index = 3, operand_tuple_indices = []>], result_layouts = [dense<[4, 3, 2, 1, 0]> : tensor<5xindex>]} : ({{ table_t }}, tensor<1xi32>, {{ new_t }}, {{ pages_t }}) -> {{ pages_t }}
  return %written : {{ pages_t }}
}
