-- Grain: one day of the reporting time zone.
-- Key: date_key. Whole years from the first to the last usable event; days are
-- only ever added. Watermark: _cdc_loaded_at of the staged events. A rerun
-- changes nothing.
{{ config(unique_key='date_key') }}

{%- set window = build_window(staged={
    'interactions': source('staging', 'interactions'),
    'orders': source('staging', 'orders'),
}) %}

with moments as (
    select occurred_at as moment
    from {{ ref('stg_interactions') }}
    where
        reject_reason is null
        and loaded_at > {{ window.low.interactions }}
        and loaded_at <= {{ window.high.interactions }}
    union all
    select ordered_at as moment
    from {{ ref('stg_orders') }}
    where
        reject_reason is null
        and loaded_at > {{ window.low.orders }}
        and loaded_at <= {{ window.high.orders }}
),

bounds as (
    select
        {{ local_day('min(moment)') }} as first_day,
        {{ local_day('max(moment)') }} as last_day
    from moments
    {%- if is_incremental() %}
    union all
    select
        min(date_day) as first_day,
        max(date_day) as last_day
    from {{ before_write() }}
    {%- endif %}
),

years as (
    select
        trunc(min(first_day), 'year') as first_day,
        date_sub(add_months(trunc(max(last_day), 'year'), 12), 1) as last_day
    from bounds
),

days as (
    select explode(sequence(first_day, last_day)) as date_day
    from years
    where first_day is not null
),

fresh as (
    select
        {{ date_key('date_day') }} as date_key,
        date_day,
        year(date_day) as year,
        quarter(date_day) as quarter,
        month(date_day) as month,
        weekofyear(date_day) as week,
        weekday(date_day) + 1 as day_of_week,
        date_format(date_day, 'MMMM') as month_name,
        date_format(date_day, 'EEEE') as day_name,
        weekday(date_day) >= 5 as is_weekend
    from days
),

final as (
    {{ only_changes('fresh') }}
)

select * from final
{{ window_marks(window) }}
