{#- Softmax over the labels alone on TPU as a StableHLO function: gathers the rows to score and the label rows of the LM
head, calls the Mosaic kernel and turns its result back. Same signature as the portable form. #}
{%- set hidden_t = "tensor<" ~ tokens ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set head_t = "tensor<" ~ vocab ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set rows_t = "tensor<" ~ rows ~ "xi32>" %}
{%- set wide_t = "tensor<" ~ padded_rows ~ "xi32>" %}
{%- set given_t = "tensor<" ~ (rows ~ "x" if per_row else "") ~ labels ~ "xi32>" %}
{%- set turned_t = "tensor<" ~ labels ~ "x" ~ rows ~ "xi32>" %}
{%- set lead = labels ~ "x" ~ padded_rows if per_row else label_rows %}
{%- set ids_t = "tensor<" ~ lead ~ "xi32>" %}
{%- set w_t = "tensor<" ~ lead ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set h_t = "tensor<" ~ padded_rows ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set found_t = "tensor<" ~ label_rows ~ "x" ~ padded_rows ~ "xf32>" %}
{%- set live_t = "tensor<" ~ labels ~ "x" ~ rows ~ "xf32>" %}
{%- set out_t = "tensor<" ~ rows ~ "x" ~ labels ~ "xf32>" %}
{%- set offset_dim = 2 if per_row else 1 %}
func.func private @{{ name }}(%hidden: {{ hidden_t }}, %lm_head: {{ head_t }}, %rows: {{ rows_t }}, %labels: {{ given_t }}) -> {{ out_t }} {
  // Padding rows score hidden row 0 and padding labels are token 0; nobody reads them.
  %zero = stablehlo.constant dense<0> : tensor<i32>
  %rows_wide = stablehlo.pad %rows, %zero, low = [0], high = [{{ padded_rows - rows }}], interior = [0] : ({{ rows_t }}, tensor<i32>) -> {{ wide_t }}
  %h = "stablehlo.gather"(%hidden, %rows_wide) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, {{ hidden }}>}> : ({{ hidden_t }}, {{ wide_t }}) -> {{ h_t }}
  {%- if per_row %}
  %turned = stablehlo.transpose %labels, dims = [1, 0] : ({{ given_t }}) -> {{ turned_t }}
  %ids = stablehlo.pad %turned, %zero, low = [0, 0], high = [0, {{ padded_rows - rows }}], interior = [0, 0] : ({{ turned_t }}, tensor<i32>) -> {{ ids_t }}
  {%- else %}
  %ids = stablehlo.pad %labels, %zero, low = [0], high = [{{ label_rows - labels }}], interior = [0] : ({{ given_t }}, tensor<i32>) -> {{ ids_t }}
  {%- endif %}
  %w = "stablehlo.gather"(%lm_head, %ids) <{dimension_numbers = #stablehlo.gather<offset_dims = [{{ offset_dim }}], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = {{ offset_dim }}>, indices_are_sorted = false, slice_sizes = array<i64: 1, {{ hidden }}>}> : ({{ head_t }}, {{ ids_t }}) -> {{ w_t }}
  %found = stablehlo.custom_call @tpu_custom_call(%h, %w) {backend_config = "{\22custom_call_config\22: {\22body\22: \22{{ body }}\22, \22needs_layout_passes\22: true, \22disable_bounds_checks\22: true}, \22scoped_memory_configs\22: [{\22memory_space\22: 1, \22offset\22: 0, \22size\22: {{ vmem_limit }}}]}", kernel_name = "{{ name }}", operand_layouts = [dense<[1, 0]> : tensor<2xindex>, dense<{{ "[2, 1, 0]" if per_row else "[1, 0]" }}> : tensor<{{ 3 if per_row else 2 }}xindex>], result_layouts = [dense<[1, 0]> : tensor<2xindex>]} : ({{ h_t }}, {{ w_t }}) -> {{ found_t }}
  %live = stablehlo.slice %found [0:{{ labels }}, 0:{{ rows }}] : ({{ found_t }}) -> {{ live_t }}
  %out = stablehlo.transpose %live, dims = [1, 0] : ({{ live_t }}) -> {{ out_t }}
  return %out : {{ out_t }}
}
