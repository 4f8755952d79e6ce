-- Units sold for each hundred views, by product. Each fact is summed before the
-- two meet: joined row by row, views and lines of a product multiply each other.
with viewed as (
    select
        product_key,
        count(*) as views
    from {{ ref('fct_interactions') }}
    where interaction_type = 'view'
    group by product_key
),

sold as (
    select
        product_key,
        sum(quantity) as units
    from {{ ref('fct_order_items') }}
    where {{ is_sale('status') }}
    group by product_key
),

products as (
    select * from {{ ref('dim_product') }}
),

final as (
    select
        products.product_id,
        products.product_name,
        coalesce(viewed.views, 0) as views,
        coalesce(sold.units, 0) as units,
        100.0 * sold.units / nullif(viewed.views, 0) as units_per_100_views
    from products
    left join viewed on products.product_key = viewed.product_key
    left join sold on products.product_key = sold.product_key
)

select * from final
