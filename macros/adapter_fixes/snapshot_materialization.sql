{#
    The snapshot materialization: dbt-spark's, without a view in the catalog,
    without a statement where no input has changed, and never recreating a
    history: a table that a metastore error hid fails to be created.
#}
{% materialization snapshot, adapter='spark' %}
    {% set target_relation = this.incorporate(type='table') %}
    {% set existing = load_relation(this) %}
    {% set strategy = strategy_dispatch(config.get('strategy'))(
        model, 'snapshotted_data', 'source_data', model['config'], existing is not none) %}

    {{ run_hooks(pre_hooks) }}

    {% if existing and is_unchanged(model) %}
        {% do store_raw_result('main', message='unchanged', code='{}', rows_affected=none) %}
    {% elif not existing %}
        {% do refuse_recreation() %}
        {% do plan_simply() %}
        {% call statement('main') %}
            {{ create_table_as(False, target_relation,
                build_snapshot_table(strategy, model['compiled_code'])) }}
        {% endcall %}
        {% do note_change(model) %}
    {% else %}
        {% set staging = spark_build_snapshot_staging_table(strategy, sql, target_relation) %}
        {% set kept = adapter.get_columns_in_relation(target_relation) | map(attribute='name') | list %}
        {% do create_columns(target_relation, adapter.get_columns_in_relation(staging)
            | rejectattr('name', 'in', kept + ['dbt_change_type']) | list) %}
        {#- The merge asks it twice: for the files to rewrite, and for the rows. -#}
        {% do run_query('cache lazy table ' ~ staging) %}
        {% call statement('main') %}
            {{ snapshot_merge_sql(target_relation, staging, []) }}
        {% endcall %}
        {% do post_snapshot(staging) %}
        {% do note_change(model) %}
    {% endif %}

    {% if not existing or definition_has_changed(model) %}
        {% do persist_docs(target_relation, model) %}
    {% endif %}
    {{ run_hooks(post_hooks) }}

    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}
