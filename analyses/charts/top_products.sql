-- One row per product among the first three of its category and region, for
-- the 6 categories and 5 regions that sell most. The other regions, where they
-- are more than one, fold into one (`is_other_region`) with a ranking of their
-- own. `total_revenue`, `categories` and `regions` describe the whole mart, so
-- that a reader sees what is left out.
with products as (
    select * from {{ ref('top_products_by_category_region') }}
),

pairs as (
    select
        category,
        region,
        sum(revenue) as revenue,
        sum(interactions) as interactions
    from products
    group by category, region
),

categories as (
    select
        category,
        row_number() over (
            order by sum(revenue) desc, sum(interactions) desc, category asc
        ) as category_rank,
        count(*) over () as categories,
        sum(sum(revenue)) over () as total_revenue,
        sum(sum(interactions)) over () as total_interactions
    from pairs
    group by category
),

region_ranks as (
    select
        region,
        row_number() over (
            order by sum(revenue) desc, sum(interactions) desc, region asc
        ) as region_rank,
        count(*) over () as regions
    from pairs
    group by region
),

regions as (
    select
        region,
        regions,
        region_rank > 5 and regions > 6 as is_other_region,
        case
            when regions > 6 then least(region_rank, 6) else region_rank
        end as region_rank
    from region_ranks
),

shown_pairs as (
    select
        pairs.category,
        regions.region_rank,
        regions.regions,
        regions.is_other_region,
        case when not regions.is_other_region then pairs.region end as region,
        sum(pairs.revenue) as pair_revenue,
        sum(pairs.interactions) as pair_interactions
    from pairs
    inner join regions
        on pairs.region <=> regions.region
    group by all
),

kept as (
    select
        categories.category_rank,
        regions.region_rank,
        regions.is_other_region,
        products.product_rank,
        products.product_id,
        products.product_name,
        products.units,
        products.revenue,
        products.interactions
    from products
    inner join categories
        on products.category <=> categories.category
    inner join regions
        on products.region <=> regions.region
    where categories.category_rank <= 6
),

folded as (
    select
        category_rank,
        region_rank,
        is_other_region,
        product_id,
        max(product_name) as product_name,
        sum(units) as units,
        sum(revenue) as revenue,
        sum(interactions) as interactions
    from kept
    where is_other_region
    group by category_rank, region_rank, is_other_region, product_id
),

ranked as (
    select
        category_rank,
        region_rank,
        is_other_region,
        row_number() over (
            partition by category_rank
            order by revenue desc, interactions desc, product_id asc
        ) as product_rank,
        product_id,
        product_name,
        units,
        revenue,
        interactions
    from folded
),

listed as (
    select * from kept
    where not is_other_region
    union all
    select * from ranked
),

final as (
    select
        categories.category,
        shown_pairs.region,
        listed.*,
        shown_pairs.pair_revenue,
        shown_pairs.pair_interactions,
        shown_pairs.regions,
        categories.categories,
        categories.total_revenue,
        categories.total_interactions
    from listed
    inner join categories
        on listed.category_rank = categories.category_rank
    inner join shown_pairs
        on
            categories.category <=> shown_pairs.category
            and listed.region_rank = shown_pairs.region_rank
    where listed.product_rank <= 3
)

select * from final
