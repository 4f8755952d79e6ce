{#
    Whether a moment is missing or cannot be: before 1900, or more than a day
    after the row that reports it was loaded.

    Args:
        moment: SQL of the moment.
        loaded_at: SQL of when its row was loaded.
#}
{% macro is_bad_moment(moment, loaded_at='_cdc_loaded_at') -%}
    ({{ moment }} is null or {{ moment }} < timestamp '1900-01-01'
    or {{ moment }} > {{ loaded_at }} + interval 1 day)
{%- endmacro %}


{#
    Why a customer's row cannot be used, or null. The dimension asks it of
    captured versions, the staging view of the present row.
#}
{% macro customer_fault() -%}
    case
        when customer_id is null then 'null key'
        {#- The unknown member has this id already. #}
        when customer_id = -1 then 'duplicate key'
        when {{ is_bad_moment('updated_at') }} then 'impossible updated_at'
        when {{ is_bad_moment('signup_at') }} then 'impossible signup_at'
    end
{%- endmacro %}


{#
    The order in which rows of one key are taken: the first counts, the others
    are rejected as duplicates. Live rows come before deleted ones.
#}
{% macro first_staged(alias='') -%}
    {%- set prefix = alias ~ '.' if alias else '' -%}
    {{ prefix }}is_deleted, {{ prefix }}loaded_at
{%- endmacro %}


{#
    The first row of each key: the one that counts where a key comes twice.

    Args:
        relation: SQL of the rows, a name or a query in brackets.
        keys: list of key columns.
        order_by: SQL of the order; by default the order of loading.
        condition: which rows take part.
        twice: whether a key may come twice among them; else all of them count.
#}
{% macro first_of(relation, keys, order_by='loaded_at', condition='true', twice=true) -%}
    {%- if not twice -%}
    select * from {{ relation }} where {{ condition }}
    {%- else -%}
    select * except (turn)
    from (
        select
            *,
            row_number() over (
                partition by {{ keys | join(', ') }}
                order by {{ order_by }}
            ) as turn
        from {{ relation }}
        where {{ condition }}
    )
    where turn = 1
    {%- endif -%}
{%- endmacro %}


{#
    Whether a key comes more than once among the usable rows of a window, so that the
    first of them has to be found. Asked of the key alone, and once a run: to put all
    rows in order costs several times as much, and ingest lands no key twice. Of few
    rows it is not asked.

    Args:
        relation: the staging view.
        keys: list of key columns.
        condition: which rows of it.
#}
{% macro comes_twice(relation, keys, condition) %}
    {% if not execute or flags.WHICH not in ['run', 'build'] or graph.get('build', {}).get('small', true) %}
        {% do return(true) %}
    {% endif %}
    {% set known = graph.build.setdefault('comes_twice', {}) %}
    {% set query = 'select count(*) - count(distinct ' ~ keys | join(', ') ~ ') from ' ~ relation
        ~ ' where not is_deleted and reject_reason is null and ' ~ condition %}
    {% if query not in known %}
        {% do known.update({query: (run_query(query).rows[0][0] | int) > 0}) %}
    {% endif %}
    {% do return(known[query]) %}
{% endmacro %}
