-- Grain: one age band and interaction type with an interaction.
-- Worked out anew when the fact or a birth date changed, and only what differs
-- is written. A rerun changes nothing.
{{ config(unique_key=['age_band', 'interaction_type']) }}

{%- set window = build_window(
    facts={'fct_interactions': ref('fct_interactions')},
    digests={
        'birth_dates': digest_of(ref('dim_customer'), ['customer_key', 'birth_date']),
    },
) %}

with interactions as (
    select * from {{ ref('fct_interactions') }}
),

customers as (
    select * from {{ ref('dim_customer') }}
),

aged as (
    select
        interactions.customer_id,
        interactions.interaction_type,
        {{ age_on('customers.birth_date', local_day('interactions.occurred_at')) }}
        as age
    from interactions
    inner join customers on interactions.customer_key = customers.customer_key
),

fresh as (
    select
        {{ age_band('age') }} as age_band,
        interaction_type,
        count(distinct customer_id) as customers,
        count(*) as interactions
    from aged
    group by 1, 2
),

final as (
    {{ only_changes('fresh') }}
)

select * from final
{{ window_marks(window) }}
