{#- Ragged paged attention with a shared prefix, portable form.

Algorithm. Two loops. The outer one walks query tiles of {q_tile} tokens; the inner one walks exactly the key
tiles that the planner listed for that query tile, keeping a running maximum `m`, a running sum `l` and an
unnormalised result `acc` for every row (online softmax). Nothing of size T x T exists.

Data. q [T, q_heads, head_dim], k and v [T, kv_heads, head_dim], kv_pages [pages, 2, kv_heads, page_size, head_dim],
meta: the planner's words, first_page: the page of the pool from which its pages count.
Scores are [kv_heads, q_tile, group, keys], so K and V are never repeated for a group.

Invariants.
- The keys that a row sees in a tile are an interval [lo, hi): all keys of a shared tile, or from the row's own
  segment start to the row itself. Everything else gets probability exactly 0.
- A slot tile computes only the {own_tile} rows that may own its slots; a row below the entry's first is another
  entry's. Barriers around that step, and its fixed shape, make it the same code for every size of query tile: a
  compiler that joins products and sums differently in two programs would give one item two results.
- A key behind the tile's key count is nobody's: its V is replaced by 0, since 0 x NaN is NaN.
- A padding row gives 0. Any other sees itself: where all its scores are -inf it gives NaN, 0 / 0.
- NaN in q or k of a row reaches every row that sees it, NaN in v every row of the tile, for 0 x NaN is NaN.
- A plan of another identity, or of pages that do not lie in the pool from first_page on, is not walked: all is NaN.
- Arithmetic is f32 whatever the dtype; the result is rounded once.
#}
{#- Backends that round f32 factors of a product (TF32 on GPUs, bf16 on TPUs) are told not to. #}
{%- set precise = ", precision = [HIGHEST, HIGHEST]" if dtype == "f32" else "" %}
{%- set rows = q_tile * group %}
{%- set f = "f32" %}
{%- macro stat_of(n) %}tensor<{{ kv_heads }}x{{ n }}x{{ group }}xf32>{% endmacro %}
{%- macro accum_of(n) %}tensor<{{ kv_heads }}x{{ n * group }}x{{ head_dim }}xf32>{% endmacro %}
{%- set stat = stat_of(q_tile) %}
{%- set accum = accum_of(q_tile) %}
{%- set kv_tile_t = "tensor<" ~ kv_heads ~ "x" ~ kv_tile ~ "x" ~ head_dim ~ "xf32>" %}
{%- set out_t = "tensor<" ~ tokens ~ "x" ~ q_heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set new_t = "tensor<" ~ tokens ~ "x" ~ kv_heads ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set pages_t = "tensor<" ~ pool_pages ~ "x2x" ~ kv_heads ~ "x" ~ page_size ~ "x" ~ head_dim ~ "x" ~ dtype ~ ">" %}
{%- set tile_pages = kv_tile // page_size %}
{%- set rows_t = "tensor<" ~ q_tile ~ "xi32>" %}
{%- macro scalar(out, tensor, len, at) %}
    %{{ out }}_s = stablehlo.dynamic_slice %{{ tensor }}, %{{ at }}, sizes = [1] : (tensor<{{ len }}xi32>, tensor<i32>) -> tensor<1xi32>
    %{{ out }} = stablehlo.reshape %{{ out }}_s : (tensor<1xi32>) -> tensor<i32>
{%- endmacro %}
{%- macro tile_word(out, word) %}
      %{{ out }}_s = stablehlo.slice %tile [{{ word }}:{{ word + 1 }}] : (tensor<{{ tile_words }}xi32>) -> tensor<1xi32>
      %{{ out }} = stablehlo.reshape %{{ out }}_s : (tensor<1xi32>) -> tensor<i32>
{%- endmacro %}
{%- macro row_section(out, section) %}
    %{{ out }}_c = stablehlo.constant dense<{{ header + section * tokens }}> : tensor<i32>
    %{{ out }}_at = stablehlo.add %{{ out }}_c, %row0 : tensor<i32>
    %{{ out }} = stablehlo.dynamic_slice %meta, %{{ out }}_at, sizes = [{{ q_tile }}] : (tensor<{{ meta_words }}xi32>, tensor<i32>) -> tensor<{{ q_tile }}xi32>
{%- endmacro %}
{%- macro widen(out, from, shape) %}
        {%- if dtype == f %}
        %{{ out }} = stablehlo.reshape %{{ from }} : (tensor<{{ shape }}x{{ dtype }}>) -> tensor<{{ shape }}x{{ f }}>
        {%- else %}
        %{{ out }} = stablehlo.convert %{{ from }} : (tensor<{{ shape }}x{{ dtype }}>) -> tensor<{{ shape }}x{{ f }}>
        {%- endif %}
{%- endmacro %}
{#- Rows `index` of `from`, as f32 [kv_heads, keys, head_dim]. #}
{%- macro take_rows(p, from, index, keys) %}
        %{{ p }}_rows = "stablehlo.gather"(%{{ from }}, %{{ index }}) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, {{ kv_heads }}, {{ head_dim }}>}> : (tensor<{{ tokens }}x{{ kv_heads }}x{{ head_dim }}x{{ dtype }}>, tensor<{{ keys }}xi32>) -> tensor<{{ keys }}x{{ kv_heads }}x{{ head_dim }}x{{ dtype }}>
        %{{ p }}_heads = stablehlo.transpose %{{ p }}_rows, dims = [1, 0, 2] : (tensor<{{ keys }}x{{ kv_heads }}x{{ head_dim }}x{{ dtype }}>) -> tensor<{{ kv_heads }}x{{ keys }}x{{ head_dim }}x{{ dtype }}>
        {{- widen(p, p ~ "_heads", kv_heads ~ "x" ~ keys ~ "x" ~ head_dim) }}
{%- endmacro %}
{#- One online-softmax step of `n` tokens %{q}, whose state is %{m}, %{l}, %{acc} and who see [%{lo}, %{hi}), over
`keys` keys %{p}_k, %{p}_v; leaves %{p}_m, %{p}_l, %{p}_acc. #}
{%- macro step(p, keys, n, q, lo, hi, m, l, acc) %}
        {%- set rows_t = "tensor<" ~ n ~ "xi32>" %}
        {%- set stat = stat_of(n) %}
        {%- set accum = accum_of(n) %}
        {%- set mask_i = "tensor<" ~ n ~ "x" ~ keys ~ "xi32>" %}
        {%- set mask_b = "tensor<" ~ n ~ "x" ~ keys ~ "xi1>" %}
        {%- set sees_t = "tensor<" ~ kv_heads ~ "x" ~ n ~ "x" ~ group ~ "x" ~ keys ~ "xi1>" %}
        {%- set score_t = "tensor<" ~ kv_heads ~ "x" ~ n ~ "x" ~ group ~ "x" ~ keys ~ "xf32>" %}
        {%- set flat_t = "tensor<" ~ kv_heads ~ "x" ~ n * group ~ "x" ~ keys ~ "xf32>" %}
        {%- set kv_t = "tensor<" ~ kv_heads ~ "x" ~ keys ~ "x" ~ head_dim ~ "xf32>" %}
        {%- set kv_i = "tensor<" ~ kv_heads ~ "x" ~ keys ~ "x" ~ head_dim ~ "xi32>" %}
        {%- set kv_b = "tensor<" ~ kv_heads ~ "x" ~ keys ~ "x" ~ head_dim ~ "xi1>" %}
        // Who sees what.
        %{{ p }}_key = stablehlo.iota dim = 1 : {{ mask_i }}
        %{{ p }}_lo = stablehlo.broadcast_in_dim %{{ lo }}, dims = [0] : ({{ rows_t }}) -> {{ mask_i }}
        %{{ p }}_hi = stablehlo.broadcast_in_dim %{{ hi }}, dims = [0] : ({{ rows_t }}) -> {{ mask_i }}
        %{{ p }}_from = stablehlo.compare GE, %{{ p }}_key, %{{ p }}_lo : ({{ mask_i }}, {{ mask_i }}) -> {{ mask_b }}
        %{{ p }}_upto = stablehlo.compare LT, %{{ p }}_key, %{{ p }}_hi : ({{ mask_i }}, {{ mask_i }}) -> {{ mask_b }}
        %{{ p }}_sees = stablehlo.and %{{ p }}_from, %{{ p }}_upto : {{ mask_b }}
        %{{ p }}_mask = stablehlo.broadcast_in_dim %{{ p }}_sees, dims = [1, 3] : ({{ mask_b }}) -> {{ sees_t }}
        // Values behind the last key are nobody's.
        %{{ p }}_vkey = stablehlo.iota dim = 1 : {{ kv_i }}
        %{{ p }}_vn = stablehlo.broadcast_in_dim %tile_keys, dims = [] : (tensor<i32>) -> {{ kv_i }}
        %{{ p }}_vlive = stablehlo.compare LT, %{{ p }}_vkey, %{{ p }}_vn : ({{ kv_i }}, {{ kv_i }}) -> {{ kv_b }}
        %{{ p }}_v0 = stablehlo.constant dense<0.0> : {{ kv_t }}
        %{{ p }}_vsafe = stablehlo.select %{{ p }}_vlive, %{{ p }}_v, %{{ p }}_v0 : {{ kv_b }}, {{ kv_t }}
        // Scores.
        %{{ p }}_qk = stablehlo.dot_general %{{ q }}, %{{ p }}_k, batching_dims = [0] x [0], contracting_dims = [2] x [2]{{ precise }} : ({{ accum }}, {{ kv_t }}) -> {{ flat_t }}
        %{{ p }}_s = stablehlo.reshape %{{ p }}_qk : ({{ flat_t }}) -> {{ score_t }}
        {%- if soft_cap %}
        %{{ p }}_cap = stablehlo.constant dense<{{ soft_cap }}> : {{ score_t }}
        %{{ p }}_ratio = stablehlo.divide %{{ p }}_s, %{{ p }}_cap : {{ score_t }}
        %{{ p }}_tanh = stablehlo.tanh %{{ p }}_ratio : {{ score_t }}
        %{{ p }}_score = stablehlo.multiply %{{ p }}_tanh, %{{ p }}_cap : {{ score_t }}
        {%- set score = p ~ "_score" %}
        {%- else %}
        {%- set score = p ~ "_s" %}
        {%- endif %}
        %{{ p }}_hidden = stablehlo.constant dense<0xFF800000> : {{ score_t }}
        %{{ p }}_seen = stablehlo.select %{{ p }}_mask, %{{ score }}, %{{ p }}_hidden : {{ sees_t }}, {{ score_t }}
        // Online softmax.
        %{{ p }}_max = stablehlo.reduce(%{{ p }}_seen init: %neg_inf) applies stablehlo.maximum across dimensions = [3] : ({{ score_t }}, tensor<f32>) -> {{ stat }}
        %{{ p }}_m = stablehlo.maximum %{{ m }}, %{{ p }}_max : {{ stat }}
        %{{ p }}_mb = stablehlo.broadcast_in_dim %{{ p }}_m, dims = [0, 1, 2] : ({{ stat }}) -> {{ score_t }}
        %{{ p }}_d = stablehlo.subtract %{{ p }}_seen, %{{ p }}_mb : {{ score_t }}
        // exp(-inf) is exactly 0: hidden keys drop out of sums without a trace.
        %{{ p }}_p = stablehlo.exponential %{{ p }}_d : {{ score_t }}
        %{{ p }}_old = stablehlo.subtract %{{ m }}, %{{ p }}_m : {{ stat }}
        %{{ p }}_alpha = stablehlo.exponential %{{ p }}_old : {{ stat }}
        %{{ p }}_sum = stablehlo.reduce(%{{ p }}_p init: %zero) applies stablehlo.add across dimensions = [3] : ({{ score_t }}, tensor<f32>) -> {{ stat }}
        %{{ p }}_lold = stablehlo.multiply %{{ l }}, %{{ p }}_alpha : {{ stat }}
        %{{ p }}_l = stablehlo.add %{{ p }}_lold, %{{ p }}_sum : {{ stat }}
        // Result so far.
        %{{ p }}_pr = stablehlo.reshape %{{ p }}_p : ({{ score_t }}) -> {{ flat_t }}
        %{{ p }}_pv = stablehlo.dot_general %{{ p }}_pr, %{{ p }}_vsafe, batching_dims = [0] x [0], contracting_dims = [2] x [1]{{ precise }} : ({{ flat_t }}, {{ kv_t }}) -> {{ accum }}
        %{{ p }}_ar = stablehlo.reshape %{{ p }}_alpha : ({{ stat }}) -> tensor<{{ kv_heads }}x{{ n * group }}xf32>
        %{{ p }}_ab = stablehlo.broadcast_in_dim %{{ p }}_ar, dims = [0, 1] : (tensor<{{ kv_heads }}x{{ n * group }}xf32>) -> {{ accum }}
        %{{ p }}_aold = stablehlo.multiply %{{ acc }}, %{{ p }}_ab : {{ accum }}
        %{{ p }}_acc = stablehlo.add %{{ p }}_aold, %{{ p }}_pv : {{ accum }}
{%- endmacro %}
{#- %few_{x}: of %{x}, `own_tile` tokens from the token whose rows start at %{at}, `width` rows a token and `minor`
elements a row (0: %{x} has no other dimension); a smaller query tile is padded. #}
{%- macro owners(x, all_t, few_t, at, width, minor, pad) %}
        {%- set lead, rest, sizes = ("%c0, ", ", %c0", kv_heads ~ ", " ~ own_tile * width ~ ", " ~ minor) if minor else ("", "", own_tile) %}
        {%- if q_tile >= own_tile %}
        %few_{{ x }} = stablehlo.dynamic_slice %{{ x }}, {{ lead }}%{{ at }}{{ rest }}, sizes = [{{ sizes }}] : ({{ all_t }}, {{ "tensor<i32>, " if minor }}tensor<i32>{{ ", tensor<i32>" if minor }}) -> {{ few_t }}
        {%- else %}
        {%- set zeros = "0, 0, 0" if minor else "0" %}
        {%- set behind = (own_tile - q_tile) * width %}
        %few_{{ x }} = stablehlo.pad %{{ x }}, %{{ pad }}, low = [{{ zeros }}], high = [{{ "0, " ~ behind ~ ", 0" if minor else behind }}], interior = [{{ zeros }}] : ({{ all_t }}, tensor<{{ "i32" if pad == "c0" else "f32" }}>) -> {{ few_t }}
        {%- endif %}
{%- endmacro %}
{#- %all_{x}: %{x} with the owners' rows, which start at %{at}, replaced by %{few}. #}
{%- macro put_back(x, few, all_t, few_t, at, sizes) %}
        {%- if q_tile >= own_tile %}
        %all_{{ x }} = stablehlo.dynamic_update_slice %{{ x }}, %{{ few }}, %c0, %{{ at }}, %c0 : ({{ all_t }}, {{ few_t }}, tensor<i32>, tensor<i32>, tensor<i32>) -> {{ all_t }}
        {%- else %}
        %all_{{ x }} = stablehlo.slice %{{ few }} [0:{{ sizes[0] }}, 0:{{ sizes[1] }}, 0:{{ sizes[2] }}] : ({{ few_t }}) -> {{ all_t }}
        {%- endif %}
{%- endmacro %}
func.func private @{{ name }}(%q: {{ out_t }}, %k: {{ new_t }}, %v: {{ new_t }}, %kv_pages: {{ pages_t }}, %meta: tensor<{{ meta_words }}xi32>, %first_page: tensor<i32>) -> {{ out_t }} {
  %c0 = stablehlo.constant dense<0> : tensor<i32>
  %c1 = stablehlo.constant dense<1> : tensor<i32>
  %c_q_tile = stablehlo.constant dense<{{ q_tile }}> : tensor<i32>
  %c_tile_words = stablehlo.constant dense<{{ tile_words }}> : tensor<i32>
  %kind_pages = stablehlo.constant dense<{{ kind_pages }}> : tensor<i32>
  %kind_slots = stablehlo.constant dense<{{ kind_slots }}> : tensor<i32>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %neg_inf = stablehlo.constant dense<0xFF800000> : tensor<f32>
  // The lowest finite f32: a start for running maxima that gives no -inf minus -inf.
  %m_start = stablehlo.constant dense<0xFF7FFFFF> : {{ stat }}
  %acc_start = stablehlo.constant dense<0.0> : {{ accum }}
  %w_q_tiles = stablehlo.constant dense<{{ word_num_q_tiles }}> : tensor<i32>
  %w_offsets = stablehlo.constant dense<{{ word_tile_offsets }}> : tensor<i32>
  %w_tiles = stablehlo.constant dense<{{ word_tiles }}> : tensor<i32>
  %w_pages = stablehlo.constant dense<{{ word_pages }}> : tensor<i32>
  %w_slots = stablehlo.constant dense<{{ word_slots }}> : tensor<i32>
  %w_pool_pages = stablehlo.constant dense<{{ word_pool_pages }}> : tensor<i32>
  %w_identity = stablehlo.constant dense<{{ word_identity }}> : tensor<i32>
  {{- scalar("live_tiles", "meta", meta_words, "w_q_tiles") }}
  {{- scalar("offsets_at", "meta", meta_words, "w_offsets") }}
  {{- scalar("tiles_at", "meta", meta_words, "w_tiles") }}
  {{- scalar("pages_at", "meta", meta_words, "w_pages") }}
  {{- scalar("slots_at", "meta", meta_words, "w_slots") }}
  {{- scalar("plan_pool", "meta", meta_words, "w_pool_pages") }}
  {{- scalar("plan_identity", "meta", meta_words, "w_identity") }}
  // A plan that is not this kernel's, or whose pool, counted from the layer's first page, is not within this one: NaN.
  %identity = stablehlo.constant dense<{{ identity }}> : tensor<i32>
  %is_ours = stablehlo.compare EQ, %plan_identity, %identity : (tensor<i32>, tensor<i32>) -> tensor<i1>
  %pool = stablehlo.constant dense<{{ pool_pages }}> : tensor<i32>
  %most = stablehlo.subtract %pool, %plan_pool : tensor<i32>
  %not_below = stablehlo.compare GE, %first_page, %c0 : (tensor<i32>, tensor<i32>) -> tensor<i1>
  %not_above = stablehlo.compare LE, %first_page, %most : (tensor<i32>, tensor<i32>) -> tensor<i1>
  %in_pool = stablehlo.and %not_below, %not_above : tensor<i1>
  %taken = stablehlo.and %is_ours, %in_pool : tensor<i1>
  %q_tiles = stablehlo.select %taken, %live_tiles, %c0 : tensor<i1>, tensor<i32>
  %l_start = stablehlo.constant dense<0.0> : {{ stat }}
  %page_base = stablehlo.broadcast_in_dim %first_page, dims = [] : (tensor<i32>) -> tensor<{{ tile_pages }}xi32>
  %blank = stablehlo.constant dense<0.0> : tensor<{{ dtype }}>
  %nan = stablehlo.constant dense<{{ "0x7FC00000" if dtype == "f32" else "0x7FC0" }}> : tensor<{{ dtype }}>
  %fill = stablehlo.select %taken, %blank, %nan : tensor<i1>, tensor<{{ dtype }}>
  %out_start = stablehlo.broadcast_in_dim %fill, dims = [] : (tensor<{{ dtype }}>) -> {{ out_t }}
  %walk:2 = stablehlo.while(%t = %c0, %out = %out_start) : tensor<i32>, {{ out_t }}
  cond {
    %more_q = stablehlo.compare LT, %t, %q_tiles : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %more_q : tensor<i1>
  } do {
    %row0 = stablehlo.multiply %t, %c_q_tile : tensor<i32>
    %q_in = stablehlo.dynamic_slice %q, %row0, %c0, %c0, sizes = [{{ q_tile }}, {{ q_heads }}, {{ head_dim }}] : ({{ out_t }}, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<{{ q_tile }}x{{ q_heads }}x{{ head_dim }}x{{ dtype }}>
    {{- widen("q_f", "q_in", q_tile ~ "x" ~ q_heads ~ "x" ~ head_dim) }}
    %q_factor = stablehlo.constant dense<{{ scale }}> : tensor<{{ q_tile }}x{{ q_heads }}x{{ head_dim }}xf32>
    %q_scaled = stablehlo.multiply %q_f, %q_factor : tensor<{{ q_tile }}x{{ q_heads }}x{{ head_dim }}xf32>
    %q_grouped = stablehlo.reshape %q_scaled : (tensor<{{ q_tile }}x{{ q_heads }}x{{ head_dim }}xf32>) -> tensor<{{ q_tile }}x{{ kv_heads }}x{{ group }}x{{ head_dim }}xf32>
    %q_heads_first = stablehlo.transpose %q_grouped, dims = [1, 0, 2, 3] : (tensor<{{ q_tile }}x{{ kv_heads }}x{{ group }}x{{ head_dim }}xf32>) -> tensor<{{ kv_heads }}x{{ q_tile }}x{{ group }}x{{ head_dim }}xf32>
    %q_tile = stablehlo.reshape %q_heads_first : (tensor<{{ kv_heads }}x{{ q_tile }}x{{ group }}x{{ head_dim }}xf32>) -> {{ accum }}
    {{- row_section("own_start", section_own_start) }}
    {{- row_section("own_key", section_own_key) }}
    {{- row_section("position", section_position) }}
    %row = stablehlo.iota dim = 0 : {{ rows_t }}
    %ones = stablehlo.constant dense<1> : {{ rows_t }}
    %zeros = stablehlo.constant dense<0> : {{ rows_t }}
    %own_end = stablehlo.add %own_key, %ones : {{ rows_t }}
    %first_at = stablehlo.add %offsets_at, %t : tensor<i32>
    %end_at = stablehlo.add %first_at, %c1 : tensor<i32>
    {{- scalar("first", "meta", meta_words, "first_at") }}
    {{- scalar("end", "meta", meta_words, "end_at") }}
    %visit:4 = stablehlo.while(%i = %first, %m = %m_start, %l = %l_start, %acc = %acc_start) : tensor<i32>, {{ stat }}, {{ stat }}, {{ accum }}
    cond {
      %more_k = stablehlo.compare LT, %i, %end : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %more_k : tensor<i1>
    } do {
      %tile_off = stablehlo.multiply %i, %c_tile_words : tensor<i32>
      %tile_at = stablehlo.add %tiles_at, %tile_off : tensor<i32>
      %tile = stablehlo.dynamic_slice %meta, %tile_at, sizes = [{{ tile_words }}] : (tensor<{{ meta_words }}xi32>, tensor<i32>) -> tensor<{{ tile_words }}xi32>
      {{- tile_word("kind", tile_kind) }}
      {{- tile_word("start", tile_start) }}
      {{- tile_word("tile_keys", tile_keys) }}
      {{- tile_word("whole_lo", tile_whole_lo) }}
      {{- tile_word("whole_hi", tile_whole_hi) }}
      {{- tile_word("tile_position", tile_position) }}
      {{- tile_word("key_base", tile_key_base) }}
      // The interval [lo, hi) of keys that each row sees in this tile.
      %wlo = stablehlo.broadcast_in_dim %whole_lo, dims = [] : (tensor<i32>) -> {{ rows_t }}
      %whi = stablehlo.broadcast_in_dim %whole_hi, dims = [] : (tensor<i32>) -> {{ rows_t }}
      %nkeys = stablehlo.broadcast_in_dim %tile_keys, dims = [] : (tensor<i32>) -> {{ rows_t }}
      %base = stablehlo.broadcast_in_dim %key_base, dims = [] : (tensor<i32>) -> {{ rows_t }}
      %in_lo = stablehlo.compare GE, %row, %wlo : ({{ rows_t }}, {{ rows_t }}) -> tensor<{{ q_tile }}xi1>
      %in_hi = stablehlo.compare LT, %row, %whi : ({{ rows_t }}, {{ rows_t }}) -> tensor<{{ q_tile }}xi1>
      %whole = stablehlo.and %in_lo, %in_hi : tensor<{{ q_tile }}xi1>
      %own_hi = stablehlo.subtract %own_end, %base : {{ rows_t }}
      %own_hi_n = stablehlo.minimum %own_hi, %nkeys : {{ rows_t }}
      %hi = stablehlo.select %whole, %nkeys, %own_hi_n : tensor<{{ q_tile }}xi1>, {{ rows_t }}
      %own_lo = stablehlo.subtract %own_start, %base : {{ rows_t }}
      {%- if window %}
      // Sliding window: no key at or below position - window.
      %reach = stablehlo.constant dense<{{ window }}> : {{ rows_t }}
      %own_reach = stablehlo.subtract %own_hi, %reach : {{ rows_t }}
      %lo_own = stablehlo.maximum %own_lo, %own_reach : {{ rows_t }}
      %tpos = stablehlo.broadcast_in_dim %tile_position, dims = [] : (tensor<i32>) -> {{ rows_t }}
      %ahead = stablehlo.subtract %position, %tpos : {{ rows_t }}
      %ahead1 = stablehlo.add %ahead, %ones : {{ rows_t }}
      %lo_whole = stablehlo.subtract %ahead1, %reach : {{ rows_t }}
      %lo = stablehlo.select %whole, %lo_whole, %lo_own : tensor<{{ q_tile }}xi1>, {{ rows_t }}
      {%- else %}
      %lo = stablehlo.select %whole, %zeros, %own_lo : tensor<{{ q_tile }}xi1>, {{ rows_t }}
      {%- endif %}
      %is_slots = stablehlo.compare EQ, %kind, %kind_slots : (tensor<i32>, tensor<i32>) -> tensor<i1>
      %next:3 = "stablehlo.if"(%is_slots) ({
        %slots_from = stablehlo.add %slots_at, %start : tensor<i32>
        %slot_tokens = stablehlo.dynamic_slice %meta, %slots_from, sizes = [{{ own_tile }}] : (tensor<{{ meta_words }}xi32>, tensor<i32>) -> tensor<{{ own_tile }}xi32>
        {{- take_rows("slot_k", "k", "slot_tokens", own_tile) }}
        {{- take_rows("slot_v", "v", "slot_tokens", own_tile) }}
        %last_row = stablehlo.constant dense<{{ [q_tile - own_tile, 0] | max }}> : tensor<i32>
        %slot_row = stablehlo.minimum %tile_position, %last_row : tensor<i32>
        %c_group = stablehlo.constant dense<{{ group }}> : tensor<i32>
        %slot_row_q = stablehlo.multiply %slot_row, %c_group : tensor<i32>
        {%- set few = "tensor<" ~ own_tile ~ "xi32>" %}
        {%- for x in ["q_tile", "acc"] %}
        {{- owners(x, accum, accum_of(own_tile), "slot_row_q", group, head_dim, "zero") }}
        {%- endfor %}
        {%- for x in ["m", "l"] %}
        {{- owners(x, stat, stat_of(own_tile), "slot_row", 1, group, "zero") }}
        {%- endfor %}
        {%- for x in ["row", "lo", "hi"] %}
        {{- owners(x, rows_t, few, "slot_row", 1, 0, "c0") }}
        {%- endfor %}
        // The slice may begin before the first owner.
        %few_first = stablehlo.broadcast_in_dim %tile_position, dims = [] : (tensor<i32>) -> {{ few }}
        %few_owns = stablehlo.compare GE, %few_row, %few_first : ({{ few }}, {{ few }}) -> tensor<{{ own_tile }}xi1>
        %few_none = stablehlo.constant dense<0> : {{ few }}
        %few_end = stablehlo.select %few_owns, %few_hi, %few_none : tensor<{{ own_tile }}xi1>, {{ few }}
        {%- set step_in = stat_of(own_tile) ~ ", " ~ stat_of(own_tile) ~ ", " ~ accum_of(own_tile) %}
        %few:3 = stablehlo.optimization_barrier %few_m, %few_l, %few_acc : {{ step_in }}
        {{- step("slot", own_tile, own_tile, "few_q_tile", "few_lo", "few_end", "few#0", "few#1", "few#2") }}
        %done:3 = stablehlo.optimization_barrier %slot_m, %slot_l, %slot_acc : {{ step_in }}
        {{- put_back("acc", "done#2", accum, accum_of(own_tile), "slot_row_q", [kv_heads, q_tile * group, head_dim]) }}
        {{- put_back("m", "done#0", stat, stat_of(own_tile), "slot_row", [kv_heads, q_tile, group]) }}
        {{- put_back("l", "done#1", stat, stat_of(own_tile), "slot_row", [kv_heads, q_tile, group]) }}
        stablehlo.return %all_m, %all_l, %all_acc : {{ stat }}, {{ stat }}, {{ accum }}
      }, {
        %is_pages = stablehlo.compare EQ, %kind, %kind_pages : (tensor<i32>, tensor<i32>) -> tensor<i1>
        %run:2 = "stablehlo.if"(%is_pages) ({
        %list_from = stablehlo.add %pages_at, %start : tensor<i32>
        %page_list = stablehlo.dynamic_slice %meta, %list_from, sizes = [{{ tile_pages }}] : (tensor<{{ meta_words }}xi32>, tensor<i32>) -> tensor<{{ tile_pages }}xi32>
        %page_ids = stablehlo.add %page_list, %page_base : tensor<{{ tile_pages }}xi32>
        %page_kv = "stablehlo.gather"(%kv_pages, %page_ids) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2, 3, 4], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, 2, {{ kv_heads }}, {{ page_size }}, {{ head_dim }}>}> : ({{ pages_t }}, tensor<{{ tile_pages }}xi32>) -> tensor<{{ tile_pages }}x2x{{ kv_heads }}x{{ page_size }}x{{ head_dim }}x{{ dtype }}>
        %page_heads = stablehlo.transpose %page_kv, dims = [1, 2, 0, 3, 4] : (tensor<{{ tile_pages }}x2x{{ kv_heads }}x{{ page_size }}x{{ head_dim }}x{{ dtype }}>) -> tensor<2x{{ kv_heads }}x{{ tile_pages }}x{{ page_size }}x{{ head_dim }}x{{ dtype }}>
        {{- widen("page_f", "page_heads", "2x" ~ kv_heads ~ "x" ~ tile_pages ~ "x" ~ page_size ~ "x" ~ head_dim) }}
        %page_k_1 = stablehlo.slice %page_f [0:1, 0:{{ kv_heads }}, 0:{{ tile_pages }}, 0:{{ page_size }}, 0:{{ head_dim }}] : (tensor<2x{{ kv_heads }}x{{ tile_pages }}x{{ page_size }}x{{ head_dim }}xf32>) -> tensor<1x{{ kv_heads }}x{{ tile_pages }}x{{ page_size }}x{{ head_dim }}xf32>
        %page_v_1 = stablehlo.slice %page_f [1:2, 0:{{ kv_heads }}, 0:{{ tile_pages }}, 0:{{ page_size }}, 0:{{ head_dim }}] : (tensor<2x{{ kv_heads }}x{{ tile_pages }}x{{ page_size }}x{{ head_dim }}xf32>) -> tensor<1x{{ kv_heads }}x{{ tile_pages }}x{{ page_size }}x{{ head_dim }}xf32>
        %page_k = stablehlo.reshape %page_k_1 : (tensor<1x{{ kv_heads }}x{{ tile_pages }}x{{ page_size }}x{{ head_dim }}xf32>) -> {{ kv_tile_t }}
        %page_v = stablehlo.reshape %page_v_1 : (tensor<1x{{ kv_heads }}x{{ tile_pages }}x{{ page_size }}x{{ head_dim }}xf32>) -> {{ kv_tile_t }}
        stablehlo.return %page_k, %page_v : {{ kv_tile_t }}, {{ kv_tile_t }}
        }, {
        %run_iota = stablehlo.iota dim = 0 : tensor<{{ kv_tile }}xi32>
        %run_start = stablehlo.broadcast_in_dim %start, dims = [] : (tensor<i32>) -> tensor<{{ kv_tile }}xi32>
        %run_index = stablehlo.add %run_iota, %run_start : tensor<{{ kv_tile }}xi32>
        {{- take_rows("token_k", "k", "run_index", kv_tile) }}
        {{- take_rows("token_v", "v", "run_index", kv_tile) }}
        stablehlo.return %token_k, %token_v : {{ kv_tile_t }}, {{ kv_tile_t }}
        }) : (tensor<i1>) -> ({{ kv_tile_t }}, {{ kv_tile_t }})
        %run_k = stablehlo.reshape %run#0 : ({{ kv_tile_t }}) -> {{ kv_tile_t }}
        %run_v = stablehlo.reshape %run#1 : ({{ kv_tile_t }}) -> {{ kv_tile_t }}
        {{- step("run", kv_tile, q_tile, "q_tile", "lo", "hi", "m", "l", "acc") }}
        stablehlo.return %run_m, %run_l, %run_acc : {{ stat }}, {{ stat }}, {{ accum }}
      }) : (tensor<i1>) -> ({{ stat }}, {{ stat }}, {{ accum }})
      %i_next = stablehlo.add %i, %c1 : tensor<i32>
      stablehlo.return %i_next, %next#0, %next#1, %next#2 : tensor<i32>, {{ stat }}, {{ stat }}, {{ accum }}
    }
    %l_rows = stablehlo.reshape %visit#2 : ({{ stat }}) -> tensor<{{ kv_heads }}x{{ rows }}xf32>
    %l_all = stablehlo.broadcast_in_dim %l_rows, dims = [0, 1] : (tensor<{{ kv_heads }}x{{ rows }}xf32>) -> {{ accum }}
    %normal = stablehlo.divide %visit#3, %l_all : {{ accum }}
    %no_key = stablehlo.compare LT, %own_key, %zeros : ({{ rows_t }}, {{ rows_t }}) -> tensor<{{ q_tile }}xi1>
    %no_keys = stablehlo.broadcast_in_dim %no_key, dims = [1] : (tensor<{{ q_tile }}xi1>) -> tensor<{{ kv_heads }}x{{ q_tile }}x{{ group }}x{{ head_dim }}xi1>
    %padding = stablehlo.reshape %no_keys : (tensor<{{ kv_heads }}x{{ q_tile }}x{{ group }}x{{ head_dim }}xi1>) -> tensor<{{ kv_heads }}x{{ rows }}x{{ head_dim }}xi1>
    %o_rows = stablehlo.select %padding, %acc_start, %normal : tensor<{{ kv_heads }}x{{ rows }}x{{ head_dim }}xi1>, {{ accum }}
    %o_grouped = stablehlo.reshape %o_rows : ({{ accum }}) -> tensor<{{ kv_heads }}x{{ q_tile }}x{{ group }}x{{ head_dim }}xf32>
    %o_tokens = stablehlo.transpose %o_grouped, dims = [1, 0, 2, 3] : (tensor<{{ kv_heads }}x{{ q_tile }}x{{ group }}x{{ head_dim }}xf32>) -> tensor<{{ q_tile }}x{{ kv_heads }}x{{ group }}x{{ head_dim }}xf32>
    %o_f = stablehlo.reshape %o_tokens : (tensor<{{ q_tile }}x{{ kv_heads }}x{{ group }}x{{ head_dim }}xf32>) -> tensor<{{ q_tile }}x{{ q_heads }}x{{ head_dim }}xf32>
    %o = stablehlo.convert %o_f : (tensor<{{ q_tile }}x{{ q_heads }}x{{ head_dim }}xf32>) -> tensor<{{ q_tile }}x{{ q_heads }}x{{ head_dim }}x{{ dtype }}>
    %out_next = stablehlo.dynamic_update_slice %out, %o, %row0, %c0, %c0 : ({{ out_t }}, tensor<{{ q_tile }}x{{ q_heads }}x{{ head_dim }}x{{ dtype }}>, tensor<i32>, tensor<i32>, tensor<i32>) -> {{ out_t }}
    %t_next = stablehlo.add %t, %c1 : tensor<i32>
    stablehlo.return %t_next, %out_next : tensor<i32>, {{ out_t }}
  }
  return %walk#1 : {{ out_t }}
}
