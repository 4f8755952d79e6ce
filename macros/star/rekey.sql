{#
    Digest of the set of values of some columns: a query of one row and column.

    Args:
        relation: the table.
        columns: names of its columns.
#}
{% macro digest_of(relation, columns) -%}
    select concat_ws(':', count(*), bit_xor(xxhash64({{ columns | join(', ') }}))) from {{ relation }}
{%- endmacro %}


{#
    The rows a model takes from a staged input: those loaded in its window.

    Args:
        window: of `build_window`.
        name: the input's name in it.
        loaded_at: column of the load time.
#}
{% macro in_window(window, name, loaded_at) -%}
    ({{ loaded_at }} > {{ window.low[name] }} and {{ loaded_at }} <= {{ window.high[name] }})
{%- endmacro %}


{#
    Customers whose versions changed since a fact was built.

    Columns: `customer_id`; `moved_from`, from when on the valid version may be
    another one (null for a customer not known before, whose facts have the
    unknown key).

    Args:
        window: of `build_window`, with the staged input `dim_customer`.
#}
{% macro moved_customers(window) -%}
    {%- set versions = ref('customers_snapshot') -%}
    select
        customer_id,
        if(
            min(_cdc_loaded_at) <= {{ window.low.dim_customer }},
            min(if(_cdc_loaded_at > {{ window.low.dim_customer }}, version_at, null)),
            null
        ) as moved_from
    from {{ versions }}
    where _cdc_loaded_at <= {{ window.high.dim_customer }}
    group by customer_id
    having max(_cdc_loaded_at) > {{ window.low.dim_customer }}
{%- endmacro %}


{#
    The rows of a fact whose customer or product key may be out of date.
    A file without unknown keys and before the earliest change is not read.

    Args:
        window: of `build_window`.
        moment: column of the moment of the event.
    Reads the CTE `moved`.
#}
{% macro stale_facts(window, moment) -%}
    {%- if window.nothing -%}
    select * from {{ this }} where false
    {%- else -%}
    {%- set earliest_move = earliest_of(moved_customers(window)) -%}
    select kept.*
    from {{ before_write() }} as kept
    left join moved on kept.customer_id = moved.customer_id
    where
        (
            kept.{{ moment }} >= {{ earliest_move }}
            and kept.{{ moment }} >= moved.moved_from
        )
        {%- if window.changed.customer_keys %}
        or (
            kept.customer_key = '{{ unknown_key() }}'
            and moved.customer_id is not null
        )
        {%- endif %}
        {%- if window.changed.product_keys %}
        or (
            kept.product_key = '{{ unknown_key() }}'
            and kept.product_id in (select product_id from {{ ref('dim_product') }})
        )
        {%- endif %}
        {%- if window.changed.customer_keys and faulty('stg_customers') %}
        or kept.customer_id in (
            select customer_id from {{ ref('stg_customers') }}
            where reject_reason is not null
        )
        {%- endif %}
        {%- if window.changed.product_keys and faulty('stg_products') %}
        or kept.product_id in (
            select product_id from {{ ref('stg_products') }}
            where reject_reason is not null
        )
        {%- endif %}
    {%- endif %}
{%- endmacro %}


{# The least `moved_from` of a query, as a SQL timestamp. #}
{% macro earliest_of(query) -%}
    {%- if execute and flags.WHICH in ['run', 'build'] -%}
        {%- set found = run_query('select cast(min(moved_from) as string) from (' ~ query ~ ')').rows[0][0] -%}
        {{- timestamp_of(found) if found else latest() -}}
    {%- else -%}
        {{- earliest() -}}
    {%- endif -%}
{%- endmacro %}


{# Whether a staging view has faulty rows. #}
{% macro faulty(name) %}
    {% do return(execute and flags.WHICH in ['run', 'build'] and run_query(
        'select 1 from ' ~ ref(name) ~ ' where reject_reason is not null limit 1'
    ).rows | length > 0) %}
{% endmacro %}


{#
    The least and greatest value of a column among the rows of a window, so that
    files of other ranges are not read; (1, 0), no range, where there is none.

    Args:
        relation: the staging view.
        column: a number.
        window, name: as for `in_window`.
#}
{% macro bounds_of(relation, column, window, name) %}
    {% if execute and flags.WHICH in ['run', 'build'] and window.changed[name] %}
        {% set found = run_query('select min(' ~ column ~ '), max(' ~ column ~ ') from '
            ~ relation ~ ' where ' ~ in_window(window, name, 'loaded_at')).rows[0] %}
        {% if found[0] is not none %}{% do return([found[0], found[1]]) %}{% endif %}
    {% endif %}
    {% do return([1, 0]) %}
{% endmacro %}
