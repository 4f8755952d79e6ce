-- Grain: one category, region and product with a sale or an interaction.
-- The changed days and months of the facts are summed as they are and as they
-- were when this table was last built, and the difference is added to its own
-- sums; categories and names are those of now. A rerun changes nothing.
{{ config(unique_key=['category', 'region', 'product_id']) }}

{%- set lines, events = ref('fct_order_items'), ref('fct_interactions') %}
{%- set versions = ref('dim_customer') %}
{%- set window = build_window(
    facts={'fct_order_items': lines, 'fct_interactions': events},
    digests={
        'products': digest_of(
            ref('dim_product'), ['product_key', 'category', 'product_name']
        ),
    },
    all_time=true,
) %}
{%- set before = built_from(window) %}

with sales as (
    {{ changed_rows(
        lines,
        ['product_key', 'product_id', 'customer_key', 'status', 'quantity', 'revenue'],
        'ordered_at', window.days.fct_order_items, before
    ) }}
),

interactions as (
    {{ changed_rows(
        events, ['product_key', 'product_id', 'customer_key'],
        'occurred_at', window.days.fct_interactions, before
    ) }}
),

-- Rows as they were have the keys that the dimension had then.
customers as (
    {{ signed_rows(versions, ['customer_key', 'region'], before) }}
),

products as (
    select * from {{ ref('dim_product') }}
    where product_key != '{{ unknown_key() }}'
),

-- Each fact is summed before they meet: joined row by row they would multiply.
sold as (
    select
        sales.product_id,
        customers.region,
        sum(sales.sign * sales.quantity) as units,
        sum(if(sales.sign > 0, sales.revenue, -sales.revenue)) as revenue,
        cast(0 as bigint) as interactions
    from sales
    inner join customers
        on sales.customer_key = customers.customer_key
        and sales.sign = customers.sign
    where
        sales.product_key != '{{ unknown_key() }}'
        and {{ is_sale('sales.status') }}
    group by 1, 2
),

seen as (
    select
        interactions.product_id,
        customers.region,
        cast(0 as bigint) as units,
        cast(0 as decimal(28, 2)) as revenue,
        sum(interactions.sign) as interactions
    from interactions
    inner join customers
        on interactions.customer_key = customers.customer_key
        and interactions.sign = customers.sign
    where interactions.product_key != '{{ unknown_key() }}'
    group by 1, 2
),

together as (
    select * from sold
    union all
    select * from seen
    {%- if before %}
    union all
    select
        product_id,
        region,
        units,
        revenue,
        interactions
    from {{ before_write() }}
    {%- endif %}
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
    inner join products on together.product_id = products.product_id
    group by 1, 2, 3, 4
    having sum(together.units) > 0 or sum(together.interactions) > 0
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
