-- What the marts count in all is what the facts hold.
with facts as (
    select
        (select count(*) from {{ ref('fct_interactions') }}) as interactions,
        (
            select coalesce(sum(revenue), 0) from {{ ref('fct_order_items') }}
            where {{ is_sale('status') }}
        ) as revenue
),

marts as (
    select
        (
            select coalesce(sum(interactions), 0)
            from {{ ref('customer_activity_by_region_tier') }}
        ) as by_region,
        (
            select coalesce(sum(interactions), 0)
            from {{ ref('interaction_trend_daily') }}
        ) as by_day,
        (
            select coalesce(sum(interactions), 0)
            from {{ ref('interaction_by_age') }}
        ) as by_age,
        (
            select coalesce(sum(revenue), 0)
            from {{ ref('purchase_trend_by_category') }}
        ) as by_category
)

select
    facts.*,
    marts.*
from facts
cross join marts
where
    marts.by_region != facts.interactions
    or marts.by_day != facts.interactions
    or marts.by_age != facts.interactions
    or marts.by_category != facts.revenue
