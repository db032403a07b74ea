{#- Softmax over the labels alone, portable form.

The log-sum-exp over the vocabulary cancels in a softmax over labels, so only the label rows of the LM head are
read: rows x labels logits instead of a pass over the vocabulary.
probability[r, j] = exp(logit[r, label_j]) / sum over i of exp(logit[r, label_i]); duplicate labels count each.
#}
{#- Backends that round f32 factors of a product (TF32 on GPUs, bf16 on TPUs) are told not to. #}
{%- set precise = ", precision = [HIGHEST, HIGHEST]" if dtype == "f32" else "" %}
{%- set hidden_t = "tensor<" ~ tokens ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set head_t = "tensor<" ~ vocab ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set picked_t = "tensor<" ~ rows ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set pickedf_t = "tensor<" ~ rows ~ "x" ~ hidden ~ "xf32>" %}
{%- set stat_t = "tensor<" ~ rows ~ "xf32>" %}
{%- set out_t = "tensor<" ~ rows ~ "x" ~ labels ~ "xf32>" %}
{%- set lead = rows ~ "x" ~ labels if per_row else labels %}
{%- set ids_t = "tensor<" ~ lead ~ "xi32>" %}
{%- set w_t = "tensor<" ~ lead ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set wf_t = "tensor<" ~ lead ~ "x" ~ hidden ~ "xf32>" %}
{%- set offset_dim = 2 if per_row else 1 %}
func.func private @{{ name }}(%hidden: {{ hidden_t }}, %lm_head: {{ head_t }}, %rows: tensor<{{ rows }}xi32>, %labels: {{ ids_t }}) -> {{ out_t }} {
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %neg_inf = stablehlo.constant dense<0xFF800000> : tensor<f32>
  %picked = "stablehlo.gather"(%hidden, %rows) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, {{ hidden }}>}> : ({{ hidden_t }}, tensor<{{ rows }}xi32>) -> {{ picked_t }}
  %h = stablehlo.convert %picked : ({{ picked_t }}) -> {{ pickedf_t }}
  %w_in = "stablehlo.gather"(%lm_head, %labels) <{dimension_numbers = #stablehlo.gather<offset_dims = [{{ offset_dim }}], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = {{ offset_dim }}>, indices_are_sorted = false, slice_sizes = array<i64: 1, {{ hidden }}>}> : ({{ head_t }}, {{ ids_t }}) -> {{ w_t }}
  %w = stablehlo.convert %w_in : ({{ w_t }}) -> {{ wf_t }}
  {%- if per_row %}
  %logits = stablehlo.dot_general %h, %w, batching_dims = [0] x [0], contracting_dims = [1] x [2]{{ precise }} : ({{ pickedf_t }}, {{ wf_t }}) -> {{ out_t }}
  {%- else %}
  %logits = stablehlo.dot_general %h, %w, contracting_dims = [1] x [1]{{ precise }} : ({{ pickedf_t }}, {{ wf_t }}) -> {{ out_t }}
  {%- endif %}
  %m = stablehlo.reduce(%logits init: %neg_inf) applies stablehlo.maximum across dimensions = [1] : ({{ out_t }}, tensor<f32>) -> {{ stat_t }}
  %m_all = stablehlo.broadcast_in_dim %m, dims = [0] : ({{ stat_t }}) -> {{ out_t }}
  %d = stablehlo.subtract %logits, %m_all : {{ out_t }}
  %e = stablehlo.exponential %d : {{ out_t }}
  %l = stablehlo.reduce(%e init: %zero) applies stablehlo.add across dimensions = [1] : ({{ out_t }}, tensor<f32>) -> {{ stat_t }}
  %l_all = stablehlo.broadcast_in_dim %l, dims = [0] : ({{ stat_t }}) -> {{ out_t }}
  %probabilities = stablehlo.divide %e, %l_all : {{ out_t }}
  return %probabilities : {{ out_t }}
}
