with source as (
    select * from {{ source('staging', 'customers') }}
),

final as (
    select
        ---------- ids
        customer_id,

        ---------- attributes
        full_name,
        email,
        birth_date,
        coalesce(region, '{{ unknown_key() }}') as region,
        coalesce(loyalty_tier, '{{ unknown_key() }}') as loyalty_tier,

        ---------- timestamps
        signup_at,
        updated_at,
        _cdc_loaded_at as loaded_at,

        ---------- state
        _cdc_deleted_at is not null as is_deleted,
        {{ customer_fault() }} as reject_reason

    from source
)

select * from final
