-- Grain: one interaction.
-- Key: interaction_id. Watermarks: load time of the staged interactions and of
-- the customers. Interactions staged since are added, late ones in their own
-- day; one staged again is worked out anew from all rows of its key, and leaves
-- where none is live and sound; those whose customer version or product changed
-- get their new keys: events from the earliest changed version on, and events of
-- unknown customers or products that have arrived. A rerun changes nothing. A
-- backfill works its days out from staging.
-- depends_on: {{ ref('customers_snapshot') }}, {{ ref('dim_date') }}
{{
    config(
        unique_key='interaction_id',
        prune_by='occurred_at',
        event_at='occurred_at',
        partition_by=['days(occurred_at)'],
    )
}}

{%- set window = build_window(
    staged={
        'interactions': source('staging', 'interactions'),
        'dim_customer': ref('dim_customer'),
    },
    digests={
        'customer_keys': digest_of(ref('dim_customer'), ['customer_key']),
        'product_keys': digest_of(ref('dim_product'), ['product_key']),
    },
) %}
{%- set range = window.backfill %}
{%- set ids = bounds_of(ref('stg_interactions'), 'interaction_id', window, 'interactions')
    if is_incremental() and not range %}
{%- set affected %}
    select interaction_id
    from {{ ref('stg_interactions') }}
    where
        {{ in_range('occurred_at', range) if range
            else in_window(window, 'interactions', 'loaded_at') }}
{%- endset %}
{%- set again = ids and window.changed.interactions
    and stands_already('interaction_id', affected, ids) %}
{%- set twice = range or again or not window.changed.interactions or comes_twice(
    ref('stg_interactions'), ['interaction_id'],
    in_window(window, 'interactions', 'loaded_at')
) %}

with customers as (
    select * from {{ ref('dim_customer') }}
),

products as (
    select * from {{ ref('dim_product') }}
),

usable as (
    select *
    from {{ ref('stg_interactions') }}
    where
        not is_deleted
        and reject_reason is null
        {%- if again %}
        and interaction_id between {{ ids[0] }} and {{ ids[1] }}
        {%- endif %}
        {%- if range or again %}
        -- Of a key's rows the first counts, whenever it happened or was staged.
        and interaction_id in ({{ affected }})
        {%- else %}
        and {{ in_window(window, 'interactions', 'loaded_at') }}
        {%- endif %}
),

staged as (
    select
        interaction_id,
        customer_id,
        product_id,
        interaction_type,
        occurred_at,
        session_id,
        device
    from ({{ first_of('usable', ['interaction_id'], twice=twice) }})
    {%- if range %}
    where {{ in_range('occurred_at', range) }}
    {%- elif ids and not again %}
    -- A key staged before counts there, a second row of it is rejected.
    where interaction_id not in (
        select interaction_id
        from {{ ref('stg_interactions') }}
        where
            loaded_at <= {{ window.low.interactions }}
            and interaction_id between {{ ids[0] }} and {{ ids[1] }}
            and not is_deleted
            and reject_reason is null
    )
    {%- endif %}
),

{% if is_incremental() and not range -%}
stale as (
    {{ stale_facts(window, 'occurred_at') }}
),

candidates as (
    select
        staged.*,
        cast(null as string) as old_customer_key,
        cast(null as string) as old_product_key
    from staged
    union all
    select
        stale.interaction_id,
        stale.customer_id,
        stale.product_id,
        stale.interaction_type,
        stale.occurred_at,
        stale.session_id,
        stale.device,
        stale.customer_key as old_customer_key,
        stale.product_key as old_product_key
    from stale
    left anti join {{ '(' ~ affected ~ ') as staged' if again else 'staged' }}
        on stale.interaction_id = staged.interaction_id
),
{%- else -%}
candidates as (
    select * from staged
),
{%- endif %}

keyed as (
    select
        candidates.*,
        coalesce(customers.customer_key, '{{ unknown_key() }}') as customer_key,
        coalesce(products.product_key, '{{ unknown_key() }}') as product_key
    from candidates
    {{ join_version('customers', 'customers', 'customer_id', 'candidates', 'candidates.occurred_at') }}
    left join products on candidates.product_id = products.product_id
),

fresh as (
    select
        ---------- keys
        interaction_id,
        customer_key,
        product_key,
        {{ date_key(local_day('occurred_at')) }} as date_key,
        customer_id,
        product_id,

        ---------- attributes
        interaction_type,
        occurred_at,
        session_id,
        device
        {%- if is_incremental() and not range %},
        old_customer_key is null as is_new
        {%- endif %}
    from keyed
    {%- if is_incremental() and not range %}
    where
        not (customer_key <=> old_customer_key)
        or not (product_key <=> old_product_key)
    {%- endif %}
),

final as (
    {% if range -%}
    {{ only_changes('fresh', scope=in_range('kept.occurred_at', range)) }}
    {%- elif again -%}
    {{ only_changes(
        'fresh',
        scope='kept.interaction_id between ' ~ ids[0] ~ ' and ' ~ ids[1]
        ~ ' and kept.interaction_id in (' ~ affected ~ ')'
    ) }}
    {%- else -%}
    select * from fresh
    {%- endif %}
)

select * from final
{{ window_marks(window) }}
