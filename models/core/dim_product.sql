-- Grain: one product, its latest state, plus the unknown member.
-- Key: product_key. Watermark: _cdc_loaded_at of the staged products. Products
-- staged since are merged; one that turned faulty leaves. A rerun changes
-- nothing.
{{ config(unique_key='product_key') }}

{%- set window = build_window(staged={'products': source('staging', 'products')}) %}

with staged as (
    select *
    from {{ ref('stg_products') }}
    where product_id is not null
),

affected as (
    select distinct product_id
    from staged
    where
        loaded_at > {{ window.low.products }}
        and loaded_at <= {{ window.high.products }}
),

usable as (
    {{ first_of(
        'staged left semi join affected using (product_id)',
        ['product_id'],
        order_by=first_staged(),
        condition='reject_reason is null'
    ) }}
),

fresh as (
    select
        {{ product_key('product_id') }} as product_key,
        product_id,
        product_name,
        category,
        price,
        is_deleted,
        loaded_at
    from usable
    union all
    select
        '{{ unknown_key() }}' as product_key,
        cast(-1 as bigint) as product_id,
        '{{ unknown_key() }}' as product_name,
        '{{ unknown_key() }}' as category,
        cast(null as decimal(12, 2)) as price,
        false as is_deleted,
        cast(null as timestamp) as loaded_at
),

final as (
    {{ only_changes(
        'fresh',
        scope='kept.product_id = -1 or kept.product_id in (select product_id from affected)'
    ) }}
)

select * from final
{{ window_marks(window) }}
