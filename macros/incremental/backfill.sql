{#
    A bounded backfill: `dbt build --event-time-start A --event-time-end B` works
    out anew the facts of the days from A to before B, from staging, and from them
    the marts of those days. No watermark moves and no row of another day is
    written, so what was spoilt in a few days is mended at the cost of those.

    It stands on a build that has taken all that is staged, by the rules of now:
    else its days would be ahead of the dimensions. Only the versions
    of what it wrote are recorded: the next build looks at the days whose files
    differ, and finds nothing to write.

    A fact names the moment of its events in the config `event_at`.
#}

{#
    The range of a backfill; none in any other run.

    Returns:
        dict: `start` and `end` (datetimes, UTC, `end` not included), `days` (list
        of yyyy-mm-dd).
#}
{% macro backfill() %}
    {% set start = invocation_args_dict.get('event_time_start') %}
    {% set end = invocation_args_dict.get('event_time_end') %}
    {% if not execute or flags.WHICH not in ['run', 'build'] or not start %}{% do return(none) %}{% endif %}
    {% set days = [] %}
    {% for number in range((end - start).days) %}
        {% do days.append((start + modules.datetime.timedelta(days=number)).strftime('%Y-%m-%d')) %}
    {% endfor %}
    {% do return({'start': start, 'end': end, 'days': days}) %}
{% endmacro %}


{# A condition true from the start of a backfill's range to before its end. #}
{% macro in_range(column, range) -%}
    ({{ column }} >= timestamp '{{ range.start }}' and {{ column }} < timestamp '{{ range.end }}')
{%- endmacro %}


{# on-run-start: refuses a backfill that would not stand on a whole build. #}
{% macro prepare_backfill() %}
    {% set range = backfill() %}
    {% if range %}
        {% set what = 'The backfill of ' ~ range.start ~ ' to ' ~ range.end %}
        {% if flags.FULL_REFRESH %}
            {{ exceptions.raise_compiler_error(what ~ ': --full-refresh rebuilds all days. Next: '
                ~ 'give either it or --event-time-start and --event-time-end') }}
        {% elif range.start.strftime('%H%M%S') ~ range.end.strftime('%H%M%S') != '000000000000' %}
            {{ exceptions.raise_compiler_error(what ~ ' does not hold whole days (UTC). Next: '
                ~ 'give --event-time-start and --event-time-end as yyyy-mm-dd') }}
        {% endif %}
        {% set behind = [] %}
        {% for node in graph.nodes.values() if node.resource_type in ['model', 'snapshot']
            and node.config.materialized != 'view' and _is_behind(node) %}
            {% do behind.append(node.name) %}
        {% endfor %}
        {% if behind %}
            {{ exceptions.raise_compiler_error(what ~ ' would stand on half a build: not up to date '
                ~ 'with what is staged or with their own text: ' ~ behind | sort | join(', ')
                ~ '. Next: build everything first (`ecom run`, or `dbt build`), then backfill') }}
        {% endif %}
    {% endif %}
{% endmacro %}

{# Whether a table's last success was by another text or on other staged tables. #}
{% macro _is_behind(node) %}
    {% set known = _known_parts(node) %}
    {% if known[0] != local_md5(text_of(node)) %}{% do return(true) %}{% endif %}
    {% set versions = known[2].split(',') %}
    {% for name in tables_read(node) if name in graph.sources %}
        {% if graph.build.versions[graph.sources[name].relation_name]
            != versions[tables_read(node).index(name)] %}{% do return(true) %}{% endif %}
    {% endfor %}
    {% do return(false) %}
{% endmacro %}
