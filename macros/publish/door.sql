{#
    on-run-start: nothing is written past the audit branch, or it is said.

    `create or replace` writes to what readers see whatever the branch, and what
    lies outside core, marts and snapshots is never published. So a resource is
    an incremental model or a snapshot, in an Iceberg table that honours a
    branch, in one of those three; or a view of `staging`, which readers do not
    look at; or ephemeral.
#}
{% macro guard_the_door() %}
    {% if execute and flags.WHICH in ['run', 'build', 'seed', 'snapshot'] %}
        {% for node in graph.nodes.values()
            if node.resource_type in ['model', 'snapshot', 'seed'] and not goes_through_the_door(node) %}
            {{ exceptions.raise_compiler_error(node.unique_id ~ ' would write past the audit branch: it is '
                ~ node.config.materialized ~ ' in ' ~ node.schema ~ '. Next: make it incremental in core or marts, '
                ~ 'with file_format iceberg and the tblproperty write.wap.enabled; views belong in staging') }}
        {% endfor %}
        {% set wanted = env_var('ECOM_AUDIT_BRANCH', '') %}
        {% set branch = _session_branch() %}
        {% if wanted and branch != wanted %}
            {{ exceptions.raise_compiler_error('target ' ~ target.name ~ ' does not write to branch ' ~ wanted
                ~ '. Next: give it the server_side_parameter "set:spark.wap.branch", as profiles/profiles.yml does') }}
        {% elif not branch %}
            {% do log('Writing straight to what readers see (target ' ~ target.name
                ~ '); `ecom run` builds on a branch, tests it, and publishes', info=true) %}
        {% endif %}
    {% endif %}
{% endmacro %}


{# Whether readers see what a node writes only once it is published. #}
{% macro goes_through_the_door(node) %}
    {% set kind = node.config.materialized %}
    {% if kind == 'view' %}
        {% do return(node.schema == schema_prefix() ~ 'staging') %}
    {% endif %}
    {% do return(kind == 'ephemeral' or (
        kind in ['incremental', 'snapshot']
        and node.schema in [schema_prefix() ~ 'core', schema_prefix() ~ 'marts', schema_prefix() ~ 'snapshots']
        and node.config.get('file_format') == 'iceberg'
        and (node.config.get('tblproperties') or {}).get('write.wap.enabled') == 'true')) %}
{% endmacro %}
