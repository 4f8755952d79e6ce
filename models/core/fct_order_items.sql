-- Grain: one live line of a live order.
-- Key: order_id, line_number. Watermarks: load time of the staged orders and
-- lines, and of the customers. The orders with anything new are worked out anew
-- and compared with what is there, so that changes, deletes, late parts and
-- changed customer versions all arrive. A rerun changes nothing. Laid out by
-- month: changes reach back over all days, and a day has few lines. A backfill
-- works the orders of its days out from staging.
-- depends_on: {{ ref('customers_snapshot') }}, {{ ref('dim_date') }}
{{
    config(
        unique_key=['order_id', 'line_number'],
        prune_ids='order_id',
        event_at='ordered_at',
        partition_by=['months(ordered_at)'],
    )
}}

{%- set window = build_window(
    staged={
        'orders': source('staging', 'orders'),
        'order_items': source('staging', 'order_items'),
        'dim_customer': ref('dim_customer'),
    },
    digests={
        'customer_keys': digest_of(ref('dim_customer'), ['customer_key']),
        'product_keys': digest_of(ref('dim_product'), ['product_key']),
    },
) %}
{%- set range = window.backfill %}
{%- set since %}
    {{ orders_staged(window) }}
    {%- if is_incremental() and not range %}
    union
    select order_id
    from ({{ stale_facts(window, 'ordered_at') }})
    {%- endif %}
{%- endset %}
{%- set near = nearby('order_id', since, window) if is_incremental() and not range else none %}
{%- set whole = not is_incremental() and not range %}
{%- set among = '' if whole else ' left semi join affected using (order_id)' %}
{%- set usable = 'not is_deleted and reject_reason is null' %}

with customers as (
    select * from {{ ref('dim_customer') }}
),

products as (
    select * from {{ ref('dim_product') }}
),

staged_orders as (
    select * from {{ ref('stg_orders') }}
    {%- if near %}
    where {{ near }}
    {%- endif %}
),

staged_items as (
    select * from {{ ref('stg_order_items') }}
    {%- if near %}
    where {{ near }}
    {%- endif %}
),

{% if not whole -%}
affected as (
    {%- if range %}
    select order_id
    from staged_orders
    where {{ in_range('ordered_at', range) }}
    {%- else %}
    {{ since }}
    {%- endif %}
),
{%- endif %}

orders as (
    {{ first_of(
        'staged_orders' ~ among,
        ['order_id'],
        condition=usable,
        twice=not whole or comes_twice(
            ref('stg_orders'), ['order_id'], in_window(window, 'orders', 'loaded_at')
        )
    ) }}
),

items as (
    {{ first_of(
        'staged_items' ~ among,
        ['order_id', 'line_number'],
        condition=usable,
        twice=not whole or comes_twice(
            ref('stg_order_items'), ['order_id', 'line_number'],
            in_window(window, 'order_items', 'loaded_at')
        )
    ) }}
),

fresh as (
    select
        ---------- keys
        items.order_id,
        items.line_number,
        coalesce(customers.customer_key, '{{ unknown_key() }}') as customer_key,
        coalesce(products.product_key, '{{ unknown_key() }}') as product_key,
        {{ date_key(local_day('orders.ordered_at')) }} as date_key,
        orders.customer_id,
        items.product_id,

        ---------- attributes
        orders.ordered_at,
        orders.status,

        ---------- numerics
        items.quantity,
        items.unit_price,
        cast(items.quantity * items.unit_price as decimal(18, 2)) as revenue
    from items
    inner join orders on items.order_id = orders.order_id
    {{ join_version('customers', 'customers', 'customer_id', 'orders', 'orders.ordered_at') }}
    left join products on items.product_id = products.product_id
    {%- if range %}
    where {{ in_range('orders.ordered_at', range) }}
    {%- endif %}
),

final as (
    {{ only_changes(
        'fresh',
        scope=in_range('kept.ordered_at', range) if range
        else 'kept.order_id in (select order_id from affected)'
        ~ (' and ' ~ near if near else '')
    ) }}
)

select * from final
{{ window_marks(window) }}
