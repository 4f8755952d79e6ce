-- One row per product among the first three of its category and region, for
-- the 6 categories and 5 regions that sell most. `total_revenue`, `categories`
-- and `regions` describe the whole mart, so that a reader sees what is left
-- out.
with products as (
    select * from {{ ref('top_products_by_category_region') }}
),

pairs as (
    select
        category,
        region,
        sum(revenue) as pair_revenue,
        sum(interactions) as pair_interactions
    from products
    group by category, region
),

totals as (
    select
        sum(pair_revenue) as total_revenue,
        sum(pair_interactions) as total_interactions,
        count(distinct category) as categories,
        count(distinct region) as regions
    from pairs
),

category_ranks as (
    select
        category,
        row_number() over (
            order by sum(pair_revenue) desc, sum(pair_interactions) desc,
            category
        ) as category_rank
    from pairs
    group by category
),

region_ranks as (
    select
        region,
        row_number() over (
            order by sum(pair_revenue) desc, sum(pair_interactions) desc,
            region
        ) as region_rank
    from pairs
    group by region
),

final as (
    select
        products.category,
        products.region,
        products.product_rank,
        products.product_id,
        products.product_name,
        products.units,
        products.revenue,
        products.interactions,
        pairs.pair_revenue,
        pairs.pair_interactions,
        category_ranks.category_rank,
        region_ranks.region_rank,
        totals.total_revenue,
        totals.total_interactions,
        totals.categories,
        totals.regions
    from products
    inner join category_ranks
        on products.category <=> category_ranks.category
    inner join region_ranks
        on products.region <=> region_ranks.region
    inner join pairs
        on
            products.category <=> pairs.category
            and products.region <=> pairs.region
    cross join totals
    where
        products.product_rank <= 3
        and category_ranks.category_rank <= 6
        and region_ranks.region_rank <= 5
)

select * from final
