{#
    Tables and views of a schema, in two statements however many there are.

    `show table extended` leaves views out of an Iceberg catalog, so that dbt
    neither documents a view nor replaces one by a table (dbt-spark takes views
    for missing: SPARK-33393 and trap 2 of the design).

    Args:
        relation: anything in the schema to list.
    Returns:
        Rows of (schema, name, is temporary, information), as dbt-spark parses
        them.
#}
{% macro spark__list_relations_without_caching(relation) %}
    {% set rows = [] %}
    {% for kind in ['tables', 'views'] %}
        {% set found = run_query('show ' ~ kind ~ ' in ' ~ relation.schema) %}
        {% set information = 'Type: VIEW' if kind == 'views' else 'Provider: iceberg' %}
        {% for row in found.rows if not row[2] %}
            {% do rows.append([row[0], row[1], row[2], information ~ '\n']) %}
        {% endfor %}
    {% endfor %}
    {% do return(rows) %}
{% endmacro %}
