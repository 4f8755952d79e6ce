-- The star and the marts in DuckDB's dialect, for `ecom bench warehouse` alone: what
-- a single machine's engine takes for the same work on the same Parquet. Staged rows
-- come as views of the same names; faults are left out, which favours DuckDB.
create table dim_customer as
with ordered as (
    select *, coalesce(_cdc_deleted_at, updated_at) as moment,
        _cdc_deleted_at is not null as is_deleted
    from customers__history
), compared as (
    select *, lag((region, loyalty_tier, is_deleted)) over w as before from ordered
    window w as (partition by customer_id order by moment, _cdc_loaded_at)
), openings as (
    select *, if(before is null, timestamp '1900-01-01', moment) as valid_from
    from compared
    where before is null or before is distinct from (region, loyalty_tier, is_deleted)
), newest as (
    select customer_id, arg_max(birth_date, moment) as birth_date,
        arg_max(signup_at, moment) as signup_at
    from ordered group by customer_id
)
select md5(concat_ws('|', customer_id, valid_from, region, loyalty_tier, is_deleted)) as customer_key,
    customer_id, newest.birth_date, region, loyalty_tier, newest.signup_at, valid_from,
    coalesce(lead(valid_from) over (partition by customer_id order by valid_from),
        timestamp '9999-12-31') as valid_to, is_deleted
from openings join newest using (customer_id)
union all
select 'unknown', -1, null, 'unknown', 'unknown', null, timestamp '1900-01-01',
    timestamp '9999-12-31', false;

create table dim_product as
select md5(product_id::varchar) as product_key, product_id, product_name, category, price,
    _cdc_deleted_at is not null as is_deleted
from products
union all select 'unknown', -1, 'unknown', 'unknown', null, false;

create table fct_interactions as
select interaction_id, coalesce(c.customer_key, 'unknown') as customer_key,
    coalesce(p.product_key, 'unknown') as product_key,
    strftime(occurred_at, '%Y%m%d')::int as date_key, i.customer_id, i.product_id,
    interaction_type, occurred_at, session_id, device
from interactions as i
left join dim_customer as c on i.customer_id = c.customer_id
    and occurred_at >= c.valid_from and occurred_at < c.valid_to
left join dim_product as p on i.product_id = p.product_id
where i._cdc_deleted_at is null;

create table fct_order_items as
select l.order_id, l.line_number, coalesce(c.customer_key, 'unknown') as customer_key,
    coalesce(p.product_key, 'unknown') as product_key,
    strftime(ordered_at, '%Y%m%d')::int as date_key, o.customer_id, l.product_id,
    ordered_at, status, quantity, unit_price,
    (quantity * unit_price)::decimal(18, 2) as revenue
from order_items as l join orders as o using (order_id)
left join dim_customer as c on o.customer_id = c.customer_id
    and ordered_at >= c.valid_from and ordered_at < c.valid_to
left join dim_product as p on l.product_id = p.product_id
where l._cdc_deleted_at is null and o._cdc_deleted_at is null;

create table customer_activity_by_region_tier as
select date_trunc('month', occurred_at)::date as activity_month, region, loyalty_tier,
    count(distinct f.customer_id) as active_customers, count(*) as interactions,
    count_if(interaction_type = 'purchase') as purchases
from fct_interactions as f join dim_customer using (customer_key) group by all;

create table interaction_by_age as
select case when age is null then 'unknown' when age < 18 then '<18' when age < 25 then '18-24'
        when age < 35 then '25-34' when age < 45 then '35-44' when age < 55 then '45-54'
        when age < 65 then '55-64' else '65+' end as age_band,
    interaction_type, count(distinct customer_id) as customers, count(*) as interactions
from (
    select f.customer_id, interaction_type,
        date_sub('year', birth_date, occurred_at::date) as age
    from fct_interactions as f join dim_customer using (customer_key)
) group by all;

create table interaction_trend_daily as
with days as (
    select unnest(generate_series(min(occurred_at)::date, max(occurred_at)::date,
        interval 1 day))::date as date_day
    from fct_interactions
), counted as (
    select occurred_at::date as date_day, interaction_type, count(*) as interactions,
        count(distinct customer_id) as active_customers
    from fct_interactions group by all
), filled as (
    select date_day, interaction_type, coalesce(interactions, 0) as interactions,
        coalesce(active_customers, 0) as active_customers
    from days cross join (select distinct interaction_type from counted)
    left join counted using (date_day, interaction_type)
)
select *, avg(interactions) over (partition by interaction_type order by date_day
    rows between 6 preceding and current row) as interactions_7d_avg
from filled;

create table purchase_trend_by_category as
select date_trunc('month', ordered_at)::date as purchase_month, category,
    count(distinct order_id) as orders, sum(quantity) as units, sum(revenue) as revenue
from fct_order_items join dim_product using (product_key)
where status not in ('cancelled', 'returned') group by all;

create table top_products_by_category_region as
with together as (
    select product_key, region, sum(quantity) as units, sum(revenue) as revenue, 0 as seen
    from fct_order_items join dim_customer using (customer_key)
    where status not in ('cancelled', 'returned') group by all
    union all
    select product_key, region, 0, 0, count(*)
    from fct_interactions join dim_customer using (customer_key) group by all
), measured as (
    select category, region, product_id, product_name, sum(units) as units,
        sum(revenue) as revenue, sum(seen) as interactions
    from together join dim_product using (product_key)
    where product_key != 'unknown' group by all
)
select *, row_number() over (partition by category, region
    order by revenue desc, interactions desc, product_id) as product_rank
from measured;
