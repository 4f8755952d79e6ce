{#
    Grain: one captured version of a customer.
    Time of a version: the source's `updated_at`; of a delete, when it was seen;
    of a return whose `updated_at` is not after the delete, when it was loaded.
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

sequence as (
    select
        customer_id,
        _cdc_loaded_at,
        coalesce(_cdc_deleted_at, updated_at) as happened_at,
        _cdc_deleted_at as deleted_at
    from captured
    {%- if low %}
    union
    select
        kept.customer_id,
        kept._cdc_loaded_at,
        kept.dbt_valid_from as happened_at,
        if(kept.is_deleted, kept.dbt_valid_from, null) as deleted_at
    from {{ this }} as kept
    left semi join captured on kept.customer_id = captured.customer_id
    {%- endif %}
),

preceded as (
    select
        *,
        lag(deleted_at) over (
            partition by customer_id
            order by _cdc_loaded_at, happened_at
        ) as deleted_before_at
    from sequence
),

final as (
    select
        captured.*,
        captured._cdc_deleted_at is not null as is_deleted,
        case
            when captured._cdc_deleted_at is not null
                then greatest(
                    captured._cdc_deleted_at,
                    captured.updated_at + interval 1 microsecond
                )
            when captured.updated_at > coalesce(
                preceded.deleted_before_at, {{ earliest() }}
            )
                then captured.updated_at
            else captured._cdc_loaded_at
        end as version_at
    from captured
    inner join preceded
        on captured.customer_id = preceded.customer_id
        and captured._cdc_loaded_at = preceded._cdc_loaded_at
        and coalesce(captured._cdc_deleted_at, captured.updated_at)
        <=> preceded.happened_at
)

select * from final

{% endsnapshot %}
