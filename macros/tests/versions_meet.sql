{#
    Fails on the versions of a member that do not follow one another: the rules of
    a dimension of type 2. `fault` says which is broken: `no length`, `gap`,
    `overlap`, `starts late` (the first has to reach back), `ends` (the last has to
    be open), `current` (the last alone is).

    Args:
        key: column of the member.
        starts, ends: columns of a version's first moment and the one after its last.
        current: column that says which version is the present one.
        from_moment, to_moment: where the first starts and the last ends.
#}
{% test versions_meet(
    model, key, starts='valid_from', ends='valid_to', current='is_current',
    from_moment='1900-01-01', to_moment='9999-12-31'
) %}
with versions as (
    select
        {{ key }},
        {{ starts }} as starts_at,
        {{ ends }} as ends_at,
        {{ current }} as is_present,
        lag({{ ends }}) over (partition by {{ key }} order by {{ starts }}, {{ ends }}) as previous_end,
        lead({{ starts }}) over (partition by {{ key }} order by {{ starts }}, {{ ends }}) as next_start
    from {{ model }}
),

judged as (
    select
        *,
        case
            when starts_at >= ends_at then 'no length'
            when starts_at > previous_end then 'gap'
            when starts_at < previous_end then 'overlap'
            when previous_end is null and starts_at != timestamp '{{ from_moment }}' then 'starts late'
            when next_start is null and ends_at != timestamp '{{ to_moment }}' then 'ends'
            when is_present != (next_start is null) then 'current'
        end as fault
    from versions
)

select * from judged where fault is not null
{% endtest %}
