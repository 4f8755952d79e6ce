-- One row per month and category with a sale; the 7 categories that sell most
-- keep their names; the rest, where they are more than one, fold into one row a
-- month (`is_other`), whose `orders` counts an order once for each category it
-- holds.
with purchases as (
    select * from {{ ref('purchase_trend_by_category') }}
),

category_ranks as (
    select
        category,
        row_number() over (
            order by sum(revenue) desc, category
        ) as category_rank,
        count(*) over () as categories
    from purchases
    group by category
),

ranked as (
    select
        purchases.purchase_month,
        purchases.category,
        purchases.orders,
        purchases.units,
        purchases.revenue,
        category_ranks.categories,
        category_ranks.category_rank > 7
        and category_ranks.categories > 8 as is_other
    from purchases
    inner join category_ranks
        on purchases.category <=> category_ranks.category
),

folded as (
    select
        purchase_month,
        orders,
        units,
        revenue,
        categories,
        is_other,
        case when not is_other then category end as category
    from ranked
),

final as (
    select
        purchase_month,
        category,
        is_other,
        categories,
        sum(orders) as orders,
        sum(units) as units,
        sum(revenue) as revenue
    from folded
    group by purchase_month, category, is_other, categories
)

select * from final
