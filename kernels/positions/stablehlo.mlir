{#- Position of every row, for every target: a section of the planner's words. Rows of padding have position 0. #}
{%- set meta_t = "tensor<" ~ meta_words ~ "xi32>" %}
{%- set rows_t = "tensor<" ~ tokens ~ "xi32>" %}
{%- set from = header + section_position * tokens %}
func.func private @{{ name }}(%meta: {{ meta_t }}) -> {{ rows_t }} {
  %positions = stablehlo.slice %meta [{{ from }}:{{ from + tokens }}] : ({{ meta_t }}) -> {{ rows_t }}
  return %positions : {{ rows_t }}
}
