{#
    What need not run again, because everything it reads is as it was.

    An Iceberg table's version is the id of its current snapshot. At the start
    of a run one query reads the versions of all tables. A model, snapshot or
    test whose inputs have the versions they had when it last succeeded gives
    the same again, so it runs no statement. A change made by hand, a compaction
    or a new test alters a version or a text, and so is never overlooked. A run
    with a failure records nothing.

    Kept while a run lasts in `graph`, which all threads share, under `build`:
    `versions` (relation -> snapshot id), `state` (recorded fingerprints by
    node), `texts` (digests of the views' SQL), `changed` (nodes that ran),
    `branch` (the session's), `passed` (the result of a passed test).
#}

{# on-run-start: reads versions and recorded fingerprints. #}
{% macro prepare_unchanged() %}
    {% if execute and flags.WHICH == 'build' %}
        {% set build = {'versions': {}, 'state': {}, 'texts': {}, 'changed': {},
            'branch': audit_branch()} %}
        {% do build.versions.update(table_versions()) %}
        {% for row in run_query('select model, input, mark from ' ~ build_state()
            ~ " where input in ('fingerprint', 'text')").rows %}
            {% do build[{'fingerprint': 'state', 'text': 'texts'}[row[1]]].update({row[0]: row[2]}) %}
        {% endfor %}
        {% do build.update({'passed': run_query(
            'select 0 as failures, false as should_warn, false as should_error')}) %}
        {% do graph.update({'build': build}) %}
    {% endif %}
{% endmacro %}


{# Relation name -> id of its current snapshot, of every table there is. #}
{% macro table_versions() %}
    {% set queries = [] %}
    {% set branch = audit_branch() %}
    {% set nodes = (graph.sources.values() | list) + (graph.nodes.values()
        | selectattr('resource_type', 'in', ['model', 'snapshot'])
        | rejectattr('config.materialized', 'equalto', 'view') | list) %}
    {% for node in nodes %}
        {% set relation = adapter.get_relation(none, node.schema, node.identifier or node.alias) %}
        {% if relation %}
            {% do queries.append("select '" ~ node.relation_name ~ "' as relation, name, snapshot_id from "
                ~ relation ~ ".refs where name in ('main', '" ~ branch ~ "')") %}
        {% endif %}
    {% endfor %}
    {% set versions = {} %}
    {% if queries %}
        {% for row in run_query('select * from (' ~ queries | join(' union all ')
            ~ ") order by name = 'main' desc").rows %}
            {% do versions.update({row[0]: row[2] | string}) %}
        {% endfor %}
    {% endif %}
    {% do return(versions) %}
{% endmacro %}


{# The tables a node reads, views seen through: unique ids, in order. #}
{% macro tables_read(node) %}
    {% set found = [] %}
    {% for name in node.depends_on.nodes %}
        {% set input = graph.sources.get(name) or graph.nodes.get(name) %}
        {% if input and input.config.materialized == 'view' %}
            {% do found.extend(tables_read(input)) %}
        {% elif input %}
            {% do found.append(name) %}
        {% endif %}
    {% endfor %}
    {% do return(found | unique | sort) %}
{% endmacro %}


{#
    Digests of a node's text and definition, and its inputs' versions, parted by
    spaces; empty where an input is unknown. The versions stand in plain, since
    `ecom maintain` replaces that of a table it has compacted.

    Args:
        node: of the graph, or a test's `model`.
        text: what else decides its outcome: a test's compiled SQL.
        versions: relation name -> snapshot id.
#}
{% macro fingerprint(node, text, versions) %}
    {% set parts = [] %}
    {% for name in tables_read(node) %}
        {% set input = graph.sources.get(name) or graph.nodes.get(name) %}
        {% if input.relation_name not in versions %}{% do return('') %}{% endif %}
        {% do parts.append(versions[input.relation_name]) %}
    {% endfor %}
    {% set definition = [node.raw_code, node.get('test_metadata'), node.config.get('where')] %}
    {% do return([local_md5(text), local_md5(definition | string), parts | join(',')] | join(' ')) %}
{% endmacro %}


{#
    Whether a node would give what it gave when it last succeeded.

    Args:
        node: the running node, `model`.
        text: what else decides its outcome: a test's SQL.
#}
{% macro is_unchanged(node, text='') %}
    {% set build = graph.get('build') %}
    {% if not execute or not build or flags.FULL_REFRESH %}{% do return(false) %}{% endif %}
    {% for name in tables_read(node) if name in build.changed %}
        {% do return(false) %}
    {% endfor %}
    {% set now = fingerprint(node, text, build.versions).split(' ') %}
    {% set known = (build.state.get(node.unique_id) or '').split(' ') %}
    {% do return(now | length == 3 and known | length == 3
        and known[0] == now[0] and known[2] == now[2]) %}
{% endmacro %}


{# Notes that a node has run. #}
{% macro note_change(node) %}
    {% if graph.get('build') %}{% do graph.build.changed.update({node.unique_id: true}) %}{% endif %}
{% endmacro %}


{#
    Rows for `build_state`: the fingerprints of what ran and succeeded.

    Args:
        results: the run's results.
#}
{% macro fingerprint_rows(results) %}
    {% set rows = [] %}
    {% set build = graph.get('build') %}
    {% set ran = [] %}
    {% for result in results if result.node.resource_type in ['model', 'snapshot', 'test']
        and result.adapter_response.get('_message') != 'unchanged' %}
        {% do ran.append(result) %}
    {% endfor %}
    {% if build and ran %}
        {% set versions = table_versions() %}
        {% for result in ran %}
            {% set node = graph.nodes.get(result.node.unique_id) %}
            {% set text = test_text(result.node.compiled_code)
                if result.node.resource_type == 'test' else '' %}
            {% if node %}
                {% set mark = fingerprint(node, text, versions) %}
                {% if mark and mark != build.state.get(node.unique_id) %}
                    {% do rows.append("('" ~ node.unique_id ~ "', 'fingerprint', '" ~ mark ~ "')") %}
                {% endif %}
            {% endif %}
        {% endfor %}
    {% endif %}
    {% do return(rows) %}
{% endmacro %}


{# A test's SQL without the bounds that a run may have put on it. #}
{% macro test_text(compiled_code) -%}
    {{ modules.re.sub('/\* changed days \*/.*?/\* end \*/', '', compiled_code, flags=16) }}
{%- endmacro %}


{#
    A test, left out where neither its text nor a table it reads has changed
    since it last passed, or its table has asked it already (`ask_tests`).
#}
{% materialization test, adapter='spark' %}
    {% if is_unchanged(model, test_text(sql)) %}
        {% do store_raw_result('main', message='unchanged', code='unchanged',
            rows_affected=none, agate_table=graph.build.passed) %}
        {{ return({'relations': []}) }}
    {% elif is_sound_now(model) %}
        {% do store_raw_result('main', message='asked with its table', code='asked',
            rows_affected=none, agate_table=graph.build.passed) %}
        {{ return({'relations': []}) }}
    {% endif %}
    {% call statement('main', fetch_result=True) %}
        {{ get_test_sql(sql, config.get('fail_calc'), config.get('warn_if'),
            config.get('error_if'), config.get('limit')) }}
    {% endcall %}
    {{ return({'relations': []}) }}
{% endmaterialization %}


{#
    A view, left as it is where its SQL is what it was made of.
#}
{% materialization view, adapter='spark' %}
    {% set text = local_md5(sql) %}
    {% if load_relation(this) and is_recorded_view(text) %}
        {% do store_raw_result('main', message='unchanged', code='{}', rows_affected=none) %}
        {% set done = {'relations': [this.incorporate(type='view')]} %}
    {% else %}
        {% set done = create_or_replace_view() %}
        {% do store_raw_result('main', message='created', code=tojson({'text': text}), rows_affected=none) %}
    {% endif %}
    {{ return(done) }}
{% endmaterialization %}

{% macro is_recorded_view(text) %}
    {% do return(graph.get('build', {}).get('texts', {}).get(model.name) == text) %}
{% endmacro %}


{# Notes the days that a run has changed in the running model's table. #}
{% macro note_days(days) %}
    {% if graph.get('build') and config.get('prune_by') and days %}
        {% do graph.build.setdefault('days', {}).update({model.unique_id: days.split(',')}) %}
    {% endif %}
{% endmacro %}


{#
    What a generic test looks at: the whole table, or its `where`, or, in a
    build, the days that this build changed in a fact, where the test held before
    (`was_sound`). A key may repeat on any two days, so a test of keys looks at
    all; so does `dbt test`.

    Args:
        relation: the tested table.
#}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where') -%}
    {%- set attached = model.get('attached_node') -%}
    {%- set partly = execute and not model.get('test_metadata', {}).get('name', '').startswith('unique')
        and was_sound(model) -%}
    {%- set days = graph.get('build', {}).get('days', {}).get(attached) if partly -%}
    {%- set node = graph.nodes.get(attached) if days else {} -%}
    {%- if days and relation.identifier == node.alias -%}
        {%- do return('(select * from ' ~ relation ~ ' where ' ~ (where or 'true')
            ~ '/* changed days */ and (' ~ days_predicate(node.config.prune_by, days)
            ~ ') /* end */) as changed') -%}
    {%- elif where -%}
        {%- do return('(select * from ' ~ relation ~ ' where ' ~ where ~ ') as chosen') -%}
    {%- endif -%}
    {%- do return(relation) -%}
{%- endmacro %}
