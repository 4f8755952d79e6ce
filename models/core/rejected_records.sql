-- Grain: one live staged row that the star cannot take.
-- Key: reject_key. Watermarks: load time of the staged tables. The keys staged
-- since, and the lines of orders staged since, are looked at anew; a row put
-- right or gone leaves. A rerun changes nothing.
{{ config(unique_key='reject_key') }}

{%- set window = build_window(staged={
    'customers': source('staging', 'customers'),
    'products': source('staging', 'products'),
    'orders': source('staging', 'orders'),
    'order_items': source('staging', 'order_items'),
    'interactions': source('staging', 'interactions'),
}) %}
{%- set tables = [] %}
{%- for name, keys in [
    ('customers', ['customer_id']),
    ('products', ['product_id']),
    ('orders', ['order_id']),
    ('order_items', ['order_id', 'line_number']),
    ('interactions', ['interaction_id']),
] if window.changed[name] or (name == 'order_items' and window.changed.orders) %}
    {%- do tables.append((name, keys)) %}
{%- endfor %}
{%- set near = nearby('order_id', orders_staged(window), window) if is_incremental() else none %}

with {% if is_incremental() -%}
staged_now as (
    {{ keys_staged(tables, window, near) }}
),
{%- endif %}

live as (
    select live.*
    from ({{ live_rows(tables, window, near) }}) as live
    {%- if is_incremental() %}
    left semi join staged_now
        on live.source_table = staged_now.source_table
        and live.record_key = staged_now.record_key
    {%- endif %}
),

-- Of usable rows of one key the first counts, the others are duplicates.
turns as (
    select
        *,
        row_number() over (
            partition by source_table, record_key, reject_reason is null
            order by loaded_at
        ) as turn
    from live
),

lines as (
    {{ lines_without_order(window, near) }}
),

faults as (
    select
        source_table,
        record_key,
        coalesce(reject_reason, 'duplicate key') as reason,
        loaded_at as rejected_at
    from turns
    where reject_reason is not null or turn > 1
    union all
    select
        source_table,
        record_key,
        reason,
        rejected_at
    from lines
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
    {{ only_changes(
        'fresh',
        scope='(kept.source_table, kept.record_key) in '
        ~ '(select source_table, record_key from staged_now)'
    ) }}
)

select * from final
{{ window_marks(window) }}
