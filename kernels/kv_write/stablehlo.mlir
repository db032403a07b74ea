{#- KV-page write, portable form.

Row t of k and v goes to slot words[1 + t] = page * page_size + offset of kv_pages [pages, 2, kv_heads, page_size, head_dim]
(K at index 0, V at 1), pages counted from first_page. A row with slot -1 is written nowhere; every byte outside the slots
stays as it was. Nothing is written if a slot lies outside the pool, or if word 0 says that the slots are another kernel's.
The planner has checked that slots are in range and distinct, so the order of writes cannot matter.
Donate kv_pages and the write happens in place.
#}
{%- set row_t = "tensor<" ~ tokens ~ "x" ~ kv_heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set row1_t = "tensor<" ~ tokens ~ "x1x" ~ kv_heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set row2_t = "tensor<" ~ tokens ~ "x2x" ~ kv_heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set pages_t = "tensor<" ~ pool_pages ~ "x2x" ~ kv_heads ~ "x" ~ page_size ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set slots_t = "tensor<" ~ tokens ~ "xi32>" %}
func.func private @{{ name }}(%k: {{ row_t }}, %v: {{ row_t }}, %kv_pages: {{ pages_t }}, %words: tensor<{{ 1 + tokens }}xi32>, %first_page: tensor<i32>) -> {{ pages_t }} {
  %slots = stablehlo.slice %words [1:{{ 1 + tokens }}] : (tensor<{{ 1 + tokens }}xi32>) -> {{ slots_t }}
  %k1 = stablehlo.reshape %k : ({{ row_t }}) -> {{ row1_t }}
  %v1 = stablehlo.reshape %v : ({{ row_t }}) -> {{ row1_t }}
  %kv = stablehlo.concatenate %k1, %v1, dim = 1 : ({{ row1_t }}, {{ row1_t }}) -> {{ row2_t }}
  %page_size = stablehlo.constant dense<{{ page_size }}> : {{ slots_t }}
  %zero = stablehlo.constant dense<0> : {{ slots_t }}
  %quotient = stablehlo.divide %slots, %page_size : {{ slots_t }}
  %offset = stablehlo.remainder %slots, %page_size : {{ slots_t }}
  // Where the last page lies behind the pool, or the first one below it, or slots are not ours, nothing is written.
  %identity = stablehlo.constant dense<{{ identity }}> : tensor<1xi32>
  %found = stablehlo.slice %words [0:1] : (tensor<{{ 1 + tokens }}xi32>) -> tensor<1xi32>
  %same = stablehlo.compare EQ, %found, %identity : (tensor<1xi32>, tensor<1xi32>) -> tensor<1xi1>
  %is_ours = stablehlo.reshape %same : (tensor<1xi1>) -> tensor<i1>
  %c0 = stablehlo.constant dense<0> : tensor<i32>
  %pool = stablehlo.constant dense<{{ pool_pages }}> : tensor<i32>
  %last_page = stablehlo.reduce(%quotient init: %c0) applies stablehlo.maximum across dimensions = [0] : ({{ slots_t }}, tensor<i32>) -> tensor<i32>
  %room = stablehlo.subtract %pool, %first_page : tensor<i32>
  %not_below = stablehlo.compare GE, %first_page, %c0 : (tensor<i32>, tensor<i32>) -> tensor<i1>
  %not_above = stablehlo.compare LT, %last_page, %room : (tensor<i32>, tensor<i32>) -> tensor<i1>
  %in_pool = stablehlo.and %not_below, %not_above : tensor<i1>
  %taken = stablehlo.and %is_ours, %in_pool : tensor<i1>
  %all_taken = stablehlo.broadcast_in_dim %taken, dims = [] : (tensor<i1>) -> tensor<{{ tokens }}xi1>
  %named = stablehlo.compare GE, %slots, %zero : ({{ slots_t }}, {{ slots_t }}) -> tensor<{{ tokens }}xi1>
  %write = stablehlo.and %named, %all_taken : tensor<{{ tokens }}xi1>
  // A page behind the last one is out of bounds, and a scatter leaves such an update out.
  %nowhere = stablehlo.constant dense<{{ pool_pages }}> : {{ slots_t }}
  %base = stablehlo.broadcast_in_dim %first_page, dims = [] : (tensor<i32>) -> {{ slots_t }}
  %based = stablehlo.add %quotient, %base : {{ slots_t }}
  %page = stablehlo.select %write, %based, %nowhere : tensor<{{ tokens }}xi1>, {{ slots_t }}
  %page1 = stablehlo.reshape %page : ({{ slots_t }}) -> tensor<{{ tokens }}x1xi32>
  %offset1 = stablehlo.reshape %offset : ({{ slots_t }}) -> tensor<{{ tokens }}x1xi32>
  %index = stablehlo.concatenate %page1, %offset1, dim = 1 : (tensor<{{ tokens }}x1xi32>, tensor<{{ tokens }}x1xi32>) -> tensor<{{ tokens }}x2xi32>
  %written = "stablehlo.scatter"(%kv_pages, %index, %kv) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1, 2, 3], inserted_window_dims = [0, 3], scatter_dims_to_operand_dims = [0, 3], index_vector_dim = 1>, unique_indices = false}> ({
  ^bb0(%old: tensor<{{ dtype }}>, %new: tensor<{{ dtype }}>):
    stablehlo.return %new : tensor<{{ dtype }}>
  }) : ({{ pages_t }}, tensor<{{ tokens }}x2xi32>, {{ row2_t }}) -> {{ pages_t }}
  return %written : {{ pages_t }}
}
