with source as (
    select * from {{ source('staging', 'orders') }}
),

final as (
    select
        ---------- ids
        order_id,
        customer_id,

        ---------- attributes
        status,

        ---------- timestamps
        ordered_at,
        updated_at,
        _cdc_loaded_at as loaded_at,

        ---------- state
        _cdc_deleted_at is not null as is_deleted,
        case
            when order_id is null then 'null key'
            when {{ is_bad_moment('ordered_at') }} then 'impossible ordered_at'
            when {{ is_bad_moment('updated_at') }} then 'impossible updated_at'
            when coalesce(status, '') not in (
                'placed', 'paid', 'shipped', 'delivered', 'cancelled', 'returned'
            ) then 'unknown status'
        end as reject_reason

    from source
)

select * from final
