-- Versions of a customer follow one another without gap or overlap, from
-- 1900-01-01 to 9999-12-31, and exactly the last is current.
with versions as (
    select
        customer_id,
        valid_from,
        valid_to,
        is_current,
        lag(valid_to) over (
            partition by customer_id
            order by valid_from
        ) as previous_to,
        lead(valid_from) over (
            partition by customer_id
            order by valid_from
        ) as next_from
    from {{ ref('dim_customer') }}
)

select * from versions
where
    valid_from != coalesce(previous_to, timestamp '1900-01-01')
    or (next_from is null and valid_to != timestamp '9999-12-31')
    or is_current != (next_from is null)
