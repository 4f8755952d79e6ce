-- One row per region and loyalty tier over the whole history. The 12 busiest
-- regions and 6 busiest tiers keep their names; the rest, where they are more
-- than one, fold into one row each (`is_other_region`, `is_other_tier`).
-- `customer_months` adds up the active customers of each month.
with activity as (
    select * from {{ ref('customer_activity_by_region_tier') }}
),

span as (
    select
        min(activity_month) as first_month,
        max(activity_month) as last_month
    from activity
),

region_ranks as (
    select
        region,
        row_number() over (
            order by sum(interactions) desc, region
        ) as region_rank,
        count(*) over () as region_count
    from activity
    group by region
),

tier_ranks as (
    select
        loyalty_tier,
        row_number() over (
            order by sum(interactions) desc, loyalty_tier
        ) as tier_rank,
        count(*) over () as tier_count
    from activity
    group by loyalty_tier
),

ranked as (
    select
        activity.region,
        activity.loyalty_tier,
        activity.interactions,
        activity.purchases,
        activity.active_customers,
        region_ranks.region_rank > 12
        and region_ranks.region_count > 13 as is_other_region,
        tier_ranks.tier_rank > 6
        and tier_ranks.tier_count > 7 as is_other_tier
    from activity
    inner join region_ranks
        on activity.region <=> region_ranks.region
    inner join tier_ranks
        on activity.loyalty_tier <=> tier_ranks.loyalty_tier
),

folded as (
    select
        region as member_region,
        interactions,
        purchases,
        active_customers,
        is_other_region,
        is_other_tier,
        case when not is_other_region then region end as region,
        case when not is_other_tier then loyalty_tier end as loyalty_tier
    from ranked
),

grouped as (
    select
        region,
        is_other_region,
        loyalty_tier,
        is_other_tier,
        count(distinct member_region) as regions,
        sum(interactions) as interactions,
        sum(purchases) as purchases,
        sum(active_customers) as customer_months
    from folded
    group by region, is_other_region, loyalty_tier, is_other_tier
),

final as (
    select
        grouped.*,
        span.first_month,
        span.last_month
    from grouped
    cross join span
)

select * from final
