-- The calendar has every day from its first to its last.
select
    count(*) as days,
    min(date_day) as first_day,
    max(date_day) as last_day
from {{ ref('dim_date') }}
having count(*) != datediff(max(date_day), min(date_day)) + 1
