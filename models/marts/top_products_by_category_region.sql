-- Grain: one category, region and product with a sale or an interaction.
-- Worked out anew when a fact or a product changed, and only what differs is
-- written. A rerun changes nothing.
{{ config(unique_key=['category', 'region', 'product_id']) }}

{%- set window = build_window(
    facts={
        'fct_order_items': ref('fct_order_items'),
        'fct_interactions': ref('fct_interactions'),
    },
    digests={
        'products': digest_of(
            ref('dim_product'), ['product_key', 'category', 'product_name']
        ),
    },
) %}

with sales as (
    select * from {{ ref('fct_order_items') }}
    where {{ is_sale('status') }}
),

interactions as (
    select * from {{ ref('fct_interactions') }}
),

customers as (
    select * from {{ ref('dim_customer') }}
),

products as (
    select * from {{ ref('dim_product') }}
    where product_key != '{{ unknown_key() }}'
),

-- Each fact is summed before they meet: joined row by row they would multiply.
sold as (
    select
        sales.product_key,
        customers.region,
        sum(sales.quantity) as units,
        sum(sales.revenue) as revenue,
        cast(0 as bigint) as interactions
    from sales
    inner join customers on sales.customer_key = customers.customer_key
    group by 1, 2
),

seen as (
    select
        interactions.product_key,
        customers.region,
        cast(0 as bigint) as units,
        cast(0 as decimal(28, 2)) as revenue,
        count(*) as interactions
    from interactions
    inner join customers on interactions.customer_key = customers.customer_key
    group by 1, 2
),

together as (
    select * from sold
    union all
    select * from seen
),

measured as (
    select
        products.category,
        together.region,
        products.product_id,
        products.product_name,
        cast(sum(together.units) as bigint) as units,
        cast(sum(together.revenue) as decimal(28, 2)) as revenue,
        cast(sum(together.interactions) as bigint) as interactions
    from together
    inner join products on together.product_key = products.product_key
    group by 1, 2, 3, 4
),

fresh as (
    select
        *,
        cast(row_number() over (
            partition by category, region
            order by revenue desc, interactions desc, product_id asc
        ) as bigint) as product_rank
    from measured
),

final as (
    {{ only_changes('fresh') }}
)

select * from final
{{ window_marks(window) }}
