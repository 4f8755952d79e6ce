{#
    The incremental materialization of this project: every write goes to the
    session's branch, none replaces a table.

    - A new table is created empty and filled (macros/adapter_fixes).
    - A full refresh overwrites the rows of the table that is there.
    - A model whose compiled SQL says `-- nothing new` runs no statement.
    - Otherwise the model's rows are evaluated once into the session's cache.
      Into a table of partitions they are merged on the key; one without is
      overwritten, its other rows as they are, since a merge would rewrite its
      files as well and takes twice the planning. A row whose `is_removed` is true
      is deleted, and `is_new`, where a model tells it, says that no row had its
      key. No row, no commit, and what reads the table need not look again.
    - A written table is asked its generic tests in one scan (`ask_tests`).

    Config: `unique_key`; what bounds the part of the table that the merge reads:
    `prune_by`, a timestamp or date column by its days, or `prune_ids`, a key that is
    a whole number; `event_at`, the column that bounds it in a backfill.
#}
{% materialization incremental, adapter='spark', supported_languages=['sql'] -%}
    {%- set existing = load_relation(this) -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set marks = _marks_of(compiled_code) -%}

    {{ run_hooks(pre_hooks) }}

    {%- if existing is none -%}
        {%- do refuse_recreation() -%}
        {%- do plan_simply() -%}
        {%- call statement('main') -%}
            {{ create_table_as(False, target_relation, compiled_code) }}
        {%- endcall -%}
        {%- do note_change(model) -%}
        {%- do remember_days(target_relation) -%}
        {%- do ask_tests(target_relation) -%}
        {%- do store_raw_result('main', message='created', code=marks, rows_affected=none) -%}
    {%- elif not existing.is_table -%}
        {{ exceptions.raise_compiler_error(
            this ~ ' is a ' ~ existing.type ~ ': drop it, then build again') }}
    {%- elif should_full_refresh() -%}
        {%- do plan_simply() -%}
        {%- do _add_new_columns(target_relation) -%}
        {%- call statement('main') -%}
            {{ insert_into(target_relation, compiled_code, overwrite=true) }}
        {%- endcall -%}
        {%- do note_change(model) -%}
        {%- do note_removal() -%}
        {%- do remember_days(target_relation) -%}
        {%- do ask_tests(target_relation) -%}
        {%- do persist_docs(target_relation, model) -%}
        {%- do store_raw_result('main', message='overwritten', code=marks, rows_affected=none) -%}
    {%- elif '-- nothing new' in compiled_code -%}
        {%- if definition_has_changed(model) -%}{%- do persist_docs(target_relation, model) -%}{%- endif -%}
        {#- Found by looking, it is noted, so that the next build need not look. -#}
        {%- set message = 'unchanged' if is_unchanged(model) else 'nothing new' -%}
        {%- do store_raw_result('main', message=message, code=marks, rows_affected=0) -%}
    {%- else -%}
        {%- set changed = _merge_changes(target_relation, compiled_code) -%}
        {%- if definition_has_changed(model) -%}{%- do persist_docs(target_relation, model) -%}{%- endif -%}
        {%- do store_raw_result('main', message=changed ~ ' rows', code=marks, rows_affected=changed) -%}
    {%- endif -%}

    {{ run_hooks(post_hooks) }}

    {{ return({'relations': [target_relation]}) }}
{%- endmaterialization %}


{# The marks that `window_marks` wrote, as JSON text. #}
{% macro _marks_of(compiled_code) %}
    {% set found = modules.re.search('-- build_state (.*)', compiled_code) %}
    {% do return(found.group(1) if found else '{}') %}
{% endmacro %}


{#
    Evaluates the model's rows once and merges them.

    Returns:
        How many rows the model gave; 0 means that nothing was written.
#}
{% macro _merge_changes(relation, compiled_code) %}
    {% set changes = relation.identifier ~ '__changes' %}
    {% set prune_by = config.get('prune_by') %}
    {% if not config.get('partition_by') %}
        {#- Else the view is parsed and analysed again at each use. A merge's own
            subquery cannot be planned from such a view (Spark 4.1, "No plan for
            TableReference"). #}
        {% do run_query('set spark.sql.legacy.storeAnalyzedPlanForView = true') %}
    {% endif %}
    {% do run_query('cache lazy table ' ~ changes ~ ' as ' ~ compiled_code) %}
    {% set removes = 'is_removed' in compiled_code %}
    {% set prune_ids = config.get('prune_ids') %}
    {% set moments = [prune_by, 'was_' ~ prune_by] if 'was_' ~ prune_by in compiled_code else [prune_by] %}
    {% set summary = run_query(
        'select count(*), ' ~ (_days_of(moments) if prune_by else 'null')
        ~ ', ' ~ ('count_if(is_removed)' if removes else '0')
        ~ ', ' ~ (buckets_of(prune_ids) if prune_ids else 'null') ~ ' from ' ~ changes).rows[0] %}
    {% set range = backfill() if config.get('event_at') else none %}
    {% set days = range.days | join(',') if range else summary[1] %}
    {% if summary[0] %}
        {% do _add_new_columns(relation) %}
        {% call statement('main') %}
            {% if config.get('partition_by') %}
            {%- set within = days_predicate(
                'kept.' ~ (config.get('event_at') if range else prune_by), days.split(',')) if days
                else (ids_predicate('kept.' ~ prune_ids, summary[3]) if prune_ids) %}
            {{ merge_changes_sql(relation, changes, removes, within) }}
            {% else %}
            {{ overwrite_changes_sql(relation, changes, removes) }}
            {% endif %}
        {% endcall %}
        {% do note_change(model) %}
        {% do remember_days(relation) %}
        {% do note_days(days) %}
        {% if summary[2] %}{% do note_removal() %}{% endif %}
        {% do ask_tests(relation, changes, days if prune_by else none, ' as is_new' in compiled_code) %}
    {% endif %}
    {% do run_query('uncache table if exists ' ~ changes) %}
    {% do return(summary[0]) %}
{% endmacro %}


{# The days of some columns, as `yyyy-mm-dd` joined by commas. #}
{% macro _days_of(columns) -%}
    array_join(array_sort(array_distinct(concat(
        {%- for column in columns %}
        collect_set(date_format({{ column }}, 'yyyy-MM-dd')){{ ',' if not loop.last }}
        {%- endfor %}))), ',')
{%- endmacro %}


{# The running model's `unique_key`, as a list. #}
{% macro key_columns() %}
    {% set keys = config.get('unique_key') %}
    {% do return([keys] if keys is string else keys) %}
{% endmacro %}


{#
    The merge of changed rows.

    Args:
        relation: the table.
        changes: name of the view of changed rows.
        removes: whether it has a column `is_removed`, whose rows are deleted.
        within: a condition that bounds what is read of the table (`kept`), or none.
#}
{% macro merge_changes_sql(relation, changes, removes, within=none) -%}
    {%- set keys = key_columns() -%}
    {%- set columns = model.columns.keys() | list -%}
    merge into {{ relation }} as kept
    using {{ changes }} as found
    on {% for key in keys %}kept.{{ key }} = found.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
    {%- if within %} and ({{ within }}){% endif %}
    {%- if removes %}
    when matched and found.is_removed then delete
    {%- endif %}
    when matched then update set
        {%- for column in columns if column not in keys %}
        kept.`{{ column }}` = found.`{{ column }}`{{ ',' if not loop.last }}
        {%- endfor %}
    when not matched{{ ' and not found.is_removed' if removes }} then insert
        (`{{ columns | join('`, `') }}`)
        values (found.`{{ columns | join('`, found.`') }}`)
{%- endmacro %}


{#
    The overwrite of a table by its rows and the changed ones in place of theirs.

    Args:
        relation, changes, removes: as for `merge_changes_sql`.
#}
{% macro overwrite_changes_sql(relation, changes, removes) -%}
    {%- set keys = key_columns() -%}
    {%- set columns = '`' ~ model.columns.keys() | join('`, `') ~ '`' -%}
    insert overwrite {{ relation }} by name
    select {{ columns }} from {{ relation }} as kept left anti join {{ changes }} as found
        on {% for key in keys %}kept.{{ key }} <=> found.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
    union all
    select {{ columns }} from {{ changes }}
    {%- if removes %} where not is_removed{% endif %}
{%- endmacro %}


{#
    A condition true on the given days, as ranges that Iceberg can prune by.

    Args:
        column: a timestamp column.
        days: sorted list of yyyy-mm-dd. Beyond 100 ranges, their hull.
#}
{% macro days_predicate(column, days) -%}
    {%- set starts = [] -%}
    {%- for day in days -%}
        {%- do starts.append(modules.datetime.datetime.strptime(day, '%Y-%m-%d')) -%}
    {%- endfor -%}
    {{- _in_ranges(column, starts, modules.datetime.timedelta(days=1), "timestamp '%s'") -}}
{%- endmacro %}


{#
    The buckets of 65,536 neighbours that a column's ids lie in, comma-separated: an
    aggregate, of which `ids_predicate` makes a condition.
#}
{% macro buckets_of(column) -%}
    array_join(array_sort(collect_set(shiftright(cast({{ column }} as bigint), 16))), ',')
{%- endmacro %}


{#
    A condition true on the ids of some buckets, as ranges that Iceberg can prune by:
    a log's ids grow with time, so that what changed lies in few files.

    Args:
        column: a whole number.
        buckets: of `buckets_of`. Beyond 100 ranges, their hull.
#}
{% macro ids_predicate(column, buckets) -%}
    {%- set starts = [] -%}
    {%- for bucket in (buckets or '').split(',') if bucket -%}
        {%- do starts.append((bucket | int) * 65536) -%}
    {%- endfor -%}
    {{- _in_ranges(column, starts, 65536, '%s') -}}
{%- endmacro %}


{#
    A condition true in the ranges of one width that begin at `starts`, neighbours as
    one. Beyond 100 ranges, their hull.

    Args:
        column: what is bounded.
        starts: sorted list.
        width: of a range.
        literal: SQL of a bound, `%s` for its value.
#}
{% macro _in_ranges(column, starts, width, literal) -%}
    {%- set ranges = [] -%}
    {%- for start in starts -%}
        {%- set first = ranges.pop()[0] if ranges and ranges[-1][1] == start else start -%}
        {%- do ranges.append([first, start + width]) -%}
    {%- endfor -%}
    {%- set ranges = [[ranges[0][0], ranges[-1][1]]] if ranges | length > 100 else ranges -%}
    {%- for range in ranges -%}
        ({{ column }} >= {{ literal | format(range[0]) }} and {{ column }} < {{ literal | format(range[1]) }})
        {{- ' or ' if not loop.last }}
    {%- endfor -%}
    {#- Not `false`: Spark takes `where (false)` for an alias with one column. #}
    {{- '1 = 0' if not ranges }}
{%- endmacro %}


{# Adds the columns that the contract has and the table lacks; asked where the contract is new. #}
{% macro _add_new_columns(relation) %}
    {% if not definition_has_changed(model) %}{% do return(none) %}{% endif %}
    {% set known = adapter.get_columns_in_relation(relation) | map(attribute='name') | list %}
    {% for column in model.columns.values() if column.name not in known %}
        {% do run_query('alter table ' ~ relation ~ ' add columns (`' ~ column.name
            ~ '` ' ~ column.data_type ~ ')') %}
    {% endfor %}
{% endmacro %}


{#
    The rows of `fresh` that differ from the table, and the table's rows that
    `fresh` no longer has, flagged `is_removed`; where the table is pruned by a
    moment, the moment that the row had before comes with it (`was_...`). On the first build and on a
    full refresh, simply `fresh`. Of several key columns all but the first may be
    null.

    Args:
        fresh: name of the CTE with what the rows in scope should be.
        scope: condition on the table's rows (alias `kept`) that `fresh`
            stands for; rows outside stay as they are.
#}
{% macro only_changes(fresh, scope='true') -%}
    {%- set keys = key_columns() -%}
    {%- set columns = model.columns.keys() | list -%}
    {%- if not is_incremental() -%}
    {#- A unit test knows no contract. #}
    select {{ columns | join(', ') or '*' }} from {{ fresh }}
    {%- else -%}
    select
        {% for column in columns -%}
        {% if column in keys -%}
        coalesce(fresh.{{ column }}, kept.{{ column }}) as {{ column }},
        {%- else -%}
        fresh.{{ column }},
        {%- endif %}
        {% endfor -%}
        {%- if config.get('prune_by') %}
        kept.{{ config.get('prune_by') }} as was_{{ config.get('prune_by') }},
        {%- endif %}
        fresh.{{ keys[0] }} is null as is_removed
    from {{ fresh }} as fresh
    full outer join (
        select kept.* from {{ before_write() }} as kept
        where {{ scope }}
    ) as kept
        on {% for key in keys %}fresh.{{ key }} <=> kept.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
    where {% for column in columns %}not (fresh.{{ column }} <=> kept.{{ column }}){{ ' or ' if not loop.last }}{% endfor %}
    {%- endif -%}
{%- endmacro %}

