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
    select
        customer_id,
        interaction_type,
        {{ local_day('occurred_at') }} as date_day
    from {{ ref('fct_interactions') }}
),

-- All versions of a customer have one birth date, so the id is enough.
births as (
    select
        customer_id,
        birth_date
    from {{ ref('dim_customer') }}
    where is_current
),

aged as (
    select
        interactions.customer_id,
        interactions.interaction_type,
        {{ age_on('births.birth_date', 'interactions.date_day') }} as age
    from interactions
    left join births on interactions.customer_id = births.customer_id
),

-- A customer's events are counted before customers are: no distinct over all.
by_customer as (
    select
        customer_id,
        {{ age_band('age') }} as age_band,
        interaction_type,
        count(*) as interactions
    from aged
    group by 1, 2, 3
),

fresh as (
    select
        age_band,
        interaction_type,
        count(customer_id) as customers,
        sum(interactions) as interactions
    from by_customer
    group by 1, 2
),

final as (
    {{ only_changes('fresh') }}
)

select * from final
{{ window_marks(window) }}
