{#
    Refuses to make a table anew that an earlier build had.

    A metastore that fails to answer reads as "no tables" (dbt-adapters 1289).
    Creating fails where the table exists, so nothing is lost then; this says why
    before anything is written, and also stops where the table is really gone. A
    full refresh makes a model anew on purpose; a snapshot holds what nothing
    else does, so it takes the var `recreate`.
#}
{% macro refuse_recreation() %}
    {% set meant = var('recreate', false)
        or (flags.FULL_REFRESH and model.resource_type == 'model') %}
    {% if execute and flags.WHICH in ['run', 'build'] and not meant %}
        {% if model.name in graph.build.marks or model.unique_id in graph.build.state %}
            {{ exceptions.raise_compiler_error(this ~ ' was there in an earlier build, and the '
                ~ 'metastore does not list it now; nothing was made anew. Next: see that the '
                ~ 'metastore answers (ecom status) and build again; if the table is really gone, build it with '
                ~ ("--vars '{recreate: true}'" if model.resource_type == 'snapshot' else '--full-refresh')) }}
        {% endif %}
    {% endif %}
{% endmacro %}
