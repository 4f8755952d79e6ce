-- Grain: one age band and interaction type with an interaction.
-- Summed from the customers' counts when those changed, and only what differs is
-- written. A rerun changes nothing.
{{ config(unique_key=['age_band', 'interaction_type']) }}

{%- set counts, types = ref('agg_customer_age_bands'), interaction_types() %}
{%- set window = build_window(digests={'counts': digest_of(counts, ['*'])}) %}

with summed as (
    select
        age_band
        {%- for type in types %},
        -- One row each; nobody is no customer.
        count(if({{ type }}_count > 0, customer_id, null)) as {{ type }}_customers,
        sum({{ type }}_count) as {{ type }}_count
        {%- endfor %}
    from {{ counts }}
    group by age_band
),

unpivoted as (
    select
        age_band,
        stack(
            {{ types | length }}
            {%- for type in types %},
            '{{ type }}', {{ type }}_customers, {{ type }}_count
            {%- endfor %}
        ) as (interaction_type, customers, interactions)
    from summed
),

fresh as (
    select * from unpivoted
    where interactions > 0
),

final as (
    {{ only_changes('fresh') }}
)

select * from final
{{ window_marks(window) }}
