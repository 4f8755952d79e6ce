{#
    Snapshots that take several versions of a key at once, in any order.

    dbt's own macros see one row a key a run: versions captured between two runs
    are lost or overlap, a delete writes a row of nulls (dbt-core 11949,
    dbt-adapters 1401), and a list of keys breaks by the third run
    (dbt-adapters 2101). Here the snapshot's query gives versions, each with its
    time (`updated_at`) and, in `meta.version_order`, the columns that tell in
    which order they were captured. A key with a version not yet kept has its whole
    history put in order again: new versions are inserted, and a kept one whose
    end moved is updated. A delete is a version with a flag, set by the query.
#}

{# Identity of a version: key, time and tie-breakers. #}
{% macro version_id(strategy) -%}
    {{ snapshot_hash_arguments(
        snapshot_keys(strategy) + [strategy.updated_at] + version_order()) }}
{%- endmacro %}

{% macro snapshot_keys(strategy) -%}
    {% do return([strategy.unique_key] if strategy.unique_key is string
        else strategy.unique_key) %}
{%- endmacro %}

{% macro version_order() -%}
    {% do return(config.get('meta', {}).get('version_order', [])) %}
{%- endmacro %}

{#
    The end of a version: the earliest start among those captured after it, its
    own start where one of them starts before. So the version captured last is
    the open one, even where its clock went back: two transactions that wait for
    one row commit in an order that their times need not have.
#}
{% macro next_version_start(strategy, starts) -%}
    {%- set window -%}
    over (
        partition by {{ snapshot_keys(strategy) | join(', ') }}
        order by {{ (version_order() + [starts]) | join(', ') }}
        rows between 1 following and unbounded following
    )
    {%- endset -%}
    if(
        min({{ starts }}) {{ window }} is null,
        null,
        greatest({{ starts }}, min({{ starts }}) {{ window }})
    )
{%- endmacro %}


{% macro spark__build_snapshot_table(strategy, sql) %}
    select
        *,
        {{ version_id(strategy) }} as dbt_scd_id,
        {{ strategy.updated_at }} as dbt_updated_at,
        {{ strategy.updated_at }} as dbt_valid_from,
        {{ next_version_start(strategy, strategy.updated_at) }} as dbt_valid_to
    from (
        {{ sql }}
    )
{% endmacro %}


{% macro spark__snapshot_staging_table(strategy, source_sql, target_relation) -%}
    {%- set given = get_columns_in_query(source_sql) -%}
    {%- set kept = adapter.get_columns_in_relation(target_relation)
        | map(attribute='name') | list -%}
    {%- set technical = ['dbt_scd_id', 'dbt_updated_at', 'dbt_valid_from', 'dbt_valid_to'] -%}
    {%- set columns = kept | reject('in', technical) | list -%}
    {%- do columns.extend(given | reject('in', columns) | list) -%}
    with versions as (
        select
            *,
            {{ version_id(strategy) }} as dbt_scd_id
        from (
            {{ source_sql }}
        )
    ),

    existing as (
        select target.*
        from {{ target_relation }} as target
        left semi join versions
            on {% for key in snapshot_keys(strategy) -%}
            target.{{ key }} = versions.{{ key }}{{ ' and ' if not loop.last }}
            {%- endfor %}
    ),

    fresh as (
        select versions.*
        from versions
        left anti join existing on versions.dbt_scd_id = existing.dbt_scd_id
    ),

    together as (
        select
            true as dbt_is_fresh,
            {% for column in columns -%}
            {{ column if column in given else 'null as ' ~ column }},
            {% endfor -%}
            dbt_scd_id,
            {{ strategy.updated_at }} as dbt_updated_at,
            {{ strategy.updated_at }} as dbt_valid_from,
            cast(null as timestamp) as dbt_valid_to
        from fresh
        union all
        select
            false as dbt_is_fresh,
            {% for column in columns -%}
            {{ column if column in kept else 'null as ' ~ column }},
            {% endfor -%}
            dbt_scd_id,
            dbt_updated_at,
            dbt_valid_from,
            dbt_valid_to
        from existing
    ),

    ordered as (
        select
            *,
            {{ next_version_start(strategy, 'dbt_valid_from') }} as dbt_next_from
        from together
    )

    select
        if(dbt_is_fresh, 'insert', 'update') as dbt_change_type,
        {% for column in columns -%}
        {{ column }},
        {% endfor -%}
        dbt_scd_id,
        dbt_updated_at,
        dbt_valid_from,
        dbt_next_from as dbt_valid_to
    from ordered
    where dbt_is_fresh or not (dbt_valid_to <=> dbt_next_from)
{%- endmacro %}


{% macro spark__snapshot_merge_sql(target, source, insert_cols) -%}
    merge into {{ target }} as kept
    using {{ source.identifier }} as found
    on found.dbt_scd_id = kept.dbt_scd_id
    when matched and found.dbt_change_type = 'update'
        then update set dbt_valid_to = found.dbt_valid_to
    when not matched and found.dbt_change_type = 'insert'
        then insert *
{%- endmacro %}


{#
    The staging relation is a view of the session, not of the catalog: nothing
    is left behind where the run dies.
#}
{% macro spark_build_snapshot_staging_table(strategy, sql, target_relation) %}
    {% set staging = api.Relation.create(
        identifier=target_relation.identifier ~ '__versions', type='view') %}
    {% call statement('build_snapshot_staging_relation') %}
        create or replace temporary view {{ staging }} as
        {{ snapshot_staging_table(strategy, sql, target_relation) }}
    {% endcall %}
    {% do return(staging) %}
{% endmacro %}


{#
    The greatest `_cdc_loaded_at` that a snapshot has kept, as text; an empty
    string where it has none, or there is no snapshot yet.

    Args:
        relation: the snapshot.
#}
{% macro newest_kept(relation) %}
    {% if execute and flags.WHICH in ['snapshot', 'build'] and load_relation(relation)
        and not is_unchanged(model) %}
        {% do plan_simply() %}
        {% do return(run_query(
            'select cast(max(_cdc_loaded_at) as string) from ' ~ relation
        ).rows[0][0] or '') %}
    {% endif %}
    {% do return('') %}
{% endmacro %}
