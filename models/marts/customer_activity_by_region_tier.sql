-- Grain: one month, region and loyalty tier with an interaction.
-- Months with a changed day of the fact are counted anew. A rerun changes
-- nothing.
{{ config(unique_key=['activity_month', 'region', 'loyalty_tier']) }}

{%- set window = build_window(facts={'fct_interactions': ref('fct_interactions')}) %}
{%- set months = months_of(window.days.fct_interactions) %}

with interactions as (
    select * from {{ ref('fct_interactions') }}
    {%- if is_incremental() %}
    where {{ in_months('occurred_at', months) }}
    {%- endif %}
),

customers as (
    select * from {{ ref('dim_customer') }}
),

fresh as (
    select
        cast(trunc({{ local_day('interactions.occurred_at') }}, 'month') as date)
        as activity_month,
        customers.region,
        customers.loyalty_tier,
        -- The fact's own id, so that unknown customers count one each.
        count(distinct interactions.customer_id) as active_customers,
        count(*) as interactions,
        count_if(interactions.interaction_type = 'purchase') as purchases,
        cast(count(*) as double)
        / nullif(count(distinct interactions.customer_id), 0)
        as interactions_per_customer
    from interactions
    inner join customers on interactions.customer_key = customers.customer_key
    group by 1, 2, 3
),

final as (
    {{ only_changes('fresh', scope=months_scope('kept.activity_month', months)) }}
)

select * from final
{{ window_marks(window) }}
