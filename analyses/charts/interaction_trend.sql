-- One row per period and interaction type. The period is a day up to about two
-- years of history, then a week (to eleven years), a month, a year: the same
-- picture from one day to centuries, and never more than 10,000 rows.
with daily as (
    select * from {{ ref('interaction_trend_daily') }}
),

span as (
    select
        case
            when datediff(max(date_day), min(date_day)) < 800 then 'day'
            when datediff(max(date_day), min(date_day)) < 4000 then 'week'
            when datediff(max(date_day), min(date_day)) < 40000 then 'month'
            else 'year'
        end as grain
    from daily
),

final as (
    select
        span.grain,
        cast(date_trunc(span.grain, daily.date_day) as date) as period,
        daily.interaction_type,
        min(daily.date_day) as first_day,
        max(daily.date_day) as last_day,
        count(*) as days,
        sum(daily.interactions) as interactions,
        avg(daily.interactions_7d_avg) as interactions_7d_avg
    from daily
    cross join span
    group by
        span.grain,
        cast(date_trunc(span.grain, daily.date_day) as date),
        daily.interaction_type
)

select * from final
