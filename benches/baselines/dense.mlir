{#- The formulation to beat: gather the prefix, one score matrix over all keys, a dense T x (P + T) mask; computes in f32. #}
{%- set g = q_heads // kv_heads %}
{%- set prefix = prefix_pages * page_size %}
{%- set keys = prefix + tokens %}
{%- set row = tokens ~ "x" ~ q_heads ~ "x" ~ head_dim ~ "x" %}
{%- set kv_row = tokens ~ "x" ~ kv_heads ~ "x" ~ head_dim ~ "x" %}
{%- set kv = kv_row ~ "f32" %}
{%- set pages = "x2x" ~ kv_heads ~ "x" ~ page_size ~ "x" ~ head_dim ~ "x" %}
{%- set pre = kv_heads ~ "x" ~ prefix ~ "x" ~ head_dim ~ "xf32" %}
{%- set all = kv_heads ~ "x" ~ keys ~ "x" ~ head_dim ~ "xf32" %}
{%- set sc = kv_heads ~ "x" ~ tokens ~ "x" ~ g ~ "x" ~ keys %}
module @dense {
func.func public @main(%q0: tensor<{{ row }}{{ element }}>, %k0: tensor<{{ kv_row }}{{ element }}>, %v0: tensor<{{ kv_row }}{{ element }}>, %kv_pages: tensor<{{ pool_pages }}{{ pages }}{{ element }}>, %pages: tensor<{{ prefix_pages }}xi32>, %mask_words: tensor<{{ tokens }}x{{ keys }}xi32>) -> tensor<{{ row }}{{ element }}> {
  %q = stablehlo.convert %q0 : (tensor<{{ row }}{{ element }}>) -> tensor<{{ row }}f32>
  %k = stablehlo.convert %k0 : (tensor<{{ kv_row }}{{ element }}>) -> tensor<{{ kv }}>
  %v = stablehlo.convert %v0 : (tensor<{{ kv_row }}{{ element }}>) -> tensor<{{ kv }}>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %neg_inf = stablehlo.constant dense<0xFF800000> : tensor<f32>
  %unseen = stablehlo.constant dense<0> : tensor<{{ tokens }}x{{ keys }}xi32>
  %mask = stablehlo.compare NE, %mask_words, %unseen : (tensor<{{ tokens }}x{{ keys }}xi32>, tensor<{{ tokens }}x{{ keys }}xi32>) -> tensor<{{ tokens }}x{{ keys }}xi1>
  %words = "stablehlo.gather"(%kv_pages, %pages) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2, 3, 4], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, 2, {{ kv_heads }}, {{ page_size }}, {{ head_dim }}>}> : (tensor<{{ pool_pages }}{{ pages }}{{ element }}>, tensor<{{ prefix_pages }}xi32>) -> tensor<{{ prefix_pages }}{{ pages }}{{ element }}>
  %paged = stablehlo.convert %words : (tensor<{{ prefix_pages }}{{ pages }}{{ element }}>) -> tensor<{{ prefix_pages }}{{ pages }}f32>
  %heads = stablehlo.transpose %paged, dims = [1, 2, 0, 3, 4] : (tensor<{{ prefix_pages }}{{ pages }}f32>) -> tensor<2x{{ kv_heads }}x{{ prefix_pages }}x{{ page_size }}x{{ head_dim }}xf32>
  %flat = stablehlo.reshape %heads : (tensor<2x{{ kv_heads }}x{{ prefix_pages }}x{{ page_size }}x{{ head_dim }}xf32>) -> tensor<2x{{ pre }}>
  %pk1 = stablehlo.slice %flat [0:1, 0:{{ kv_heads }}, 0:{{ prefix }}, 0:{{ head_dim }}] : (tensor<2x{{ pre }}>) -> tensor<1x{{ pre }}>
  %pv1 = stablehlo.slice %flat [1:2, 0:{{ kv_heads }}, 0:{{ prefix }}, 0:{{ head_dim }}] : (tensor<2x{{ pre }}>) -> tensor<1x{{ pre }}>
  %pk = stablehlo.reshape %pk1 : (tensor<1x{{ pre }}>) -> tensor<{{ pre }}>
  %pv = stablehlo.reshape %pv1 : (tensor<1x{{ pre }}>) -> tensor<{{ pre }}>
  %kh = stablehlo.transpose %k, dims = [1, 0, 2] : (tensor<{{ kv }}>) -> tensor<{{ kv_heads }}x{{ tokens }}x{{ head_dim }}xf32>
  %vh = stablehlo.transpose %v, dims = [1, 0, 2] : (tensor<{{ kv }}>) -> tensor<{{ kv_heads }}x{{ tokens }}x{{ head_dim }}xf32>
  %ka = stablehlo.concatenate %pk, %kh, dim = 1 : (tensor<{{ pre }}>, tensor<{{ kv_heads }}x{{ tokens }}x{{ head_dim }}xf32>) -> tensor<{{ all }}>
  %va = stablehlo.concatenate %pv, %vh, dim = 1 : (tensor<{{ pre }}>, tensor<{{ kv_heads }}x{{ tokens }}x{{ head_dim }}xf32>) -> tensor<{{ all }}>
  %factor = stablehlo.constant dense<{{ scale }}> : tensor<{{ tokens }}x{{ q_heads }}x{{ head_dim }}xf32>
  %qs = stablehlo.multiply %q, %factor : tensor<{{ tokens }}x{{ q_heads }}x{{ head_dim }}xf32>
  %qg = stablehlo.reshape %qs : (tensor<{{ tokens }}x{{ q_heads }}x{{ head_dim }}xf32>) -> tensor<{{ tokens }}x{{ kv_heads }}x{{ g }}x{{ head_dim }}xf32>
  %raw = stablehlo.dot_general %qg, %ka, batching_dims = [1] x [0], contracting_dims = [3] x [2], precision = [HIGHEST, HIGHEST] : (tensor<{{ tokens }}x{{ kv_heads }}x{{ g }}x{{ head_dim }}xf32>, tensor<{{ all }}>) -> tensor<{{ sc }}xf32>
{%- if soft_cap is none %}
  %s = stablehlo.reshape %raw : (tensor<{{ sc }}xf32>) -> tensor<{{ sc }}xf32>
{%- else %}
  %cap = stablehlo.constant dense<{{ soft_cap }}> : tensor<{{ sc }}xf32>
  %shrunk = stablehlo.divide %raw, %cap : tensor<{{ sc }}xf32>
  %tanh = stablehlo.tanh %shrunk : tensor<{{ sc }}xf32>
  %s = stablehlo.multiply %tanh, %cap : tensor<{{ sc }}xf32>
{%- endif %}
  %mb = stablehlo.broadcast_in_dim %mask, dims = [1, 3] : (tensor<{{ tokens }}x{{ keys }}xi1>) -> tensor<{{ sc }}xi1>
  %hide = stablehlo.constant dense<0xFF800000> : tensor<{{ sc }}xf32>
  %sm = stablehlo.select %mb, %s, %hide : tensor<{{ sc }}xi1>, tensor<{{ sc }}xf32>
  %m = stablehlo.reduce(%sm init: %neg_inf) applies stablehlo.maximum across dimensions = [3] : (tensor<{{ sc }}xf32>, tensor<f32>) -> tensor<{{ kv_heads }}x{{ tokens }}x{{ g }}xf32>
  %mx = stablehlo.broadcast_in_dim %m, dims = [0, 1, 2] : (tensor<{{ kv_heads }}x{{ tokens }}x{{ g }}xf32>) -> tensor<{{ sc }}xf32>
  %d = stablehlo.subtract %sm, %mx : tensor<{{ sc }}xf32>
  %p = stablehlo.exponential %d : tensor<{{ sc }}xf32>
  %l = stablehlo.reduce(%p init: %zero) applies stablehlo.add across dimensions = [3] : (tensor<{{ sc }}xf32>, tensor<f32>) -> tensor<{{ kv_heads }}x{{ tokens }}x{{ g }}xf32>
  %o = stablehlo.dot_general %p, %va, batching_dims = [0] x [0], contracting_dims = [3] x [1], precision = [HIGHEST, HIGHEST] : (tensor<{{ sc }}xf32>, tensor<{{ all }}>) -> tensor<{{ kv_heads }}x{{ tokens }}x{{ g }}x{{ head_dim }}xf32>
  %lb = stablehlo.broadcast_in_dim %l, dims = [0, 1, 2] : (tensor<{{ kv_heads }}x{{ tokens }}x{{ g }}xf32>) -> tensor<{{ kv_heads }}x{{ tokens }}x{{ g }}x{{ head_dim }}xf32>
  %on = stablehlo.divide %o, %lb : tensor<{{ kv_heads }}x{{ tokens }}x{{ g }}x{{ head_dim }}xf32>
  %ot = stablehlo.transpose %on, dims = [1, 0, 2, 3] : (tensor<{{ kv_heads }}x{{ tokens }}x{{ g }}x{{ head_dim }}xf32>) -> tensor<{{ tokens }}x{{ kv_heads }}x{{ g }}x{{ head_dim }}xf32>
  %or = stablehlo.reshape %ot : (tensor<{{ tokens }}x{{ kv_heads }}x{{ g }}x{{ head_dim }}xf32>) -> tensor<{{ tokens }}x{{ q_heads }}x{{ head_dim }}xf32>
  %result = stablehlo.convert %or : (tensor<{{ row }}f32>) -> tensor<{{ row }}{{ element }}>
  return %result : tensor<{{ row }}{{ element }}>
}
}
