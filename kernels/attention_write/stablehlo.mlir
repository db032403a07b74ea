{#- Attention, then the KV-page write of the same pass, for every target: the two functions that follow.

Data. That of both: (q, k, v, kv_pages, meta, slots, first_page) -> (o, kv_pages); on TPU the chunk table is in place of the
slots. Attention reads the pages as they were.

Invariants.
- Pages are written in place where kv_pages is donated, or carried by a loop: no copy of the pool is made. A compiler that is
  free to write before it has read must keep the old pages for the reads. The barrier takes that freedom: the pages that are
  written are known only when attention has its result.
#}
{%- set o_t, kv_t, pages_t, meta_t, slots_t = types.q, types.kv, types.pages, types.meta, types.slots %}
func.func private @{{ name }}(%q: {{ o_t }}, %k: {{ kv_t }}, %v: {{ kv_t }}, %kv_pages: {{ pages_t }}, %meta: {{ meta_t }}, %slots: {{ slots_t }}, %first_page: tensor<i32>) -> ({{ o_t }}, {{ pages_t }}) {
  %o = func.call @{{ name }}_attention(%q, %k, %v, %kv_pages, %meta, %first_page) : ({{ o_t }}, {{ kv_t }}, {{ kv_t }}, {{ pages_t }}, {{ meta_t }}, tensor<i32>) -> {{ o_t }}
  %read:2 = stablehlo.optimization_barrier %kv_pages, %o : {{ pages_t }}, {{ o_t }}
  %written = func.call @{{ name }}_kv_write(%k, %v, %read#0, %slots, %first_page) : ({{ kv_t }}, {{ kv_t }}, {{ pages_t }}, {{ slots_t }}, tensor<i32>) -> {{ pages_t }}
  return %read#1, %written : {{ o_t }}, {{ pages_t }}
}
{{ attention }}
{{ kv_write }}
