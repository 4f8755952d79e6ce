{#
    What need not run again, because everything it reads is as it was.

    An Iceberg table's version is the id of its current snapshot. At the start
    of a run one query reads the versions of all tables, one the state of the
    last runs, one how far staging has been loaded; what a model needs of them
    costs it no statement of its own. A model, snapshot or test whose inputs have
    the versions they had when it last succeeded gives the same again, so it runs
    no statement. A change made by hand, a compaction or a new test alters a
    version or a text, and so is never overlooked. A run with a failure records
    nothing.

    A model whose text, or that of a macro or staging view of ours it uses, is
    not what it was built with is built in full, as by `--full-refresh`; so is one
    that counts in days where `reporting_timezone` has changed.

    Kept while a run lasts in `graph`, which all threads share, under `build`:
    `versions` (relation -> snapshot id), `on_branch` (relations that have the
    session's branch), `state` (recorded fingerprints by node), `marks` (recorded marks by model and input), `staged`
    (source -> greatest load time, as text), `small` (whether staging is),
    `days` (fact -> state of its partitions), `changed` (nodes that ran),
    `branch` (the session's), `passed` (the result of a passed test).
#}

{# on-run-start: reads versions, state and how far staging is loaded. #}
{% macro prepare_unchanged() %}
    {% if execute and flags.WHICH in ['build', 'run'] %}
        {% set build = {'versions': {}, 'on_branch': {}, 'state': {}, 'marks': {},
            'staged': {}, 'small': false, 'days_state': {}, 'changed': {}, 'branch': _session_branch()} %}
        {% do read_versions(build, _tables_known()) %}
        {% for row in run_query('select model, input, mark from ' ~ build_state()).rows %}
            {% if row[1] == 'fingerprint' %}
                {% do build.state.update({row[0]: row[2]}) %}
            {% else %}
                {% do build.marks.setdefault(row[0], {}).update({row[1]: row[2]}) %}
            {% endif %}
        {% endfor %}
        {% do build.update({'passed': run_query(
            'select 0 as failures, false as should_warn, false as should_error')}) %}
        {% do _read_staged(build) %}
        {% do graph.update({'build': build}) %}
    {% endif %}
{% endmacro %}


{#
    Reads how far each staged table has been loaded and how many rows there are
    in all, which Iceberg answers from its metadata.
#}
{% macro _read_staged(build) %}
    {% set queries = [] %}
    {% for source in graph.sources.values() if source.schema.endswith('staging')
        and source.relation_name in build.versions %}
        {% do queries.append("select '" ~ source.unique_id ~ "' as name, cast(max(_cdc_loaded_at) as string) as mark, "
            ~ 'count(*) as how_many from ' ~ source.relation_name) %}
    {% endfor %}
    {% set rows = run_query(queries | join(' union all ')).rows if queries else [] %}
    {% for row in rows %}{% do build.staged.update({row[0]: row[1] or ''}) %}{% endfor %}
    {% do build.update({'small': rows | sum(attribute=2) < var('small_rows')}) %}
{% endmacro %}

{#
    Sets the running node's session up for little data: without generated code
    and without plans made anew between stages, each of which costs more there
    than it saves. Larger shops keep Spark's own settings.
#}
{% macro plan_simply() %}
    {% if execute and graph.get('build', {}).get('small') %}
        {% do run_query('set spark.sql.codegen.wholeStage = false') %}
        {% do run_query('set spark.sql.adaptive.enabled = false') %}
        {% do run_query('set spark.sql.shuffle.partitions = 2') %}
    {% endif %}
{% endmacro %}


{# The sources that a node reads, the snapshots, and the tables that dbt makes. #}
{% macro _tables_known() %}
    {% set read = [] %}
    {% for node in graph.nodes.values() %}{% do read.extend(node.depends_on.nodes) %}{% endfor %}
    {% do return((graph.sources.values() | selectattr('unique_id', 'in', read) | list) + (graph.nodes.values()
        | selectattr('resource_type', 'in', ['model', 'snapshot'])
        | rejectattr('config.materialized', 'equalto', 'view') | list)) %}
{% endmacro %}


{#
    Reads the ids of the current snapshots of some tables into `build`.

    Args:
        build: as above.
        nodes: sources, models or snapshots; one without a table is left out.
#}
{% macro read_versions(build, nodes) %}
    {% set queries = [] %}
    {% for node in nodes %}
        {% set relation = adapter.get_relation(none, node.schema, node.identifier or node.alias) %}
        {% if relation %}
            {% do queries.append("select '" ~ node.relation_name ~ "' as relation, name, snapshot_id from "
                ~ relation ~ ".refs where name in ('main', '" ~ build.branch ~ "')") %}
        {% endif %}
    {% endfor %}
    {% if queries %}
        {% for row in run_query('select * from (' ~ queries | join(' union all ')
            ~ ") order by name = 'main' desc").rows %}
            {% do build.versions.update({row[0]: row[2] | string}) %}
            {% if row[1] == build.branch %}{% do build.on_branch.update({row[0]: true}) %}{% endif %}
        {% endfor %}
    {% endif %}
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
        text: of a test, its compiled SQL; else the node's own is taken.
        versions: relation name -> snapshot id.
#}
{% macro fingerprint(node, text, versions) %}
    {% set parts = [] %}
    {% for name in tables_read(node) %}
        {% set input = graph.sources.get(name) or graph.nodes.get(name) %}
        {% if input.relation_name not in versions %}{% do return('') %}{% endif %}
        {% do parts.append(versions[input.relation_name]) %}
    {% endfor %}
    {% do return([local_md5(text or text_of(node)), local_md5(_definition_of(node) | string),
        parts | join(',')] | join(' ')) %}
{% endmacro %}


{# What a node is beside its rows: of a test its rule, of a table its columns. #}
{% macro _definition_of(node) %}
    {% if node.resource_type == 'test' %}
        {% do return([node.raw_code, node.get('test_metadata'), node.config.get('where')]) %}
    {% endif %}
    {% set columns = [] %}
    {% for column in node.columns.values() %}
        {% do columns.append([column.name, column.get('data_type'), column.description]) %}
    {% endfor %}
    {% do return([node.description, columns]) %}
{% endmacro %}


{#
    All that decides which rows a node gives: its text, those of the macros of
    this project and of the staging views that it uses, and the time zone where it
    counts in days. Macros that decide what is looked at, not what a row is, are
    left out: `macros/incremental` and `macros/adapter_fixes`.
#}
{% macro text_of(node) %}
    {% set texts = [node.raw_code] %}
    {% set macros = {} %}
    {% do _macros_named(node.raw_code, macros) %}
    {% for name in macros | sort %}{% do texts.append(macros[name]) %}{% endfor %}
    {% for name in (graph.nodes.get(node.unique_id) or node).depends_on.nodes | sort %}
        {% set input = graph.nodes.get(name) %}
        {% if input and input.config.materialized == 'view' %}{% do texts.append(text_of(input)) %}{% endif %}
    {% endfor %}
    {% set text = texts | join('\n') %}
    {% do return(text ~ (var('reporting_timezone') if 'reporting_timezone' in text else '')) %}
{% endmacro %}

{#
    Adds to `found` each macro of this project that a text calls, and those it
    calls in turn: name -> text. Taken from the text, since dbt knows only of calls
    in the branch that it took while parsing.
#}
{% macro _macros_named(text, found) %}
    {% for name in modules.re.findall('([a-z_0-9]+)\(', text) if name not in found %}
        {% set called = context.get(name) %}
        {% if called is not none and called.macro is defined and called.macro.package_name == project_name
            and not called.macro.original_file_path.startswith(('macros/incremental/', 'macros/adapter_fixes/')) %}
            {% do found.update({name: called.macro.macro_sql}) %}
            {% do _macros_named(called.macro.macro_sql, found) %}
        {% endif %}
    {% endfor %}
{% endmacro %}


{#
    The three parts of a node's recorded fingerprint: text, definition, versions;
    three empty texts where there is none.
#}
{% macro _known_parts(node) %}
    {% set known = (graph.get('build', {}).get('state', {}).get(node.unique_id) or '').split(' ') %}
    {% do return(known if known | length == 3 else ['', '', '']) %}
{% endmacro %}


{#
    Whether a node would give what it gave when it last succeeded.

    Args:
        node: the running node, `model`.
        text: of a test, its SQL.
#}
{% macro is_unchanged(node, text='') %}
    {% set build = graph.get('build') %}
    {% if not execute or not build or flags.FULL_REFRESH %}{% do return(false) %}{% endif %}
    {% for name in tables_read(node) if name in build.changed %}
        {% do return(false) %}
    {% endfor %}
    {% set now = fingerprint(node, text, build.versions).split(' ') %}
    {% set known = _known_parts(node) %}
    {% do return(now | length == 3 and known[0] == now[0] and known[2] == now[2]
        and (node.resource_type == 'test' or known[1] == now[1])) %}
{% endmacro %}


{# Whether a model was last built with another text; false where that is not known. #}
{% macro text_has_changed(node) %}
    {% set known = _known_parts(node)[0] if execute else '' %}
    {% do return(known != '' and known != local_md5(text_of(node))) %}
{% endmacro %}


{# Whether a table's columns or descriptions are not those that it was last given. #}
{% macro definition_has_changed(node) %}
    {% do return(_known_parts(node)[1] != local_md5(_definition_of(node) | string)) %}
{% endmacro %}


{#
    Whether the running model is built in full: dbt's own macro, and true as well
    where its text has changed.
#}
{% macro should_full_refresh() %}
    {% set configured = config.get('full_refresh') %}
    {% if configured is not none %}{% do return(configured) %}{% endif %}
    {% do return(flags.FULL_REFRESH or text_has_changed(model)) %}
{% endmacro %}


{# Notes that a node has run. #}
{% macro note_change(node) %}
    {% if graph.get('build') %}{% do graph.build.changed.update({node.unique_id: true}) %}{% endif %}
{% endmacro %}


{#
    Rows for `build_state`: the fingerprints of what ran and succeeded. A table
    that this run did not write has the version it had when the run began, as read.

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
        {% set written = graph.nodes.values() | selectattr('unique_id', 'in', build.changed) | list %}
        {% do read_versions(build, written) %}
        {% for result in ran %}
            {% set node = graph.nodes.get(result.node.unique_id) %}
            {% if node %}
                {% set text = test_text(result.node.compiled_code) if node.resource_type == 'test' else '' %}
                {% set mark = fingerprint(node, text, build.versions) %}
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
    {% do plan_simply() %}
    {% call statement('main', fetch_result=True) %}
        {{ get_test_sql(sql, config.get('fail_calc'), config.get('warn_if'),
            config.get('error_if'), config.get('limit')) }}
    {% endcall %}
    {{ return({'relations': []}) }}
{% endmaterialization %}


{#
    A view, left as it is where its SQL is what it was made of. The view itself
    says of what: a view is replaced whatever becomes of the run, so what a
    failed run or a rollback takes back must not tell.
#}
{% materialization view, adapter='spark' %}
    {% set existing = load_relation(this) %}
    {% if existing and existing.is_view and view_text(this) == local_md5(sql) %}
        {% do store_raw_result('main', message='unchanged', code='{}', rows_affected=none) %}
        {% set done = {'relations': [this.incorporate(type='view')]} %}
    {% else %}
        {% set done = create_or_replace_view() %}
        {% do store_raw_result('main', message='created', code='{}', rows_affected=none) %}
    {% endif %}
    {{ return(done) }}
{% endmaterialization %}

{% macro spark__create_view_as(relation, sql) -%}
    create or replace view {{ relation }}
    tblproperties ('ecom.text' = '{{ local_md5(sql) }}')
    as
    {{ sql }}
{%- endmacro %}

{# The digest of the SQL that a view was made of. #}
{% macro view_text(relation) %}
    {% do return(run_query('show tblproperties ' ~ relation ~ " ('ecom.text')").rows[0][1]) %}
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
