{#
    Live staged rows of a table with a fault of their own: a bad value, or a key
    that another usable row has first.

    Args:
        name: the table.
        keys: its key columns.
    Columns: `source_table`, `record_key`, `reason`, `rejected_at`.
#}
{% macro faulty_rows(name, keys) -%}
    select
        '{{ name }}' as source_table,
        {{ record_key(keys) }} as record_key,
        reject_reason as reason,
        loaded_at as rejected_at
    from {{ ref('stg_' ~ name) }}
    where not is_deleted and reject_reason is not null
    union all
    select
        '{{ name }}' as source_table,
        {{ record_key(keys) }} as record_key,
        'duplicate key' as reason,
        loaded_at as rejected_at
    from (
        select
            *,
            row_number() over (
                partition by {{ keys | join(', ') }}
                order by loaded_at
            ) as turn
        from {{ ref('stg_' ~ name) }}
        left semi join (
            select {{ keys | join(', ') }}
            from {{ ref('stg_' ~ name) }}
            where not is_deleted and reject_reason is null
            group by {{ keys | join(', ') }}
            having count(*) > 1
        ) as repeated using ({{ keys | join(', ') }})
        where not is_deleted and reject_reason is null
    )
    where turn > 1
{%- endmacro %}


{# Live, usable order lines whose order is not there or cannot be used. #}
{% macro lines_without_order() -%}
    select
        'order_items' as source_table,
        {{ record_key(['items.order_id', 'items.line_number']) }} as record_key,
        if(bad_orders.order_id is null, 'order not there', 'order rejected') as reason,
        items.loaded_at as rejected_at
    from (
        {{ first_of(
            ref('stg_order_items'),
            ['order_id', 'line_number'],
            condition='not is_deleted and reject_reason is null'
        ) }}
    ) as items
    left anti join (
        select order_id from {{ ref('stg_orders') }}
        where not is_deleted and reject_reason is null
    ) as orders on items.order_id = orders.order_id
    left join (
        select distinct order_id from {{ ref('stg_orders') }}
        where not is_deleted and reject_reason is not null
    ) as bad_orders on items.order_id = bad_orders.order_id
{%- endmacro %}


{# Key values joined by a vertical bar; an empty string for a null. #}
{% macro record_key(keys) -%}
    concat_ws('|'{% for key in keys %}, coalesce(cast({{ key }} as string), ''){% endfor %})
{%- endmacro %}


{# The rejected rows (alias `kept`) of the tables with anything new. #}
{% macro tables_changed(window) -%}
    {%- set names = [] -%}
    {%- for name, changed in window.changed.items() if changed -%}
        {%- do names.append(name) -%}
    {%- endfor -%}
    {%- if 'orders' in names and 'order_items' not in names -%}
        {%- do names.append('order_items') -%}
    {%- endif -%}
    {%- if names -%}
    kept.source_table in ('{{ names | join("', '") }}')
    {%- else -%}
    false
    {%- endif -%}
{%- endmacro %}
