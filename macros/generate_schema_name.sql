{#
    Names a resource's schema: its custom schema as it is, after the prefix of
    `ECOM_SCHEMA_PREFIX` (`ci_<hash>_core`), which `dbt` and `ecom` set for the
    targets `ci` and `dev` where nobody has.

    Args:
        custom_schema_name: the `schema` config, or none.
        node: the resource.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ schema_prefix() }}{{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}


{# The prefix of every schema of this target; empty on `local`. #}
{% macro schema_prefix() -%}
    {{ env_var('ECOM_SCHEMA_PREFIX', '') }}
{%- endmacro %}
