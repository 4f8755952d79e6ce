-- Grain: one age band and interaction type with an interaction.
-- Summed from the customers' counts when those changed, and only what differs is
-- written. A rerun changes nothing.
{{ config(unique_key=['age_band', 'interaction_type']) }}

{%- set counts = ref('agg_customer_interactions') %}
{%- set window = build_window(digests={
    'counts': digest_of(
        counts, ['age_band', 'interaction_type', 'customer_id', 'interactions']
    ),
}) %}

with customers as (
    select * from {{ counts }}
),

fresh as (
    select
        age_band,
        interaction_type,
        -- One row each; nobody is no customer.
        count(customer_id) as customers,
        sum(interactions) as interactions
    from customers
    group by 1, 2
),

final as (
    {{ only_changes('fresh') }}
)

select * from final
{{ window_marks(window) }}
