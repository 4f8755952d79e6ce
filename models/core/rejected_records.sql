-- Grain: one live staged row that the star cannot take.
-- Key: reject_key. Tables with anything new are looked at anew; a row put right
-- or gone leaves. A rerun changes nothing.
{{ config(unique_key='reject_key') }}

{%- set window = build_window(staged={
    'customers': source('staging', 'customers'),
    'products': source('staging', 'products'),
    'orders': source('staging', 'orders'),
    'order_items': source('staging', 'order_items'),
    'interactions': source('staging', 'interactions'),
}) %}

with faults as (
    {%- for name, keys in [
        ('customers', ['customer_id']),
        ('products', ['product_id']),
        ('orders', ['order_id']),
        ('interactions', ['interaction_id']),
    ] if window.changed[name] %}
    {{ faulty_rows(name, keys) }}
    union all
    {%- endfor %}
    {%- if window.changed.order_items or window.changed.orders %}
    {{ faulty_rows('order_items', ['order_id', 'line_number']) }}
    union all
    {{ lines_without_order() }}
    union all
    {%- endif %}
    select
        cast(null as string) as source_table,
        cast(null as string) as record_key,
        cast(null as string) as reason,
        cast(null as timestamp) as rejected_at
    where false
),

numbered as (
    select
        *,
        row_number() over (
            partition by source_table, record_key, reason, rejected_at
            order by reason
        ) as occurrence
    from faults
),

fresh as (
    select
        md5(concat_ws(
            '|', source_table, record_key, reason,
            cast(rejected_at as string), cast(occurrence as string)
        )) as reject_key,
        source_table,
        record_key,
        reason,
        rejected_at
    from numbered
),

final as (
    {{ only_changes('fresh', scope=tables_changed(window)) }}
)

select * from final
{{ window_marks(window) }}
