{#
    What need not run again, because everything it reads is as it was.

    An Iceberg table's version is the id of its current snapshot. At the start
    of a run one query reads the versions of all tables, one the state of the
    last runs, one how far staging has been loaded; what a model needs of them
    costs it no statement of its own. A model, snapshot or test whose inputs have
    the versions they had when it last succeeded gives the same again, so it runs
    no statement. A change made by hand, a compaction or a new test alters a
    version or a text, and so is never overlooked.

    A model whose text, or that of a macro of ours or of anything upstream that it
    uses, is not what it was built with is built in full, as by `--full-refresh`; so
    is one that counts in days where `reporting_timezone` has changed, and one whose
    table was written since: by a run that died, or by hand.

    Kept while a run lasts in `graph`, which all threads share, under `build`:
    `versions` (relation -> snapshot id), `on_branch` (relations that have the
    session's branch), `state` (recorded fingerprints by node), `marks` (recorded marks by model and input), `staged`
    (source -> greatest load time, as text), `small` (whether staging is),
    `days` (fact -> state of its partitions), `changed` (nodes that ran),
    `written` (models whose table was written since their last success),
    `branch` (the session's), `passed` (the result of a passed test).
#}

{# on-run-start: reads versions, state and how far staging is loaded. #}
{% macro prepare_unchanged() %}
    {% if execute and flags.WHICH in ['build', 'run'] %}
        {% set build = {'versions': {}, 'on_branch': {}, 'state': {}, 'marks': {},
            'staged': {}, 'small': false, 'days_state': {}, 'changed': {}, 'written': {},
            'branch': _session_branch()} %}
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
        {% for node in graph.nodes.values() if node.config.materialized == 'incremental'
            and not _is_as_left(node, build) %}
            {% do build.written.update({node.unique_id: true}) %}
        {% endfor %}
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
{% macro _definition_of(given) %}
    {#- As the graph has it: the running node is written a little differently. #}
    {% set node = graph.nodes.get(given.unique_id) or given %}
    {% if node.resource_type == 'test' %}
        {% set parts = [node.raw_code, node.get('test_metadata')] %}
        {% for name in ['where', 'severity', 'warn_if', 'error_if', 'fail_calc', 'limit'] %}
            {% do parts.append(node.config.get(name)) %}
        {% endfor %}
        {% set macros = {} %}
        {% do _macros_named(node.raw_code, macros) %}
        {% do return(parts + [macros]) %}
    {% endif %}
    {% set columns = [] %}
    {% for column in node.columns.values() %}
        {% do columns.append([column.name, column.get('data_type'), column.description]) %}
    {% endfor %}
    {% do return([node.description, columns]) %}
{% endmacro %}


{#
    All that decides which rows a node gives: its text, those of the macros of
    this project that it uses and of all it reads, and the time zone where it
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
        {% if input %}{% do texts.append(_text_digest(input)) %}{% endif %}
    {% endfor %}
    {% set text = texts | join('\n') %}
    {% do return(text ~ (var('reporting_timezone') if 'reporting_timezone' in text else '')) %}
{% endmacro %}

{# Digest of a node's `text_of`, worked out once a run. #}
{% macro _text_digest(node) %}
    {% set known = graph.setdefault('text_digests', {}) %}
    {% if node.unique_id not in known %}
        {% do known.update({node.unique_id: local_md5(text_of(node))}) %}
    {% endif %}
    {% do return(known[node.unique_id]) %}
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
    {% if not execute or not build or flags.FULL_REFRESH or was_written_since(node) %}
        {% do return(false) %}
    {% endif %}
    {% for name in tables_read(node) if name in build.changed %}
        {% do return(false) %}
    {% endfor %}
    {% set now = fingerprint(node, text, build.versions).split(' ') %}
    {% set known = _known_parts(node) %}
    {% do return(now | length == 3 and known == now) %}
{% endmacro %}


{#
    Whether a model's table is not as its last success left it: a run that died has
    written it, or somebody by hand, so that nothing is known of its rows. A compaction
    changes none.
#}
{% macro was_written_since(node) %}
    {% do return(node.unique_id in graph.get('build', {}).get('written', {})) %}
{% endmacro %}

{# The same, asked of the tables as a run finds them; the version left may have expired. #}
{% macro _is_as_left(node, build) %}
    {% set left = build.marks.get(node.name, {}).get('itself') or '' %}
    {% set now = build.versions.get(node.relation_name) or '' %}
    {% if left == now or not left or not now %}{% do return(left == now) %}{% endif %}
    {% set snapshots = node.relation_name ~ '.snapshots' %}
    {% set row = run_query("select count(*), count_if(operation != 'replace' and committed_at > since) from "
        ~ snapshots ~ ' cross join (select committed_at as since from ' ~ snapshots
        ~ ' where snapshot_id = ' ~ left ~ ')').rows[0] %}
    {% do return(row[0] > 0 and row[1] == 0) %}
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
    where its text has changed or its table was written since. A backfill writes no
    other days than its own.
#}
{% macro should_full_refresh() %}
    {% set configured = config.get('full_refresh') %}
    {% if configured is not none %}{% do return(configured) %}{% endif %}
    {% do return(flags.FULL_REFRESH or (execute and not backfill()
        and (text_has_changed(model) or was_written_since(model)))) %}
{% endmacro %}


{# Notes that a node has run. #}
{% macro note_change(node) %}
    {% if graph.get('build') %}{% do graph.build.changed.update({node.unique_id: true}) %}{% endif %}
{% endmacro %}


{# Notes that the running model's table may have lost a key. #}
{% macro note_removal() %}
    {% if graph.get('build') %}
        {% do graph.build.setdefault('removed', {}).update({model.unique_id: true}) %}
    {% endif %}
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
    {#- A warning is no success: it is to be seen again. #}
    {% for result in results if result.node.resource_type in ['model', 'snapshot', 'test']
        and result.status in ['success', 'pass']
        and result.adapter_response.get('_message') != 'unchanged' %}
        {% do ran.append(result) %}
    {% endfor %}
    {% if build and ran %}
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


{# A test's SQL as it is without the bounds that a run may have put on it. #}
{% macro test_text(compiled_code) -%}
    {{ modules.re.sub('/\* changed days \*/.*?/\* of (.*?) end \*/', '\\1', compiled_code, flags=16) }}
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
    A view, left as it is where its SQL and the texts behind it are what it was made
    of. The view itself says of what: a view is replaced whatever becomes of the run,
    so what a failed run or a rollback takes back must not tell.
#}
{% materialization view, adapter='spark' %}
    {% set existing = load_relation(this) %}
    {% if existing and existing.is_view and made_of(this) == [local_md5(sql), _text_digest(model)] %}
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
    tblproperties ('ecom.sql' = '{{ local_md5(sql) }}', 'ecom.text' = '{{ _text_digest(model) }}')
    as
    {{ sql }}
{%- endmacro %}

{# The digests of the SQL and of the texts that a view was made of. #}
{% macro made_of(relation) %}
    {% set found = {} %}
    {% for row in run_query('show tblproperties ' ~ relation).rows %}{% do found.update({row[0]: row[1]}) %}{% endfor %}
    {% do return([found.get('ecom.sql'), found.get('ecom.text')]) %}
{% endmacro %}


{#
    on-run-start: refuses to build a model on a view which is not what the project
    says and is not built by this run: its rows would be remembered as of the new rule.
#}
{% macro prepare_views() %}
    {% if execute and flags.WHICH in ['run', 'build'] %}
        {% set left_out = {} %}
        {% for node in graph.nodes.values()
            if node.resource_type == 'model' and node.unique_id in selected_resources %}
            {% for name in node.depends_on.nodes if name in graph.nodes and name not in selected_resources
                and graph.nodes[name].config.materialized == 'view' %}
                {% do left_out.update({name: node.name}) %}
            {% endfor %}
        {% endfor %}
        {% for name, reader in left_out.items() %}
            {% set view = graph.nodes[name] %}
            {% set there = adapter.get_relation(none, view.schema, view.alias) %}
            {% if there and made_of(there)[1] != _text_digest(view) %}
                {{ exceptions.raise_compiler_error(reader ~ ' reads the view ' ~ there ~ ', which has '
                    ~ 'been edited since it was made. Next: build the view too (-s ' ~ view.name ~ ' '
                    ~ reader ~ ')') }}
            {% endif %}
        {% endfor %}
    {% endif %}
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
    {%- set whole = '(select * from ' ~ relation ~ ' where ' ~ where ~ ') as chosen' if where else relation -%}
    {%- if days and relation.identifier == node.alias -%}
        {%- do return('/* changed days */ (select * from ' ~ relation ~ ' where ' ~ (where or 'true')
            ~ ' and (' ~ days_predicate(node.config.prune_by, days) ~ ')) as changed /* of '
            ~ whole ~ ' end */') -%}
    {%- endif -%}
    {%- do return(whole) -%}
{%- endmacro %}
