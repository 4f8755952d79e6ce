{#
    What each model has already taken from each of its inputs.

    `core.build_state` holds one row per model and input: `mark` is, for a
    staged table, the greatest `_cdc_loaded_at` taken; for a fact, the state of
    its partitions; for a dimension, a digest of the columns used; for `itself`, the
    version that the build left the model's own table at. A model
    writes its new marks as a comment into its compiled SQL, the
    materialization hands them on as the result's code, and one statement at the
    end of the run records those of the models that succeeded. A run that dies
    records nothing. A table that is not at its recorded version was written by such
    a run, or by hand, and is built in full (`was_written_since`).
#}

{# The table of marks, as a relation. #}
{% macro build_state() %}
    {% do return(api.Relation.create(
        schema=schema_prefix() ~ 'core', identifier='build_state', type='table')) %}
{% endmacro %}


{# on-run-start: makes the table of marks where it is missing. #}
{% macro prepare_build_state() %}
    {% if execute and flags.WHICH in ['run', 'build'] and not load_relation(build_state()) %}
        {% do run_query('create schema if not exists ' ~ build_state().schema) %}
        {% do run_query("create table if not exists " ~ build_state() ~ " (
            model string not null comment 'Name of the model',
            input string not null comment 'Name of what it reads',
            mark string comment 'How far it has read',
            built_at timestamp not null comment 'End of the run that read so far',
            invocation_id string comment 'That run, as dbt names it'
            ) using iceberg
            comment 'One row per model and input: what is already taken'
            tblproperties ('write.wap.enabled' = 'true',
                'write.metadata.delete-after-commit.enabled' = 'true',
                'write.metadata.previous-versions-max' = '20')") %}
    {% endif %}
{% endmacro %}


{#
    on-run-end: records the marks of the models that succeeded, and what passed its
    test. What a backfill bounded to its days has taken nothing, so only the version that
    it left such a table at is recorded, unless that had been written by hand before. A
    mart that was built on a fact which lags behind its own inputs is given no version:
    the next build makes it anew.

    Args:
        results: the run's results.
#}
{% macro record_build_state(results) %}
    {% do plan_simply() %}
    {% if execute and flags.WHICH in ['run', 'build'] and graph.get('build') %}
        {% do read_versions(graph.build, graph.nodes.values() | selectattr('unique_id', 'in', graph.build.changed) | list) %}
        {% set marked = [] %}
        {% set rows = [] %}
        {% for result in results
            if result.node.resource_type == 'model' and result.status == 'success' %}
            {% set marks = fromjson(result.adapter_response.get('code', '') or '{}', {}) %}
            {% if marks %}{% do marked.append(result) %}{% endif %}
            {% set version = graph.build.versions.get(result.node.relation_name) %}
            {% if version and result.adapter_response.get('_message') != 'unchanged'
                and not (backfill() and was_written_since(result.node)) %}
                {% do rows.append("('" ~ result.node.name ~ "', 'itself', '"
                    ~ ('' if _stands_on_lagging_fact(result.node) else version) ~ "')") %}
            {% endif %}
            {% for input, mark in (marks or {}).items() %}
                {% do rows.append("('" ~ result.node.name ~ "', '" ~ input ~ "', '"
                    ~ sql_text(mark) ~ "')") %}
            {% endfor %}
        {% endfor %}
        {% do rows.extend(fingerprint_rows(marked if backfill() else results)) %}
        {% if rows %}
            {% do run_query('merge into ' ~ build_state() ~ ' as kept using (
                select model, input, mark, current_timestamp() as built_at, '
                ~ "'" ~ invocation_id ~ "' as invocation_id from values "
                ~ rows | join(', ') ~ ' as found(model, input, mark)
                ) as found on kept.model = found.model and kept.input = found.input
                when matched then update set * when not matched then insert *') %}
        {% endif %}
    {% endif %}
{% endmacro %}


{#
    Whether a mart was built on a fact that is not itself built from what there is now:
    its dimensions may have been ahead of that fact.
#}
{% macro _stands_on_lagging_fact(node) %}
    {% for name in tables_read(node) if name in graph.nodes and name not in selected_resources
        and graph.nodes[name].config.get('event_at') %}
        {% if not is_unchanged(graph.nodes[name]) %}{% do return(true) %}{% endif %}
    {% endfor %}
    {% do return(false) %}
{% endmacro %}


{#
    What a model has to take in this run.

    Args:
        staged: dict of name -> source whose rows in (low, high] of
            their load time are new (see `load_time`).
        facts: dict of name -> fact model whose changed days matter.
        digests: dict of name -> a query of one row and one column that changes
            when the input does.
        all_time: whether the model sums over all days, which a backfill of some of
            them cannot bound.
    Returns:
        dict: `first` (take everything), `nothing` (no input changed), `low`
        and `high` by staged name (SQL timestamps), `days` by fact name (list
        of yyyy-mm-dd, or yyyy-mm of a fact laid out by month, UTC, changed or
        gone since), `changed` by name (bool),
        `marks` by name; in a backfill of what has days, `backfill` (its range:
        everything staged counts, and its days have changed).
#}
{% macro build_window(staged={}, facts={}, digests={}, all_time=false) %}
    {% set window = {'first': not is_incremental(), 'nothing': false, 'low': {},
        'high': {}, 'days': {}, 'changed': {}, 'marks': {}} %}
    {% for name in staged %}
        {% do window.low.update({name: earliest()}) %}
        {% do window.high.update({name: latest()}) %}
    {% endfor %}
    {% for name in (staged.keys() | list) + (facts.keys() | list) + (digests.keys() | list) %}
        {% do window.changed.update({name: true}) %}
        {% do window.days.update({name: []}) %}
    {% endfor %}
    {% if not execute or flags.WHICH not in ['run', 'build'] %}
        {% do return(window) %}
    {% endif %}
    {% set range = backfill() %}
    {% if range and (facts or config.get('event_at')) and not all_time %}
        {% do window.update({'backfill': range}) %}
        {% for name in facts %}{% do window.days.update({name: range.days}) %}{% endfor %}
        {% for name in digests %}{% do window.changed.update({name: false}) %}{% endfor %}
        {% do plan_simply() %}
        {% do return(window) %}
    {% endif %}
    {% if not window.first and is_unchanged(model) %}
        {% for name in window.changed %}{% do window.changed.update({name: false}) %}{% endfor %}
        {% do window.update({'nothing': true}) %}
        {% do return(window) %}
    {% endif %}

    {% do plan_simply() %}
    {% set known = graph.build.marks.get(model.name, {}) %}
    {% do window.marks.update(_marks_of_now(staged, facts, digests)) %}
    {% for name in window.changed %}
        {% set old = '' if window.first else (known.get(name) or '') %}
        {% do window.changed.update({name: old != window.marks[name]}) %}
        {% if name in staged %}
            {% if old %}{% do window.low.update({name: timestamp_of(old)}) %}{% endif %}
            {% if window.marks[name] %}
                {% do window.high.update({name: timestamp_of(window.marks[name])}) %}
            {% endif %}
        {% elif name in facts %}
            {% do window.days.update({name: _changed_days(old, window.marks[name])}) %}
        {% endif %}
    {% endfor %}
    {% do window.update({'nothing': not window.first and true not in window.changed.values()}) %}
    {% do return(window) %}
{% endmacro %}


{# Name of the column with the load time of a relation's rows. #}
{% macro load_time(relation) -%}
    {{ '_cdc_loaded_at' if relation.schema.endswith(('staging', 'snapshots')) else 'loaded_at' }}
{%- endmacro %}


{#
    Name of each input -> its mark of now, as text. What was read when the run
    began is taken from there; one statement asks for the rest, if any.
#}
{% macro _marks_of_now(staged, facts, digests) %}
    {% set build = graph.build %}
    {% set marks = {} %}
    {% set queries = [] %}
    {% for name, relation in staged.items() %}
        {% set found = graph.sources.values() | selectattr('relation_name', 'equalto', relation | string) | list %}
        {% if found and found[0].unique_id in build.staged %}
            {% do marks.update({name: build.staged[found[0].unique_id]}) %}
        {% else %}
            {% do queries.append("select '" ~ name ~ "' as input, cast((select max(" ~ load_time(relation)
                ~ ") from " ~ relation ~ ") as string) as mark") %}
        {% endif %}
    {% endfor %}
    {% for name, relation in facts.items() %}
        {% if relation | string in build.days_state %}
            {% do marks.update({name: build.days_state[relation | string]}) %}
        {% else %}
            {% do queries.append("select '" ~ name ~ "' as input, (" ~ _days_state(relation) ~ ") as mark") %}
        {% endif %}
    {% endfor %}
    {% for name, query in digests.items() %}
        {% do queries.append("select '" ~ name ~ "' as input, cast((" ~ query ~ ") as string) as mark") %}
    {% endfor %}
    {% if queries %}
        {% for row in run_query(queries | join(' union all ')).rows %}
            {% do marks.update({row[0]: row[1] or ''}) %}
        {% endfor %}
    {% endif %}
    {% do return(marks) %}
{% endmacro %}


{# Keeps the state of a fact's partitions, once its rows are settled, for the marts of the run. #}
{% macro remember_days(relation) %}
    {% if graph.get('build') and config.get('partition_by') %}
        {% do graph.build.days_state.update({relation | string: run_query(_days_state(relation)).rows[0][0] or ''}) %}
    {% endif %}
{% endmacro %}


{#
    The files of each day of a fact, as `yyyy-mm-dd:digest` joined by spaces; of
    each month, `yyyy-mm:digest`, of a fact laid out by month. A day changes
    exactly when a file of it is added or taken away.
#}
{% macro _days_state(relation) -%}
    select array_join(array_sort(collect_list(concat(day, ':', digest))), ' ')
    from (
        select
            {{ partition_day('partition') }} as day,
            substr(md5(array_join(array_sort(collect_list(file_path)), ',')), 1, 8) as digest
        from {{ relation }}.files
        {%- if session_ref(relation) not in ['', 'main'] %} version as of '{{ session_ref(relation) }}'{% endif %}
        group by 1
    )
{%- endmacro %}


{#
    Where this session reads a table: its branch's name, `main`, or an empty
    string for a table without a row ever written.
#}
{% macro session_ref(relation) %}
    {% set build = graph.get('build') %}
    {% if not build %}{% do return('') %}{% endif %}
    {% set written = graph.nodes.values() | selectattr('relation_name', 'equalto', relation | string)
        | selectattr('unique_id', 'in', build.changed) | list | length > 0 %}
    {% if build.branch and (written or relation | string in build.on_branch) %}
        {% do return(build.branch) %}
    {% endif %}
    {% do return('main' if relation | string in build.versions else '') %}
{% endmacro %}


{#
    The running model's table as it is before this run writes to it. Named by its
    version: rows cached from a table read plainly are worked out anew when it is
    written, and those from a branch's name are not found again to be let go.
#}
{% macro before_write() -%}
    {%- set version = graph.get('build', {}).get('versions', {}).get(this | string) if execute -%}
    {{ this }}{% if version %} version as of {{ version }}{% endif %}
{%- endmacro %}


{#
    The day or month of a partition by `days(...)` or `months(...)`, as text:
    Iceberg gives a day as a date, a month as months since 1970.

    Args:
        partition: SQL of the partition's struct.
#}
{% macro partition_day(partition) -%}
    coalesce(
        nullif(regexp_extract(to_json({{ partition }}), '[0-9]{4}-[0-9]{2}-[0-9]{2}', 0), ''),
        date_format(add_months(date '1970-01-01',
            cast(regexp_extract(to_json({{ partition }}), ':(-?[0-9]+)', 1) as int)), 'yyyy-MM')
    )
{%- endmacro %}


{# The days whose digest differs between two states, in order. #}
{% macro _changed_days(old, new) %}
    {% set before = (old or '').split(' ') | reject('equalto', '') | list %}
    {% set after = (new or '').split(' ') | reject('equalto', '') | list %}
    {% set days = [] %}
    {% for entry in (before | reject('in', after) | list) + (after | reject('in', before) | list) %}
        {% set day = entry.split(':')[0] %}
        {% if day not in days %}{% do days.append(day) %}{% endif %}
    {% endfor %}
    {% do return(days | sort) %}
{% endmacro %}


{#
    The branch this session writes to, or an empty string. Asked of the session:
    `target` does not show `server_side_parameters`.
#}
{% macro _session_branch() %}
    {% set value = run_query('set spark.wap.branch').rows[0][1] %}
    {% do return('' if value == '<undefined>' else value) %}
{% endmacro %}


{% macro earliest() -%}timestamp '0001-01-01'{%- endmacro %}
{% macro latest() -%}timestamp '9999-12-31'{%- endmacro %}
{% macro timestamp_of(text) -%}timestamp '{{ text }}'{%- endmacro %}


{#
    The marks of a window as a comment, last in a model's SQL, for the
    materialization to find.
#}
{% macro window_marks(window) -%}
    {%- if window.nothing %}
-- nothing new
    {%- endif %}
-- build_state {{ tojson(window.marks) }}
{%- endmacro %}
