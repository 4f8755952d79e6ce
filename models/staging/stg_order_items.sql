with source as (
    select * from {{ source('staging', 'order_items') }}
),

final as (
    select
        ---------- ids
        order_id,
        line_number,
        product_id,

        ---------- numerics
        quantity,
        unit_price,

        ---------- timestamps
        updated_at,
        _cdc_loaded_at as loaded_at,

        ---------- state
        _cdc_deleted_at is not null as is_deleted,
        case
            when order_id is null or line_number is null then 'null key'
            when {{ is_bad_moment('updated_at') }} then 'impossible updated_at'
            when quantity is null or quantity <= 0 then 'quantity not above 0'
            when unit_price is null then 'null price'
            when unit_price < 0 then 'price below 0'
            when quantity * unit_price >= 10000000000000000
                then 'revenue beyond decimal(18,2)'
        end as reject_reason

    from source
)

select * from final
