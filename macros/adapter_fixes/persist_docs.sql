{#
    Writes descriptions to a table's columns where they differ.

    dbt-spark alters every column at every run: an Iceberg commit each. One
    `describe` tells which differ, usually none, and one statement alters those.

    Args:
        relation: the table.
        model: the node with the descriptions.
#}
{% macro spark__persist_docs(relation, model, for_relation, for_columns) -%}
    {% if for_columns and config.persist_column_docs() and model.columns %}
        {% set known = {} %}
        {% for row in get_columns_in_relation_raw(relation) if row[0] and row[0][0] != '#' %}
            {% do known.setdefault(row[0], row[2] or '') %}
        {% endfor %}
        {% set changes = [] %}
        {% for column in model.columns.values() if column.name in known %}
            {% set comment = column.description | replace('\n', ' ') | trim %}
            {% if known[column.name] != comment %}
                {% do changes.append('`' ~ column.name ~ "` comment '" ~ sql_text(comment) ~ "'") %}
            {% endif %}
        {% endfor %}
        {% if changes %}
            {% do run_query('alter table ' ~ relation ~ ' alter column ' ~ changes | join(', ')) %}
        {% endif %}
    {% endif %}
{% endmacro %}
