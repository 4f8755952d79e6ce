{#
    The day of a moment in the reporting time zone (var `reporting_timezone`).

    Args:
        moment: SQL of a timestamp.
#}
{% macro local_day(moment) -%}
    {%- if var('reporting_timezone') == 'UTC' -%}
    cast({{ moment }} as date)
    {%- else -%}
    cast(from_utc_timestamp({{ moment }}, '{{ var("reporting_timezone") }}') as date)
    {%- endif -%}
{%- endmacro %}


{# The key of `dim_date`, yyyymmdd as an integer. Args: day, SQL of a date. #}
{% macro date_key(day) -%}
    (year({{ day }}) * 10000 + month({{ day }}) * 100 + day({{ day }}))
{%- endmacro %}


{#
    Age in whole years on a day; a birthday on 29 February is kept on 1 March in
    common years.

    Args:
        birth_date, day: SQL of dates.
#}
{% macro age_on(birth_date, day) -%}
    cast(floor((
        {{ date_key(day) }} - {{ date_key(birth_date) }}
    ) / 10000) as int)
{%- endmacro %}


{# The age band of the contract. Args: age, SQL of whole years or null. #}
{% macro age_band(age) -%}
    case
        when {{ age }} is null then 'unknown'
        when {{ age }} < 18 then '<18'
        when {{ age }} < 25 then '18-24'
        when {{ age }} < 35 then '25-34'
        when {{ age }} < 45 then '35-44'
        when {{ age }} < 55 then '45-54'
        when {{ age }} < 65 then '55-64'
        else '65+'
    end
{%- endmacro %}


{#
    The months (yyyy-mm-01) that hold the given UTC days or months, in order.

    Args:
        days: list of yyyy-mm-dd or yyyy-mm, UTC.
    A local day may lie one day off, so the neighbours of a day, or of a month's
    first and last, count where the reporting time zone is not UTC.
#}
{% macro months_of(days) %}
    {% set zoned = var('reporting_timezone') != 'UTC' %}
    {% set months = [] %}
    {% for day in days %}
        {% set whole = day | length == 7 %}
        {% set start = modules.datetime.datetime.strptime(day ~ ('-01' if whole else ''), '%Y-%m-%d') %}
        {% set reach = [0] if not zoned else ([-1, 0, 31] if whole else [-1, 0, 1]) %}
        {% for shift in reach %}
            {% set month = (start + modules.datetime.timedelta(days=shift)).strftime('%Y-%m-01') %}
            {% if month not in months %}{% do months.append(month) %}{% endif %}
        {% endfor %}
    {% endfor %}
    {% do return(months | sort) %}
{% endmacro %}


{# The moments of whole local months: a condition Iceberg can prune by. #}
{% macro in_months(column, months) -%}
    {%- for month in months -%}
        ({{ column }} >= {{ utc_moment("timestamp '" ~ month ~ "'") }}
        and {{ column }} < {{ utc_moment("timestamp '" ~ _month_after(month) ~ "'") }})
        {{- ' or ' if not loop.last }}
    {%- endfor -%}
    {{- 'false' if not months }}
{%- endmacro %}

{% macro _month_after(month) -%}
    {%- set start = modules.datetime.datetime.strptime(month, '%Y-%m-%d') -%}
    {{- (start + modules.datetime.timedelta(days=31)).strftime('%Y-%m-01') -}}
{%- endmacro %}

{# The UTC moment of a local wall-clock time. #}
{% macro utc_moment(local) -%}
    {%- if var('reporting_timezone') == 'UTC' -%}
    {{ local }}
    {%- else -%}
    to_utc_timestamp({{ local }}, '{{ var("reporting_timezone") }}')
    {%- endif -%}
{%- endmacro %}


{#
    The local days that may hold moments of the given UTC days.

    Args:
        days: sorted list of yyyy-mm-dd, UTC.
#}
{% macro near_days(days) %}
    {% if var('reporting_timezone') == 'UTC' %}{% do return(days) %}{% endif %}
    {% set near = [] %}
    {% for day in days %}
        {% set start = modules.datetime.datetime.strptime(day, '%Y-%m-%d') %}
        {% for shift in [-1, 0, 1] %}
            {% set other = (start + modules.datetime.timedelta(days=shift)).strftime('%Y-%m-%d') %}
            {% if other not in near %}{% do near.append(other) %}{% endif %}
        {% endfor %}
    {% endfor %}
    {% do return(near | sort) %}
{% endmacro %}


{# A condition true on the given local days alone, which Iceberg can prune by. #}
{% macro local_days_predicate(column, days) -%}
    ({{ days_predicate(column, days if var('reporting_timezone') == 'UTC' else near_days(days)) }})
    and {{ days_in(local_day(column), days) }}
{%- endmacro %}


{# `day in (...)` for a list of yyyy-mm-dd; false for none. #}
{% macro days_in(day, days) -%}
    {%- if days -%}
    {{ day }} in (date '{{ days | join("', date '") }}')
    {%- else -%}
    false
    {%- endif -%}
{%- endmacro %}


{# The scope of rows whose month is one of `months`. #}
{% macro months_scope(column, months) -%}
    {{ days_in(column, months) }}
{%- endmacro %}
