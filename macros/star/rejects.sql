{#
    Live staged rows of some tables, as far as they may be rejected otherwise
    than before.

    Args:
        tables: list of (table, key columns) with anything new.
        window: of `build_window`.
        near: of `nearby`, a condition on the orders of which anything was staged.
    Columns: `source_table`, `record_key`, `reject_reason`, `loaded_at`.
#}
{% macro live_rows(tables, window, near) -%}
    {%- for name, keys in tables %}
    select
        '{{ name }}' as source_table,
        {{ record_key(keys) }} as record_key,
        reject_reason,
        loaded_at
    from {{ ref('stg_' ~ name) }}
    where not is_deleted
    {%- set ids = none %}
    {%- if is_incremental() and name == 'interactions' %}
    {#- Only ever added to: files of other ids are not read. #}
    {%- set ids = bounds_of(ref('stg_interactions'), 'interaction_id', window, 'interactions') %}
        and (interaction_id between {{ ids[0] }} and {{ ids[1] }} or interaction_id is null)
    {%- endif %}
    {%- if near and 'order_id' in keys %}
        and ({{ near }} or order_id is null)
    {%- endif %}
    {%- if not _may_repeat(name, keys, window, ids, near) %}
        and reject_reason is not null
    {%- endif %}
    union all
    {%- endfor %}
    select
        cast(null as string) as source_table,
        cast(null as string) as record_key,
        cast(null as string) as reject_reason,
        cast(null as timestamp) as loaded_at
    where false
{%- endmacro %}

{#
    Whether a second usable row of a key may be among those looked at.

    Args:
        name, keys, window, near: as for `live_rows`.
        ids: least and greatest key looked at, or none.
#}
{% macro _may_repeat(name, keys, window, ids, near) %}
    {% set view = ref('stg_' ~ name) %}
    {% set since = in_window(window, name, 'loaded_at') %}
    {% if ids %}
        {% do return(comes_twice(view, keys, keys[0] ~ ' between ' ~ ids[0] ~ ' and ' ~ ids[1])) %}
    {% elif is_incremental() %}
        {#- A line is looked at where anything of its order was staged. #}
        {% set columns = 'order_id' if name == 'order_items' else keys | join(', ') %}
        {% set staged = orders_staged(window) if name == 'order_items'
            else 'select ' ~ columns ~ ' from ' ~ view ~ ' where ' ~ since %}
        {% set looked_at = view ~ ' left semi join (' ~ staged ~ ') as staged_since using (' ~ columns ~ ')' %}
        {% do return(comes_twice(looked_at, keys, near if near and 'order_id' in keys else 'true')) %}
    {% endif %}
    {% do return(comes_twice(view, keys, since)) %}
{% endmacro %}


{#
    Keys of the rows that may be rejected otherwise than before: those staged in
    the window, and all lines of orders of which anything was.

    Args:
        tables, window, near: as for `live_rows`.
    Columns: `source_table`, `record_key`.
#}
{% macro keys_staged(tables, window, near) -%}
    {%- for name, keys in tables %}
    select
        '{{ name }}' as source_table,
        {{ record_key(keys) }} as record_key
    from {{ ref('stg_' ~ name) }}
    where {{ in_window(window, name, 'loaded_at') }}
    union all
    {%- endfor %}
    select
        'order_items' as source_table,
        {{ record_key(['order_id', 'line_number']) }} as record_key
    from {{ ref('stg_order_items') }}
    where {{ near ~ ' and ' if near }}order_id in ({{ orders_staged(window) }})
{%- endmacro %}


{#
    Live, usable order lines whose order is not there or cannot be used. After
    the first build, of orders with anything staged in the window.

    Args:
        window, near: as for `live_rows`.
#}
{% macro lines_without_order(window, near) -%}
    {%- set known = 'not is_deleted' ~ (' and ' ~ near if near else '') -%}
    {%- set lines = ref('stg_order_items') ~ (
        ' left semi join (' ~ orders_staged(window) ~ ') as staged_now using (order_id)'
        if is_incremental() else ''
    ) ~ ' left anti join (select order_id from ' ~ ref('stg_orders') ~ ' where ' ~ known
    ~ ' and reject_reason is null) as orders using (order_id)' -%}
    select
        'order_items' as source_table,
        {{ record_key(['items.order_id', 'items.line_number']) }} as record_key,
        if(bad_orders.order_id is null, 'order not there', 'order rejected') as reason,
        items.loaded_at as rejected_at
    from (
        {{ first_of(
            lines,
            ['order_id', 'line_number'],
            condition=known ~ ' and reject_reason is null'
        ) }}
    ) as items
    left join (
        select distinct order_id from {{ ref('stg_orders') }}
        where {{ known }} and reject_reason is not null
    ) as bad_orders on items.order_id = bad_orders.order_id
{%- endmacro %}

{# Ids of the orders of which anything was staged in the window. #}
{% macro orders_staged(window) -%}
    select order_id from {{ ref('stg_orders') }}
    where {{ in_window(window, 'orders', 'loaded_at') }}
    union
    select order_id from {{ ref('stg_order_items') }}
    where {{ in_window(window, 'order_items', 'loaded_at') }}
{%- endmacro %}


{# Key values joined by a vertical bar; an empty string for a null. #}
{% macro record_key(keys) -%}
    concat_ws('|'{% for key in keys %}, coalesce(cast({{ key }} as string), ''){% endfor %})
{%- endmacro %}
