{#- Label log-probs from hidden states, portable form: fused LM head, log-sum-exp and label gather.

logprob[r, j] = logit[r, label[r, j]] - log(sum over v of exp(logit[r, v])), logit = hidden[rows[r]] . lm_head[v].
The vocabulary is streamed in blocks of {vocab_block} rows of the LM head with a running maximum and sum; a label's
logit is picked from the block it falls into, so it is the very number that the sum saw. rows x vocabulary
logits never exist; the largest temporary is rows x vocab_block.
The last block is shifted back to stay inside the LM head; the part that was seen before is masked.
#}
{#- Backends that round f32 factors of a product (TF32 on GPUs, bf16 on TPUs) are told not to. #}
{%- set precise = ", precision = [HIGHEST, HIGHEST]" if dtype == "f32" else "" %}
{%- set hidden_t = "tensor<" ~ tokens ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set head_t = "tensor<" ~ vocab ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set block_t = "tensor<" ~ vocab_block ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set blockf_t = "tensor<" ~ vocab_block ~ "x" ~ hidden ~ "xf32>" %}
{%- set picked_t = "tensor<" ~ rows ~ "x" ~ hidden ~ "x" ~ dtype ~ ">" %}
{%- set pickedf_t = "tensor<" ~ rows ~ "x" ~ hidden ~ "xf32>" %}
{%- set logits_t = "tensor<" ~ rows ~ "x" ~ vocab_block ~ "xf32>" %}
{%- set mask_t = "tensor<" ~ rows ~ "x" ~ vocab_block ~ "xi1>" %}
{%- set stat_t = "tensor<" ~ rows ~ "xf32>" %}
{%- set out_t = "tensor<" ~ rows ~ "x" ~ labels ~ "xf32>" %}
{%- set ids_t = "tensor<" ~ rows ~ "x" ~ labels ~ "xi32>" %}
{%- set given_t = ids_t if per_row else "tensor<" ~ labels ~ "xi32>" %}
func.func private @{{ name }}(%hidden: {{ hidden_t }}, %lm_head: {{ head_t }}, %rows: tensor<{{ rows }}xi32>, %labels: {{ given_t }}) -> {{ out_t }} {
  %c0 = stablehlo.constant dense<0> : tensor<i32>
  %c1 = stablehlo.constant dense<1> : tensor<i32>
  %blocks = stablehlo.constant dense<{{ (vocab + vocab_block - 1) // vocab_block }}> : tensor<i32>
  %block_rows = stablehlo.constant dense<{{ vocab_block }}> : tensor<i32>
  %last_start = stablehlo.constant dense<{{ vocab - vocab_block }}> : tensor<i32>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %neg_inf = stablehlo.constant dense<0xFF800000> : tensor<f32>
  %m_start = stablehlo.constant dense<0xFF7FFFFF> : {{ stat_t }}
  %l_start = stablehlo.constant dense<0.0> : {{ stat_t }}
  %picked_start = stablehlo.constant dense<0.0> : {{ out_t }}
  %picked_rows = "stablehlo.gather"(%hidden, %rows) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, {{ hidden }}>}> : ({{ hidden_t }}, tensor<{{ rows }}xi32>) -> {{ picked_t }}
  %h = stablehlo.convert %picked_rows : ({{ picked_t }}) -> {{ pickedf_t }}
  {%- if per_row %}
  %ids = stablehlo.reshape %labels : ({{ given_t }}) -> {{ ids_t }}
  {%- else %}
  %ids = stablehlo.broadcast_in_dim %labels, dims = [1] : ({{ given_t }}) -> {{ ids_t }}
  {%- endif %}
  %row_number = stablehlo.iota dim = 0 : tensor<{{ rows }}x{{ labels }}x1xi32>
  %stream:4 = stablehlo.while(%b = %c0, %m = %m_start, %l = %l_start, %found = %picked_start) : tensor<i32>, {{ stat_t }}, {{ stat_t }}, {{ out_t }}
  cond {
    %more = stablehlo.compare LT, %b, %blocks : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %more : tensor<i1>
  } do {
    %fresh_from = stablehlo.multiply %b, %block_rows : tensor<i32>
    %start = stablehlo.minimum %fresh_from, %last_start : tensor<i32>
    %w = stablehlo.dynamic_slice %lm_head, %start, %c0, sizes = [{{ vocab_block }}, {{ hidden }}] : ({{ head_t }}, tensor<i32>, tensor<i32>) -> {{ block_t }}
    %wf = stablehlo.convert %w : ({{ block_t }}) -> {{ blockf_t }}
    %logits = stablehlo.dot_general %h, %wf, contracting_dims = [1] x [1]{{ precise }} : ({{ pickedf_t }}, {{ blockf_t }}) -> {{ logits_t }}
    %column = stablehlo.iota dim = 1 : tensor<{{ rows }}x{{ vocab_block }}xi32>
    %seen_before = stablehlo.subtract %fresh_from, %start : tensor<i32>
    %first_fresh = stablehlo.broadcast_in_dim %seen_before, dims = [] : (tensor<i32>) -> tensor<{{ rows }}x{{ vocab_block }}xi32>
    %fresh = stablehlo.compare GE, %column, %first_fresh : (tensor<{{ rows }}x{{ vocab_block }}xi32>, tensor<{{ rows }}x{{ vocab_block }}xi32>) -> {{ mask_t }}
    %hidden_logit = stablehlo.constant dense<0xFF800000> : {{ logits_t }}
    %live = stablehlo.select %fresh, %logits, %hidden_logit : {{ mask_t }}, {{ logits_t }}
    %block_max = stablehlo.reduce(%live init: %neg_inf) applies stablehlo.maximum across dimensions = [1] : ({{ logits_t }}, tensor<f32>) -> {{ stat_t }}
    %m_next = stablehlo.maximum %m, %block_max : {{ stat_t }}
    %m_all = stablehlo.broadcast_in_dim %m_next, dims = [0] : ({{ stat_t }}) -> {{ logits_t }}
    %d = stablehlo.subtract %live, %m_all : {{ logits_t }}
    %p = stablehlo.exponential %d : {{ logits_t }}
    %block_sum = stablehlo.reduce(%p init: %zero) applies stablehlo.add across dimensions = [1] : ({{ logits_t }}, tensor<f32>) -> {{ stat_t }}
    %old = stablehlo.subtract %m, %m_next : {{ stat_t }}
    %alpha = stablehlo.exponential %old : {{ stat_t }}
    %l_old = stablehlo.multiply %l, %alpha : {{ stat_t }}
    %l_next = stablehlo.add %l_old, %block_sum : {{ stat_t }}
    // Labels of this block, picked from its logits.
    %start_all = stablehlo.broadcast_in_dim %start, dims = [] : (tensor<i32>) -> {{ ids_t }}
    %at = stablehlo.subtract %ids, %start_all : {{ ids_t }}
    %lowest = stablehlo.constant dense<0> : {{ ids_t }}
    %beyond = stablehlo.constant dense<{{ vocab_block }}> : {{ ids_t }}
    %from_start = stablehlo.compare GE, %at, %lowest : ({{ ids_t }}, {{ ids_t }}) -> tensor<{{ rows }}x{{ labels }}xi1>
    %before_end = stablehlo.compare LT, %at, %beyond : ({{ ids_t }}, {{ ids_t }}) -> tensor<{{ rows }}x{{ labels }}xi1>
    %here = stablehlo.and %from_start, %before_end : tensor<{{ rows }}x{{ labels }}xi1>
    %at1 = stablehlo.reshape %at : ({{ ids_t }}) -> tensor<{{ rows }}x{{ labels }}x1xi32>
    %where = stablehlo.concatenate %row_number, %at1, dim = 2 : (tensor<{{ rows }}x{{ labels }}x1xi32>, tensor<{{ rows }}x{{ labels }}x1xi32>) -> tensor<{{ rows }}x{{ labels }}x2xi32>
    %candidate = "stablehlo.gather"(%logits, %where) <{dimension_numbers = #stablehlo.gather<collapsed_slice_dims = [0, 1], start_index_map = [0, 1], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 1>}> : ({{ logits_t }}, tensor<{{ rows }}x{{ labels }}x2xi32>) -> {{ out_t }}
    %found_next = stablehlo.select %here, %candidate, %found : tensor<{{ rows }}x{{ labels }}xi1>, {{ out_t }}
    %b_next = stablehlo.add %b, %c1 : tensor<i32>
    stablehlo.return %b_next, %m_next, %l_next, %found_next : tensor<i32>, {{ stat_t }}, {{ stat_t }}, {{ out_t }}
  }
  %log_l = stablehlo.log %stream#2 : {{ stat_t }}
  // (logit - max) - log(sum): both differences are small numbers, so nothing cancels.
  %m_labels = stablehlo.broadcast_in_dim %stream#1, dims = [0] : ({{ stat_t }}) -> {{ out_t }}
  %log_labels = stablehlo.broadcast_in_dim %log_l, dims = [0] : ({{ stat_t }}) -> {{ out_t }}
  %above = stablehlo.subtract %stream#3, %m_labels : {{ out_t }}
  %logprobs = stablehlo.subtract %above, %log_labels : {{ out_t }}
  return %logprobs : {{ out_t }}
}
