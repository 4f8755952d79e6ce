-- Revenue by month and the region the customer lived in when they ordered.
-- Joined on customer_key; on customer_id, each line would count once a version.
with lines as (
    select * from {{ ref('fct_order_items') }}
),

customers as (
    select * from {{ ref('dim_customer') }}
),

dates as (
    select * from {{ ref('dim_date') }}
),

final as (
    select
        dates.year,
        dates.month,
        customers.region,
        count(distinct lines.order_id) as orders,
        sum(lines.revenue) as revenue
    from lines
    inner join customers on lines.customer_key = customers.customer_key
    inner join dates on lines.date_key = dates.date_key
    where {{ is_sale('lines.status') }}
    group by dates.year, dates.month, customers.region
)

select * from final
