-- One row per month and category with a sale; the 7 categories that sell most
-- keep their names, the rest fold into one row a month (`is_other`). `orders`
-- of a folded row counts an order once for each category it holds.
with purchases as (
    select * from {{ ref('purchase_trend_by_category') }}
),

category_ranks as (
    select
        category,
        row_number() over (
            order by sum(revenue) desc, category
        ) as category_rank
    from purchases
    group by category
),

folded as (
    select
        purchases.purchase_month,
        purchases.orders,
        purchases.units,
        purchases.revenue,
        category_ranks.category_rank > 7 as is_other,
        case
            when category_ranks.category_rank <= 7 then purchases.category
        end as category
    from purchases
    inner join category_ranks
        on purchases.category <=> category_ranks.category
),

sizes as (
    select count(*) as categories from category_ranks
),

grouped as (
    select
        purchase_month,
        category,
        is_other,
        sum(orders) as orders,
        sum(units) as units,
        sum(revenue) as revenue
    from folded
    group by purchase_month, category, is_other
),

final as (
    select
        grouped.*,
        sizes.categories
    from grouped
    cross join sizes
)

select * from final
