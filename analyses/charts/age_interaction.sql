-- One row per age band and interaction type, as the mart has it: at most eight
-- bands by seven types.
with ages as (
    select * from {{ ref('interaction_by_age') }}
),

final as (
    select
        age_band,
        interaction_type,
        customers,
        interactions
    from ages
)

select * from final
