{#
    on-run-end: what each node of a run cost, one row a node in `ops.model_runs`.

    Seconds are dbt's; rows, files and bytes come from the commit summaries of
    the tables written, so that they cost one statement a run. Task seconds and
    spill are Spark's own, which SQL cannot ask: `ecom run` adds them. A node
    that ran no statement has no row, and a run without any writes nothing.

    Args:
        results: the run's results.
#}
{% macro record_model_runs(results) %}
    {% set rows = [] %}
    {% set commits = [] %}
    {% for result in results if execute and flags.WHICH in ['run', 'build', 'snapshot', 'test']
        and result.status not in ['skipped', 'no-op']
        and result.node.resource_type in ['model', 'snapshot', 'test']
        and result.adapter_response.get('_message') not in ['unchanged', 'asked with its table'] %}
        {% set node = result.node %}
        {% set relation = node.relation_name or '' if node.resource_type != 'test' else '' %}
        {% do rows.append("('" ~ node.unique_id ~ "', '" ~ relation ~ "', '" ~ node.resource_type ~ "', '"
            ~ result.status ~ "', cast(" ~ result.execution_time ~ " as double))") %}
        {% if relation and node.config.materialized in ['incremental', 'snapshot']
            and ('build' not in graph or node.unique_id in graph.build.changed) and load_relation(
            api.Relation.create(schema=node.schema, identifier=node.alias)) %}
            {% do commits.append(_commits_query(relation)) %}
        {% endif %}
    {% endfor %}
    {% if rows %}
        {% do _create_model_runs() %}
        {% do run_query(_model_runs_merge(rows, commits)) %}
    {% endif %}
{% endmacro %}


{# `ops.model_runs`, as text. #}
{% macro model_runs() -%}
    {{ schema_prefix() }}ops.model_runs
{%- endmacro %}


{% macro _create_model_runs() %}
    {% do run_query('create schema if not exists ' ~ schema_prefix() ~ 'ops') %}
    {% do run_query("create table if not exists " ~ model_runs() ~ " (
        invocation_id string not null comment 'The run, as dbt names it',
        node_id string not null comment 'The model, snapshot or test, as dbt names it',
        relation string comment 'The table it writes; null for a test',
        resource_type string not null comment 'model, snapshot or test',
        started_at timestamp not null comment 'Start of the run',
        branch string comment 'Iceberg branch written to; null where readers saw each write',
        status string not null comment 'As dbt has it: success, pass, error, fail, ...',
        seconds double not null comment 'From its first statement to its last',
        rows_added bigint comment 'Rows in new files; an update counts as one added, one removed',
        rows_removed bigint comment 'Rows in files taken away',
        files_added bigint comment 'New data files',
        files_removed bigint comment 'Data files taken away',
        bytes_added bigint comment 'Size of the new files',
        table_rows bigint comment 'Rows of the table afterwards',
        table_files bigint comment 'Data files of the table afterwards',
        table_bytes bigint comment 'Size of the table afterwards',
        task_seconds double comment 'Sum over its Spark tasks; null outside `ecom run`',
        spill_bytes bigint comment 'Bytes spilled to disk by its Spark tasks; null outside `ecom run`'
        ) using iceberg
        comment 'One row per run and node that ran a statement: what it cost'
        tblproperties ('write.metadata.delete-after-commit.enabled' = 'true',
            'write.metadata.previous-versions-max' = '20')") %}
{% endmacro %}


{# What a run committed to a table: one row, nulls where it committed nothing. #}
{% macro _commits_query(relation) -%}
    select
        '{{ relation }}' as relation,
        {% for name, key in [
            ('rows_added', 'added-records'), ('rows_removed', 'deleted-records'),
            ('files_added', 'added-data-files'), ('files_removed', 'deleted-data-files'),
            ('bytes_added', 'added-files-size'),
        ] -%}
        sum(cast(coalesce(summary['{{ key }}'], '0') as bigint)) as {{ name }},
        {% endfor -%}
        {% for name, key in [
            ('table_rows', 'total-records'), ('table_files', 'total-data-files'),
            ('table_bytes', 'total-files-size'),
        ] -%}
        cast(max_by(summary['{{ key }}'], committed_at) as bigint) as {{ name }}{{ ',' if not loop.last }}
        {% endfor %}
    from {{ relation }}.snapshots
    where committed_at >= {{ timestamp_of(run_started_at.strftime('%Y-%m-%d %H:%M:%S.%f')) }}
{%- endmacro %}


{# Merged, so that a statement sent twice counts once. #}
{% macro _model_runs_merge(rows, commits) -%}
    {%- set started_at = timestamp_of(run_started_at.strftime('%Y-%m-%d %H:%M:%S.%f')) -%}
    {%- set measures = ['rows_added', 'rows_removed', 'files_added', 'files_removed',
        'bytes_added', 'table_rows', 'table_files', 'table_bytes'] -%}
    {%- set columns = ['invocation_id', 'node_id', 'relation', 'resource_type', 'started_at',
        'branch', 'status', 'seconds'] + measures -%}
    merge into {{ model_runs() }} as kept
    using (
        select
            '{{ invocation_id }}' as invocation_id,
            ran.node_id,
            nullif(ran.relation, '') as relation,
            ran.resource_type,
            {{ started_at }} as started_at,
            nullif('{{ graph.get("build", {}).get("branch", "") }}', '') as branch,
            ran.status,
            ran.seconds,
            {%- for name in measures %}
            {{ 'commits.' ~ name if commits else 'cast(null as bigint)' }} as {{ name }}{{ ',' if not loop.last }}
            {%- endfor %}
        from values {{ rows | join(', ') }}
            as ran(node_id, relation, resource_type, status, seconds)
        {%- if commits %}
        left join (
            {{ commits | join(' union all ') }}
        ) as commits on ran.relation = commits.relation
        {%- endif %}
    ) as found
    on kept.started_at = {{ started_at }}
        and kept.invocation_id = found.invocation_id
        and kept.node_id = found.node_id
    when not matched then insert ({{ columns | join(', ') }})
        values (found.{{ columns | join(', found.') }})
{%- endmacro %}
