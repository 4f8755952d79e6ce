with source as (
    select * from {{ source('staging', 'products') }}
),

final as (
    select
        ---------- ids
        product_id,

        ---------- attributes
        coalesce(product_name, '{{ unknown_key() }}') as product_name,
        coalesce(category, '{{ unknown_key() }}') as category,

        ---------- numerics
        price,

        ---------- timestamps
        updated_at,
        _cdc_loaded_at as loaded_at,

        ---------- state
        _cdc_deleted_at is not null as is_deleted,
        case
            when product_id is null then 'null key'
            -- The unknown member has this id already.
            when product_id = -1 then 'duplicate key'
            when {{ is_bad_moment('updated_at') }} then 'impossible updated_at'
            when price < 0 then 'price below 0'
        end as reject_reason

    from source
)

select * from final
