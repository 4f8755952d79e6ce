{#
    Grain: one captured version of a customer.
    Time of a version: the source's `updated_at`; of a delete, when it was seen;
    of a state after a delete whose `updated_at` is not after it, when it was
    loaded.
    Watermark: the greatest `_cdc_loaded_at` kept, in the table itself. A rerun
    finds no newer version and changes nothing.
#}
{% snapshot customers_snapshot %}

{{
    config(
        unique_key='customer_id',
        strategy='timestamp',
        updated_at='version_at',
        meta={'version_order': ['_cdc_loaded_at']},
    )
}}

{%- set low = newest_kept(this) %}

with captured as (
    select *
    from {{ source('staging', 'customers__history') }}
    where customer_id is not null
    {%- if low %}
        and _cdc_loaded_at > {{ timestamp_of(low) }}
    {%- endif %}
),

timed as (
    select
        *,
        _cdc_deleted_at is not null as is_deleted,
        if(
            _cdc_deleted_at is not null,
            greatest(_cdc_deleted_at, updated_at + interval 1 microsecond),
            null
        ) as deleted_at
    from captured
),

known_deletes as (
    {%- if low %}
    select
        customer_id,
        max(version_at) as deleted_at
    from {{ this }}
    where is_deleted
    group by customer_id
    {%- else %}
    select
        cast(null as bigint) as customer_id,
        cast(null as timestamp) as deleted_at
    where false
    {%- endif %}
),

preceded as (
    select
        timed.*,
        -- Of the deletes before this state, the last; no null among the two.
        coalesce(greatest(
            known_deletes.deleted_at,
            max(timed.deleted_at) over (
                partition by timed.customer_id
                order by timed._cdc_loaded_at
                rows between unbounded preceding and 1 preceding
            )
        ), {{ earliest() }}) as deleted_before_at
    from timed
    left join known_deletes on timed.customer_id = known_deletes.customer_id
),

final as (
    select
        * except (deleted_at, deleted_before_at),
        case
            when is_deleted then deleted_at
            when updated_at > deleted_before_at then updated_at
            else _cdc_loaded_at
        end as version_at
    from preceded
)

select * from final

{% endsnapshot %}
