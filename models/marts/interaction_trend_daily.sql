-- Grain: one day, from the first event to the last, and interaction type.
-- Changed days of the fact are counted anew, the counts of the others are taken
-- from the table itself; the average is worked out over all. A rerun changes
-- nothing.
{{ config(unique_key=['date_day', 'interaction_type']) }}

{%- set window = build_window(facts={'fct_interactions': ref('fct_interactions')}) %}
{%- set days = near_days(window.days.fct_interactions) %}
{%- set bounded = window.backfill %}

with interactions as (
    select
        {{ local_day('occurred_at') }} as date_day,
        interaction_type,
        customer_id
    from {{ ref('fct_interactions') }}
    {%- if is_incremental() %}
    where {{ local_days_predicate('occurred_at', days) }}
    {%- endif %}
),

types as (
    select explode(array(
        '{{ interaction_types() | join("', '") }}'
    )) as interaction_type
),

counted as (
    select
        date_day,
        interaction_type,
        count(*) as interactions,
        count(distinct customer_id) as active_customers
    from interactions
    group by date_day, interaction_type
    {%- if is_incremental() %}
    union all
    select
        date_day,
        interaction_type,
        interactions,
        active_customers
    from {{ before_write() }}
    where
        interactions > 0
        and not {{ days_in('date_day', days) }}
    {%- endif %}
),

bounds as (
    select
        min(date_day) as first_day,
        max(date_day) as last_day
    from counted
),

days as (
    select explode(sequence(first_day, last_day)) as date_day
    from bounds
    where first_day is not null
),

filled as (
    select
        days.date_day,
        types.interaction_type,
        coalesce(counted.interactions, 0) as interactions,
        coalesce(counted.active_customers, 0) as active_customers
    from days
    cross join types
    left join counted
        on days.date_day = counted.date_day
        and types.interaction_type = counted.interaction_type
),

fresh as (
    select
        date_day,
        interaction_type,
        interactions,
        active_customers,
        avg(interactions) over (
            partition by interaction_type
            order by date_day
            rows between 6 preceding and current row
        ) as interactions_7d_avg
    from filled
),

final as (
    {%- if bounded %}
    -- The means of six days more follow from a day's count.
    {%- set span = "date_day between date '" ~ days[0] ~ "' and date_add(date '" ~ days[-1] ~ "', 6)" %}
    {{ only_changes('(select * from fresh where ' ~ span ~ ')', scope='kept.' ~ span) }}
    {%- else %}
    {{ only_changes('fresh') }}
    {%- endif %}
)

select * from final
{{ window_marks(window) }}
