with source as (
    select * from {{ source('staging', 'interactions') }}
),

final as (
    select
        ---------- ids
        interaction_id,
        customer_id,
        product_id,
        session_id,

        ---------- attributes
        interaction_type,
        device,

        ---------- timestamps
        occurred_at,
        recorded_at,
        _cdc_loaded_at as loaded_at,

        ---------- state
        _cdc_deleted_at is not null as is_deleted,
        case
            when interaction_id is null then 'null key'
            when {{ is_bad_moment('occurred_at') }} then 'impossible occurred_at'
            when {{ is_bad_moment('recorded_at') }} then 'impossible recorded_at'
            when coalesce(interaction_type, '') not in (
                '{{ interaction_types() | join("', '") }}'
            ) then 'unknown interaction type'
        end as reject_reason

    from source
)

select * from final
