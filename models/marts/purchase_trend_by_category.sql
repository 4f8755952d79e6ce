-- Grain: one month and product category with a sale.
-- Months with a changed day of the fact are counted anew; all of them where the
-- category of a known product changed. A rerun changes nothing.
{{ config(unique_key=['purchase_month', 'category']) }}

{%- set window = build_window(
    facts={'fct_order_items': ref('fct_order_items')},
    digests={'categories': digest_of(ref('dim_product'), ['product_key', 'category'])},
) %}
{%- set months = months_of(window.days.fct_order_items) %}
{%- set partly = is_incremental() and (
    not window.changed.categories or same_categories(ref('dim_product'), window)
) %}

with sales as (
    select *
    from {{ ref('fct_order_items') }}
    where
        {{ is_sale('status') }}
        {%- if partly %}
        and ({{ in_months('ordered_at', months) }})
        {%- endif %}
),

products as (
    select * from {{ ref('dim_product') }}
),

fresh as (
    select
        cast(trunc({{ local_day('sales.ordered_at') }}, 'month') as date)
        as purchase_month,
        products.category,
        count(distinct sales.order_id) as orders,
        sum(sales.quantity) as units,
        cast(sum(sales.revenue) as decimal(28, 2)) as revenue
    from sales
    inner join products on sales.product_key = products.product_key
    group by 1, 2
),

final as (
    {{ only_changes(
        'fresh',
        scope=months_scope('kept.purchase_month', months) if partly else 'true'
    ) }}
)

select * from final
{{ window_marks(window) }}
