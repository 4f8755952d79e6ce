{#
    The as-of join of the star: the version of a dimension valid at an event.

    A version is valid from `valid_from` inclusive to `valid_to` exclusive, so an
    event exactly at a boundary belongs to the later version. Versions of a
    member neither overlap nor leave a gap, so the join neither multiplies nor
    loses a row; the test `versions_meet` asks that. No version, no match:
    take `coalesce(<alias>.<key>, 'unknown')`.

    Args:
        dimension: relation of the versioned dimension.
        alias: its name in the query.
        key: the natural key, the same in both.
        event: name of the relation with the events.
        moment: SQL of the moment of the event.
#}
{% macro join_version(dimension, alias, key, event, moment) -%}
    left join {{ dimension }} as {{ alias }}
        on {{ event }}.{{ key }} = {{ alias }}.{{ key }}
        and {{ moment }} >= {{ alias }}.valid_from
        and {{ moment }} < {{ alias }}.valid_to
{%- endmacro %}


{# The key of a product's row. Args: product_id, SQL. #}
{% macro product_key(product_id) -%}
    md5(cast({{ product_id }} as string))
{%- endmacro %}


{# The key of the member of a dimension that stands for what is not known. #}
{% macro unknown_key() -%}unknown{%- endmacro %}
