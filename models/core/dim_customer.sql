-- Grain: one version of a customer, plus the unknown member.
-- Key: customer_key, a digest of who, since when and what, so that a version
-- whose content is put right gets a new key and its facts follow.
-- Watermark: _cdc_loaded_at of the snapshot. A customer with a version captured
-- since is worked out anew; nothing else is read. A rerun changes nothing.
{{ config(unique_key='customer_key') }}

{%- set window = build_window(
    staged={'customers_snapshot': ref('customers_snapshot')}
) %}

with snapshot as (
    select * from {{ ref('customers_snapshot') }}
),

affected as (
    select distinct customer_id
    from snapshot
    where
        _cdc_loaded_at > {{ window.low.customers_snapshot }}
        and _cdc_loaded_at <= {{ window.high.customers_snapshot }}
),

captured as (
    select
        snapshot.customer_id,
        snapshot.birth_date,
        coalesce(snapshot.region, '{{ unknown_key() }}') as region,
        coalesce(snapshot.loyalty_tier, '{{ unknown_key() }}') as loyalty_tier,
        snapshot.signup_at,
        snapshot.is_deleted,
        snapshot.version_at,
        snapshot._cdc_loaded_at,
        {{ customer_fault() }} as fault
    from snapshot
    left semi join affected on snapshot.customer_id = affected.customer_id
),

newest as (
    select
        customer_id,
        max(_cdc_loaded_at) as loaded_at,
        max_by(fault, struct(_cdc_loaded_at, version_at)) as fault,
        max_by(birth_date, struct(_cdc_loaded_at, version_at)) as birth_date,
        max_by(signup_at, struct(_cdc_loaded_at, version_at)) as signup_at
    from captured
    group by customer_id
),

usable as (
    select captured.*
    from captured
    inner join newest on captured.customer_id = newest.customer_id
    where newest.fault is null and captured.fault is null
),

-- The first state known reaches back. One captured later holds from its own time
-- on, also where an earlier capture has that time or a later one: the source's
-- present state is always the last.
placed as (
    select
        *,
        if(
            row_number() over (
                partition by customer_id
                order by _cdc_loaded_at, version_at
            ) = 1,
            timestamp '1900-01-01',
            version_at
        ) as starts_at,
        min(version_at) over (
            partition by customer_id
            order by _cdc_loaded_at, version_at
            rows between 1 following and unbounded following
        ) as superseded_at
    from usable
),

compared as (
    select
        *,
        lag(struct(region, loyalty_tier, is_deleted)) over (
            partition by customer_id
            order by starts_at
        ) as before
    from placed
    where superseded_at is null or starts_at < superseded_at
),

openings as (
    select
        customer_id,
        region,
        loyalty_tier,
        is_deleted,
        starts_at as valid_from
    from compared
    where
        before is null
        or not (struct(region, loyalty_tier, is_deleted) <=> before)
),

versions as (
    select
        *,
        lead(valid_from) over (
            partition by customer_id
            order by valid_from
        ) as next_from
    from openings
),

fresh as (
    select
        md5(concat_ws(
            '|',
            cast(versions.customer_id as string),
            cast(versions.valid_from as string),
            versions.region,
            versions.loyalty_tier,
            cast(versions.is_deleted as string)
        )) as customer_key,
        versions.customer_id,
        newest.birth_date,
        versions.region,
        versions.loyalty_tier,
        newest.signup_at,
        versions.valid_from,
        coalesce(versions.next_from, timestamp '9999-12-31') as valid_to,
        versions.next_from is null as is_current,
        versions.is_deleted,
        newest.loaded_at
    from versions
    inner join newest on versions.customer_id = newest.customer_id
    union all
    select
        '{{ unknown_key() }}' as customer_key,
        cast(-1 as bigint) as customer_id,
        cast(null as date) as birth_date,
        '{{ unknown_key() }}' as region,
        '{{ unknown_key() }}' as loyalty_tier,
        cast(null as timestamp) as signup_at,
        timestamp '1900-01-01' as valid_from,
        timestamp '9999-12-31' as valid_to,
        true as is_current,
        false as is_deleted,
        cast(null as timestamp) as loaded_at
),

final as (
    {{ only_changes(
        'fresh',
        scope='kept.customer_id = -1 or kept.customer_id in (select customer_id from affected)'
    ) }}
)

select * from final
{{ window_marks(window) }}
