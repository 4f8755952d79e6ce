{#
    What a change adds to a sum over all time, without reading all time.

    Iceberg keeps a fact as it was when the running model was last built (`version
    as of`): the rows of the days that have changed since, less those rows as they
    were, is what the sums change by. It holds only on the model's own table as
    that build left it; where it was written since, by hand or by a run that
    failed later, a version has expired, or an input has not been built with what
    it reads, the model is built from all rows.
#}

{#
    The versions that the running model was last built from.

    Args:
        window: of `build_window`.
    Returns:
        dict: relation name -> snapshot id; none where all rows have to be read.
#}
{% macro built_from(window) %}
    {% set build = graph.get('build') %}
    {% if not execute or not build or window.first or window.nothing %}
        {% do return(none) %}
    {% endif %}
    {% set own = build.marks.get(model.name, {}).get('itself') %}
    {% if not own or own != build.versions.get(this | string) %}{% do return(none) %}{% endif %}
    {% set relations = [] %}
    {% for name in tables_read(model) %}
        {% set node = graph.nodes[name] %}
        {#- A fact that lags behind its dimensions would tell too few days. #}
        {% if name not in selected_resources and not is_unchanged(node) %}{% do return(none) %}{% endif %}
        {% do relations.append(node.relation_name) %}
    {% endfor %}
    {% do return(versions_read(relations)) %}
{% endmacro %}


{#
    The versions of some inputs when the running model last succeeded.

    Args:
        relations: list of relations that it reads.
    Returns:
        dict: relation name -> snapshot id; none where one is unknown or has expired.
#}
{% macro versions_read(relations) %}
    {% if not execute or 'build' not in graph %}{% do return(none) %}{% endif %}
    {% set names = tables_read(model) %}
    {% set versions = _known_parts(model)[2].split(',') %}
    {% if versions | length != names | length %}{% do return(none) %}{% endif %}
    {% set found = {} %}
    {% set queries = [] %}
    {% for name in names %}
        {% set relation = (graph.sources.get(name) or graph.nodes.get(name)).relation_name %}
        {% if relation in relations | map('string') %}
            {% do found.update({relation: versions[loop.index0]}) %}
            {% do queries.append('select 1 from ' ~ relation ~ '.snapshots where snapshot_id = ' ~ versions[loop.index0]) %}
        {% endif %}
    {% endfor %}
    {% set there = run_query(queries | join(' union all ')).rows | length %}
    {% do return(found if there == relations | length else none) %}
{% endmacro %}


{#
    The rows of a relation as they are (`sign` 1) and as they were when the running
    model was last built (-1); as they are alone, where nothing is known of before.

    Args:
        relation: a fact or a dimension.
        columns: list of names.
        before: of `built_from`.
        condition: which rows, or none.
#}
{% macro signed_rows(relation, columns, before, condition=none) -%}
    select
        {{ columns | join(', ') }},
        1 as sign
    from {{ relation }}
    {{ 'where ' ~ condition if condition }}
    {%- if before %}
    union all
    select
        {{ columns | join(', ') }},
        -1 as sign
    from {{ as_it_was(relation, before) }}
    {{ 'where ' ~ condition if condition }}
    {%- endif %}
{%- endmacro %}


{#
    The rows of a fact that a sum changes by: those of its changed days, each with a
    `sign`; all rows where nothing is known of before.

    Args:
        fact, columns, before: as for `signed_rows`.
        moment: column of the moment of the event.
        days: of `build_window`.
#}
{% macro changed_rows(fact, columns, moment, days, before) -%}
    {{ signed_rows(fact, columns, before, partitions_predicate(moment, days) if before) }}
{%- endmacro %}


{# A relation as the running model last saw it. Args: relation; before, of `versions_read`. #}
{% macro as_it_was(relation, before) -%}
    {{ relation }} version as of {{ before[relation | string] }}
{%- endmacro %}


{# A condition true on days (yyyy-mm-dd) or whole months (yyyy-mm), UTC. #}
{% macro partitions_predicate(column, days) -%}
    {%- set single = [] -%}
    {%- for day in days -%}
        {%- set start = modules.datetime.datetime.strptime((day ~ '-01')[:10], '%Y-%m-%d') -%}
        {%- for number in range(31 if day | length == 7 else 1) -%}
            {%- set one = (start + modules.datetime.timedelta(days=number)).strftime('%Y-%m-%d') -%}
            {%- if one.startswith(day) -%}{%- do single.append(one) -%}{%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    ({{ days_predicate(column, single) }})
{%- endmacro %}
