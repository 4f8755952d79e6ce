-- How many customers went from one loyalty tier to another, by month.
with versions as (
    select
        *,
        lag(loyalty_tier) over (
            partition by customer_id
            order by valid_from
        ) as tier_before
    from {{ ref('dim_customer') }}
),

final as (
    select
        cast(trunc(valid_from, 'month') as date) as moved_month,
        tier_before,
        loyalty_tier as tier_after,
        count(*) as moves
    from versions
    where tier_before != loyalty_tier
    group by 1, 2, 3
)

select * from final
