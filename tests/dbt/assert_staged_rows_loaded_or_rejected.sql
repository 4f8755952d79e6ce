-- Per table, live staged rows are loaded or rejected.
with counts as (
    {%- for name, loaded in [
        ('customers', "(select count(*) from " ~ ref('dim_customer') ~ " where is_current and not is_deleted and customer_id != -1)"),
        ('products', "(select count(*) from " ~ ref('dim_product') ~ " where not is_deleted and product_id != -1)"),
        ('order_items', "(select count(*) from " ~ ref('fct_order_items') ~ ")"),
        ('interactions', "(select count(*) from " ~ ref('fct_interactions') ~ ")"),
    ] %}
    select
        '{{ name }}' as source_table,
        -- Two counts that Iceberg answers from its metadata, no file read.
        (
            select count(*) - count(_cdc_deleted_at)
            from {{ source('staging', name) }}
        ) as staged,
        {{ loaded }} as loaded,
        (
            select count(*) from {{ ref('rejected_records') }}
            where source_table = '{{ name }}'
        ) as rejected
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)

select * from counts
where staged != loaded + rejected
