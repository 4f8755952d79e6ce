{#
    The generic tests of a table, asked in one scan of it.

    In a build, a model that has written its rows counts the faults of all its
    generic tests in one query. A test with no fault then passes without a
    statement of its own; one with a fault runs as dbt wrote it, so that its
    failing rows are shown as usual. `dbt test` asks every test by itself.

    After a merge into a table of partitions only the changed days are looked at, or,
    where the merge is not bounded by days, the rows of the merged keys: every test
    was known to hold before it (`was_sound`). What a look at the
    changed days alone would miss is asked of the whole table: whether a merged
    key is in the table twice, and, where a parent has lost a key, whether a
    child still names it.

    Kept in `graph.build`: `sound_now` (ids of the tests found without fault),
    `removed` (ids of the models that lost a key in this run).
#}

{#
    Asks a model's generic tests, once its rows are written.

    Args:
        relation: the model's table.
        changes: name of the view of merged rows; none where all were written.
        days: days the merge was bounded by, comma-separated, or none.
        tells_new: whether the view has a column `is_new`.
#}
{% macro ask_tests(relation, changes=none, days=none, tells_new=false) %}
    {% set build = graph.get('build') %}
    {% if not build %}{% do return(none) %}{% endif %}
    {% set tests = _askable_tests() %}
    {% if not tests %}{% do return(none) %}{% endif %}
    {#- A table without partitions has been written anew, and is asked as a whole. -#}
    {% set partly = changes and config.get('partition_by')
        and tests | reject('in', _sound_tests(tests)) | list | length == 0 %}
    {% set inserted = '(select * from ' ~ changes ~ ' where is_new)' if tells_new else changes %}
    {% if partly and days and _has_repeated_key(relation, inserted) %}{% do return(none) %}{% endif %}

    {% set rows = relation %}
    {% if partly %}
        {% set rows = '(select * from ' ~ relation ~ (
            ' where ' ~ days_predicate(config.get('prune_by'), days.split(',')) if days
            else ' left semi join ' ~ changes ~ ' using (' ~ key_columns() | join(', ') ~ ')') ~ ')' %}
    {% endif %}
    {% set row = run_query(_faults_query(rows, tests)).rows[0] %}
    {% for test in tests %}
        {% if row[loop.index0] == 0 %}
            {% do build.setdefault('sound_now', {}).update({test.unique_id: true}) %}
        {% endif %}
    {% endfor %}
{% endmacro %}


{# Whether a test of the running build was found to hold by `ask_tests`. #}
{% macro is_sound_now(node) %}
    {% do return(node.unique_id in graph.get('build', {}).get('sound_now', {})) %}
{% endmacro %}


{# The selected generic tests of the running model that `_fault_count` knows. #}
{% macro _askable_tests() %}
    {% set found = [] %}
    {% for node in graph.nodes.values()
        if node.resource_type == 'test'
        and node.get('attached_node') == model.unique_id
        and node.unique_id in selected_resources
        and not node.config.where
        and not node.config.store_failures %}
        {% set parents = node.depends_on.nodes | reject('equalto', model.unique_id) | list %}
        {% set ready = parents | reject('in', model.depends_on.nodes) | list | length == 0 %}
        {% if ready and _fault_count(node, 0, '') %}{% do found.append(node) %}{% endif %}
    {% endfor %}
    {% do return(found) %}
{% endmacro %}


{#
    Those of some tests that were known to hold when the run began, on the very
    versions that their tables then had, and whose parents have lost no key.
#}
{% macro _sound_tests(tests) %}
    {% set found = [] %}
    {% for test in tests if was_sound(test) %}{% do found.append(test) %}{% endfor %}
    {% do return(found) %}
{% endmacro %}


{#
    Whether a test held on the tables as they were when this run began and need
    be asked of what the run changed alone.
#}
{% macro was_sound(test) %}
    {% set build = graph.get('build') %}
    {% if not build or flags.FULL_REFRESH %}{% do return(false) %}{% endif %}
    {% for name in test.depends_on.nodes if name in build.get('removed', {}) %}
        {% if name != test.attached_node %}{% do return(false) %}{% endif %}
    {% endfor %}
    {% set known = (build.state.get(test.unique_id) or '').split(' ') %}
    {% set now = fingerprint(test, '', build.versions).split(' ') %}
    {% do return(now | length == 3 and known | length == 3
        and known[1] == now[1] and known[2] == now[2]) %}
{% endmacro %}


{#
    Whether the key of an inserted row is in the table more than once, on any
    day. A row that was there and is updated cannot make its key repeat. Files
    of other keys are not read.

    Args:
        relation: the table.
        inserted: SQL of the merged rows, or of those of them that were new.
#}
{% macro _has_repeated_key(relation, inserted) %}
    {% set keys = key_columns() %}
    {% set bounds = run_query('select min(' ~ keys[0] ~ '), max(' ~ keys[0] ~ ') from ' ~ inserted).rows[0] %}
    {% if bounds[0] is none %}{% do return(false) %}{% endif %}
    {% do return(run_query(
        'select 1 from ' ~ relation ~ ' left semi join ' ~ inserted ~ ' as inserted using ('
        ~ keys | join(', ') ~ ') where ' ~ keys[0] ~ ' between ' ~ bounds[0] ~ ' and ' ~ bounds[1]
        ~ ' group by ' ~ keys | join(', ') ~ ' having count(*) > 1 limit 1').rows | length > 0) %}
{% endmacro %}


{#
    One row: the faults of each test, in order.

    Args:
        rows: SQL of the rows asked, a name or a query in brackets.
        tests: list of nodes.
#}
{% macro _faults_query(rows, tests) -%}
    select
        {% for test in tests -%}
        {{ _fault_count(test, loop.index0, rows) }} as faults_{{ loop.index0 }}{{ ',' if not loop.last }}
        {% endfor %}
    from {{ rows }} as child
    {%- for test in tests if test.test_metadata.name == 'relationships' %}
    left join (
        select distinct {{ test.test_metadata.kwargs.field }} as parent_{{ tests.index(test) }}
        from {{ _parent_of(test).relation_name }}
    ) as parents_{{ tests.index(test) }}
        on child.{{ test.test_metadata.kwargs.column_name }} = parent_{{ tests.index(test) }}
    {%- endfor %}
{%- endmacro %}


{# The table that a relationship points to. #}
{% macro _parent_of(test) %}
    {% set names = test.depends_on.nodes | reject('equalto', test.attached_node) | list %}
    {% do return(graph.nodes.get(names[0]) if names else none) %}
{% endmacro %}


{#
    SQL that counts a test's faults: 0 exactly where the test passes. Empty for
    a test it does not know.

    Args:
        test: node of a generic test.
        number: its number in the query, which names its parent's column.
        rows: SQL of the rows asked.
#}
{% macro _fault_count(test, number, rows) %}
    {%- set kind, given = test.test_metadata.name, test.test_metadata.kwargs -%}
    {%- set extra = given.keys() | reject('in', ['model', 'column_name', 'columns',
        'values', 'condition', 'to', 'field', 'value']) | list -%}
    {%- set column = given.get('column_name') -%}
    {%- if extra -%}
    {%- elif kind == 'not_null' -%}
        {%- do return('count_if(' ~ column ~ ' is null)') -%}
    {%- elif kind in ['unique', 'unique_together'] -%}
        {#- By itself: beside others a distinct count carries them all from row to row. #}
        {%- set keys = given.get('columns', [column]) | join(', ') -%}
        {%- do return('(select count(*) from (select ' ~ keys ~ ' from ' ~ rows ~ ' group by ' ~ keys
            ~ ' having count(*) > 1)' ~ (' where ' ~ column ~ ' is not null' if column else '') ~ ')') -%}
    {%- elif kind == 'one_member' -%}
        {%- do return('abs(count_if(' ~ column ~ " = '" ~ given.get('value', 'unknown') ~ "') - 1)") -%}
    {%- elif kind == 'holds' -%}
        {%- do return('count_if(not coalesce(' ~ given.condition ~ ', false))') -%}
    {%- elif kind == 'accepted_values' -%}
        {%- set texts = [] -%}
        {%- for value in given['values'] -%}{%- do texts.append("'" ~ sql_text(value) ~ "'") -%}{%- endfor -%}
        {%- do return('count_if(' ~ column ~ ' not in (' ~ texts | join(', ') ~ '))') -%}
    {%- elif kind == 'relationships' and _parent_of(test) -%}
        {%- do return('count_if(' ~ column ~ ' is not null and parent_' ~ number ~ ' is null)') -%}
    {%- endif -%}
    {%- do return('') -%}
{% endmacro %}
