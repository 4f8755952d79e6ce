{#
    Creates a table so that its rows go where every other write goes.

    `create [or replace] table as select` writes to the main branch whatever
    `spark.wap.branch` says, and replaces a table that a metastore error hid
    (dbt-adapters 1289). So: create it empty, by a statement that fails where
    the table exists, then return the insert. Temporary relations stay views.

    Args:
        temporary: whether a session's view is enough.
        relation: the table to make.
        compiled_code: the query of its rows.
#}
{% macro spark__create_table_as(temporary, relation, compiled_code, language='sql') -%}
    {%- if temporary -%}
        {{ create_temporary_view(relation, compiled_code) }}
    {%- else -%}
        {%- do create_empty_table(relation, compiled_code) -%}
        {{ insert_into(relation, compiled_code) }}
    {%- endif -%}
{%- endmacro %}


{# Creates `relation` with no row: columns from the contract or the query. #}
{% macro create_empty_table(relation, compiled_code) %}
    {% set enforced = config.get('contract').enforced %}
    {% if enforced %}
        {% do get_assert_columns_equivalent(compiled_code) %}
    {% endif %}
    {% call statement('create_empty_table') %}
        create table {{ relation }}
        {% if enforced %}({{ contract_columns() }}){% endif %}
        {{ file_format_clause() }}
        {{ partition_cols(label='partitioned by') }}
        {{ comment_clause() }}
        {{ tblproperties_clause() }}
        {% if not enforced %}
        as select * from (
            {{ compiled_code }}
        ) where false
        {% endif %}
    {% endcall %}
{% endmacro %}


{# The contract's columns as DDL, with their `not null` and comments. #}
{% macro contract_columns() %}
    {%- for column in model.columns.values() -%}
        {%- set required = column.constraints | selectattr('type', 'equalto', 'not_null') | list -%}
        `{{ column.name }}` {{ column.data_type }}
        {{- ' not null' if required }} comment '{{ sql_text(column.description) }}'
        {{- ', ' if not loop.last }}
    {%- endfor -%}
{% endmacro %}


{# The insert of a query's rows, columns by name. #}
{% macro insert_into(relation, compiled_code, overwrite=false) -%}
    {%- set columns = '`' ~ model.columns.keys() | join('`, `') ~ '`' if config.get('contract').enforced
        else adapter.get_columns_in_relation(relation) | map(attribute='quoted') | join(', ') -%}
    insert {{ 'overwrite' if overwrite else 'into' }} {{ relation }} by name
    select {{ columns }} from (
        {{ compiled_code }}
    )
{%- endmacro %}


{# `text` as the inside of a SQL string on one line. #}
{% macro sql_text(text) -%}
    {{- (text or '') | replace('\\', '\\\\') | replace("'", "\\'") | replace('\n', ' ') | trim -}}
{%- endmacro %}


{% macro spark__comment_clause() -%}
    {%- if config.get('persist_docs', {}).get('relation') -%}
        comment '{{ sql_text(model.description) }}'
    {%- endif -%}
{%- endmacro %}
