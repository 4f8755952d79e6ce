{#
    Digest of the set of values of some columns: a query of one row and column. No
    two rows may have the same values: two like ones would cancel out.

    Args:
        relation: the table.
        columns: names of its columns.
        condition: which rows, or none.
#}
{% macro digest_of(relation, columns, condition=none) -%}
    select concat_ws(':', count(*), bit_xor(xxhash64({{ columns | join(', ') }}))) from {{ relation }}
    {{- ' where ' ~ condition if condition }}
{%- endmacro %}


{#
    The rows a model takes from a staged input: those loaded in its window.

    Args:
        window: of `build_window`.
        name: the input's name in it.
        loaded_at: column of the load time.
#}
{% macro in_window(window, name, loaded_at) -%}
    ({{ loaded_at }} > {{ window.low[name] }} and {{ loaded_at }} <= {{ window.high[name] }})
{%- endmacro %}


{#
    Customers whose versions changed since a fact was built.

    Columns: `customer_id`; `moved_from`, from when on the valid version may be
    another one (null for a customer not known before, whose facts have the
    unknown key).

    Args:
        window: of `build_window`, with the staged input `dim_customer`.
#}
{% macro moved_customers(window) -%}
    {%- set versions = ref('customers_snapshot') -%}
    select
        customer_id,
        if(
            min(_cdc_loaded_at) <= {{ window.low.dim_customer }},
            min(if(_cdc_loaded_at > {{ window.low.dim_customer }}, version_at, null)),
            null
        ) as moved_from
    from {{ versions }}
    where _cdc_loaded_at <= {{ window.high.dim_customer }}
    group by customer_id
    having max(_cdc_loaded_at) > {{ window.low.dim_customer }}
{%- endmacro %}


{#
    The rows of a fact whose customer or product key may be out of date: those from
    a customer's earliest changed version on, and those whose customer or product
    has come to its dimension, or gone, since the fact was built. A file of other
    days and ids is not read, whatever unknown keys it holds.

    Args:
        window: of `build_window`.
        moment: column of the moment of the event.
#}
{% macro stale_facts(window, moment) -%}
    {%- set customers, products = ref('dim_customer'), ref('dim_product') -%}
    {%- set before = {} if window.nothing else versions_read([customers, products]) -%}
    {%- if window.nothing or not before -%}
    select * from {{ before_write() }} where {{ 'false' if window.nothing else 'true' }}
    {%- else -%}
    {%- set customer_ids = come_or_gone(customers, 'customer_id', before) -%}
    {%- set product_ids = come_or_gone(products, 'product_id', before) -%}
    select kept.*
    from {{ before_write() }} as kept
    left join ({{ moved_customers(window) }}) as moved
        on kept.customer_id = moved.customer_id
    where
        {{ may_be_stale(moment, moved_customers(window), customer_ids, product_ids) }}
        and (
            kept.{{ moment }} >= moved.moved_from
            or kept.customer_id in ({{ customer_ids }})
            or kept.product_id in ({{ product_ids }})
        )
    {%- endif %}
{%- endmacro %}


{#
    Ids that a dimension has and had not when the running model was last built, or
    the other way round.

    Args:
        dimension: relation.
        id: column of the natural key.
        before: of `versions_read`.
#}
{% macro come_or_gone(dimension, id, before) -%}
    {%- for here, there in [
        (dimension, as_it_was(dimension, before)), (as_it_was(dimension, before), dimension)
    ] -%}
    select known.{{ id }}
    from {{ here }} as known
    left anti join {{ there }} as other on known.{{ id }} = other.{{ id }}
    {{ 'union ' if not loop.last }}
    {%- endfor %}
{%- endmacro %}


{#
    A condition on the rows `kept` of a fact alone, which Iceberg can prune by: days
    and ids of what may be out of date.

    Args:
        moment: column of the moment of the event.
        moved, customer_ids, product_ids: queries, as in `stale_facts`.
#}
{% macro may_be_stale(moment, moved, customer_ids, product_ids) %}
    {% if not execute or flags.WHICH not in ['run', 'build'] %}{% do return('true') %}{% endif %}
    {% set found = run_query(
        'select cast((select min(moved_from) from (' ~ moved ~ ')) as string), '
        ~ 'customers.low, customers.high, products.low, products.high from '
        ~ '(select min(customer_id) as low, max(customer_id) as high from (' ~ customer_ids ~ ')) as customers '
        ~ 'cross join (select min(product_id) as low, max(product_id) as high from (' ~ product_ids ~ ')) as products'
    ).rows[0] %}
    {% set parts = [] %}
    {% if found[0] %}{% do parts.append('kept.' ~ moment ~ ' >= ' ~ timestamp_of(found[0])) %}{% endif %}
    {% if found[1] is not none %}
        {% do parts.append('kept.customer_id between ' ~ found[1] ~ ' and ' ~ found[2]) %}
    {% endif %}
    {% if found[3] is not none %}
        {% do parts.append('kept.product_id between ' ~ found[3] ~ ' and ' ~ found[4]) %}
    {% endif %}
    {% do return('(' ~ (parts | join(' or ') or 'false') ~ ')') %}
{% endmacro %}


{#
    A condition true near the ids that something happened to, so that files of other
    ids are not read; none where that is not known, or would not pay.

    Args:
        column: a whole number.
        ids: a query of it.
        window: of `build_window`.
#}
{% macro nearby(column, ids, window) %}
    {% if not execute or flags.WHICH not in ['run', 'build'] or window.nothing
        or graph.get('build', {}).get('small', true) %}{% do return(none) %}{% endif %}
    {% do return('(' ~ ids_predicate(column, run_query(
        'select ' ~ buckets_of(column) ~ ' from (' ~ ids ~ ')').rows[0][0]) ~ ')') %}
{% endmacro %}


{# Whether a query gives a row. #}
{% macro has_rows(query) %}
    {% do return(run_query('select 1 from (' ~ query ~ ') limit 1').rows | length > 0) %}
{% endmacro %}


{#
    Whether the products that were known when the running model was last built have
    the categories they had then. Facts of a product that has come or gone since have
    other keys, so their days have changed.

    Args:
        products: relation of the product dimension.
        window: of `build_window`.
#}
{% macro same_categories(products, window) %}
    {% set before = built_from(window) %}
    {% if not before %}{% do return(false) %}{% endif %}
    {% do return(not has_rows(
        'select 1 from ' ~ products ~ ' as known inner join ' ~ as_it_was(products, before)
        ~ ' as earlier on known.product_key = earlier.product_key'
        ~ ' where not (known.category <=> earlier.category)')) %}
{% endmacro %}


{#
    Customers whose birth date is another one than when the running model was last
    built. Whoever has come or gone since has facts with other keys, so those days
    have changed.

    Args:
        versions: relation of the customer dimension.
        before: of `built_from`.
#}
{% macro corrected_births(versions, before) -%}
    select known.customer_id
    from {{ versions }} as known
    inner join {{ as_it_was(versions, before) }} as earlier
        on known.customer_id = earlier.customer_id
    where
        known.is_current
        and earlier.is_current
        and not (known.birth_date <=> earlier.birth_date)
{%- endmacro %}


{#
    The least and greatest value of a column among the rows of a window, so that
    files of other ranges are not read; (1, 0), no range, where there is none.

    Args:
        relation: the staging view.
        column: a number.
        window, name: as for `in_window`.
#}
{% macro bounds_of(relation, column, window, name) %}
    {% if execute and flags.WHICH in ['run', 'build'] and window.changed[name] %}
        {% set found = run_query('select min(' ~ column ~ '), max(' ~ column ~ ') from '
            ~ relation ~ ' where ' ~ in_window(window, name, 'loaded_at')).rows[0] %}
        {% if found[0] is not none %}{% do return([found[0], found[1]]) %}{% endif %}
    {% endif %}
    {% do return([1, 0]) %}
{% endmacro %}


{#
    Whether the running model's table has a row with one of some ids.

    Args:
        column: a number.
        ids: a query of it.
        bounds: of `bounds_of`, the least and greatest of them.
#}
{% macro stands_already(column, ids, bounds) %}
    {% if not execute or flags.WHICH not in ['run', 'build'] %}{% do return(false) %}{% endif %}
    {% do return(has_rows('select 1 from ' ~ before_write() ~ ' where ' ~ column ~ ' between '
        ~ bounds[0] ~ ' and ' ~ bounds[1] ~ ' and ' ~ column ~ ' in (' ~ ids ~ ')')) %}
{% endmacro %}
