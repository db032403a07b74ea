{#- Label log-probs on TPU as a StableHLO function: gathers the rows to score, brings labels of their own on lanes, calls the Mosaic
kernel and turns its result back. Same signature as the portable form; with `partial` the result has two columns more,
in front: maximum and sum. #}
{%- set first = 2 if partial else 0 %}
{%- set hidden_t = "tensor<" ~ tokens ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set head_t = "tensor<" ~ vocab ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set rows_t = "tensor<" ~ rows ~ "xi32>" %}
{%- set wide_t = "tensor<" ~ padded_rows ~ "xi32>" %}
{%- set given_t = "tensor<" ~ rows ~ "x" ~ labels ~ "xi32>" if per_row else "tensor<" ~ labels ~ "xi32>" %}
{%- set turned_t = "tensor<" ~ labels ~ "x" ~ rows ~ "xi32>" %}
{%- set ids_t = "tensor<" ~ label_rows ~ "x" ~ padded_rows ~ "xi32>" %}
{%- set h_t = "tensor<" ~ padded_rows ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set found_t = "tensor<" ~ label_rows ~ "x" ~ padded_rows ~ "xf32>" %}
{%- set columns = first + labels %}
{%- set live_t = "tensor<" ~ columns ~ "x" ~ rows ~ "xf32>" %}
{%- set out_t = "tensor<" ~ rows ~ "x" ~ columns ~ "xf32>" %}
func.func private @{{ name }}(%hidden: {{ hidden_t }}, %lm_head: {{ head_t }}, %rows: {{ rows_t }}, %labels: {{ given_t }}) -> {{ out_t }} {
  // Padding rows score hidden row 0; nobody reads them.
  %row0 = stablehlo.constant dense<0> : tensor<i32>
  %rows_wide = stablehlo.pad %rows, %row0, low = [0], high = [{{ padded_rows - rows }}], interior = [0] : ({{ rows_t }}, tensor<i32>) -> {{ wide_t }}
  %h = "stablehlo.gather"(%hidden, %rows_wide) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, {{ hidden }}>}> : ({{ hidden_t }}, {{ wide_t }}) -> {{ h_t }}
  {%- if per_row %}
  %turned = stablehlo.transpose %labels, dims = [1, 0] : ({{ given_t }}) -> {{ turned_t }}
  %no_label = stablehlo.constant dense<-1> : tensor<i32>
  %ids = stablehlo.pad %turned, %no_label, low = [{{ first }}, 0], high = [{{ label_rows - labels - first }}, {{ padded_rows - rows }}], interior = [0, 0] : ({{ turned_t }}, tensor<i32>) -> {{ ids_t }}
  {%- endif %}
  %found = stablehlo.custom_call @tpu_custom_call({{ '%ids' if per_row else '%labels' }}, %h, %lm_head, %lm_head) {backend_config = "{\22custom_call_config\22: {\22body\22: \22{{ body }}\22, \22needs_layout_passes\22: true, \22disable_bounds_checks\22: true}, \22scoped_memory_configs\22: [{\22memory_space\22: 1, \22offset\22: 0, \22size\22: {{ vmem_limit }}}]}", kernel_name = "{{ name }}", operand_layouts = [{{ 'dense<[1, 0]> : tensor<2xindex>' if per_row else 'dense<0> : tensor<1xindex>' }}, dense<[1, 0]> : tensor<2xindex>, dense<[1, 0]> : tensor<2xindex>, dense<[1, 0]> : tensor<2xindex>], result_layouts = [dense<[1, 0]> : tensor<2xindex>]} : ({{ ids_t if per_row else given_t }}, {{ h_t }}, {{ head_t }}, {{ head_t }}) -> {{ found_t }}
  %live = stablehlo.slice %found [0:{{ columns }}, 0:{{ rows }}] : ({{ found_t }}) -> {{ live_t }}
  %out = stablehlo.transpose %live, dims = [1, 0] : ({{ live_t }}) -> {{ out_t }}
  return %out : {{ out_t }}
}
