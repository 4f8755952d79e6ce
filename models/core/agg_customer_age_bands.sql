-- Grain: one customer and age band with an interaction, a column a type.
-- Key: the two; the customer is null for events of nobody. Changed days of the
-- fact are counted as they are and as they were when this table was last built,
-- and the difference is added; customers whose birth date was put right are
-- counted anew. So the mart of ages need not read all events. A rerun changes
-- nothing.
{{ config(unique_key=['age_band', 'customer_id']) }}

{%- set types = interaction_types() %}

{%- set facts, versions = ref('fct_interactions'), ref('dim_customer') %}
{%- set window = build_window(
    facts={'fct_interactions': facts},
    digests={'birth_dates': digest_of(versions, ['customer_id', 'birth_date'], 'is_current')},
    all_time=true,
) %}
{%- set before = built_from(window) %}
{%- set corrected = before and window.changed.birth_dates and has_rows(
    corrected_births(versions, before)
) %}

with events as (
    {{ changed_rows(
        facts, ['customer_id', 'interaction_type', 'occurred_at'],
        'occurred_at', window.days.fct_interactions, before
    ) }}
),

-- All versions of a customer have one birth date, so the id is enough.
births as (
    {{ signed_rows(versions, ['customer_id', 'birth_date'], before, 'is_current') }}
),

{% if corrected -%}
corrected as (
    {{ corrected_births(versions, before) }}
),

told as (
    select * from events
    where not exists (
        select 1 from corrected
        where corrected.customer_id = events.customer_id
    )
    union all
    select
        customer_id,
        interaction_type,
        occurred_at,
        1 as sign
    from {{ facts }}
    where customer_id in (select customer_id from corrected)
),
{%- else -%}
told as (
    select * from events
),
{%- endif %}

aged as (
    select
        told.customer_id,
        told.interaction_type,
        told.sign,
        {{ age_on('births.birth_date', local_day('told.occurred_at')) }} as age
    from told
    left join births
        on told.customer_id = births.customer_id
        and told.sign = births.sign
),

counted as (
    select
        {{ age_band('age') }} as age_band,
        customer_id
        {%- for type in types %},
        sum(if(interaction_type = '{{ type }}', sign, 0)) as {{ type }}_count
        {%- endfor %}
    from aged
    group by 1, 2
),

{% if before -%}
differences as (
    {%- if corrected %}
    select
        age_band,
        customer_id
        {%- for type in types %},
        sum({{ type }}_count) as {{ type }}_count
        {%- endfor %}
    from (
        select * from counted
        union all
        select
            age_band,
            customer_id
            {%- for type in types %},
            -{{ type }}_count as {{ type }}_count
            {%- endfor %}
        from {{ before_write() }}
        where customer_id in (select customer_id from corrected)
    )
    group by 1, 2
    {%- else %}
    select * from counted
    {%- endif %}
),

summed as (
    select
        differences.age_band,
        differences.customer_id
        {%- for type in types %},
        coalesce(kept.{{ type }}_count, 0) + differences.{{ type }}_count
        as {{ type }}_count
        {%- endfor %}
    from differences
    left join {{ before_write() }} as kept
        on differences.customer_id <=> kept.customer_id
        and differences.age_band = kept.age_band
    where
        {%- for type in types %}
        {{ 'or ' if not loop.first }}differences.{{ type }}_count != 0
        {%- endfor %}
),

final as (
    select
        *,
        {% for type in types -%}
        {{ '+ ' if not loop.first }}{{ type }}_count
        {% endfor -%}
        = 0 as is_removed
    from summed
)
{%- else -%}
final as (
    {{ only_changes('counted') }}
)
{%- endif %}

select * from final
{{ window_marks(window) }}
