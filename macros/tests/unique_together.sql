{#
    Fails on values of some columns that more than one row has.

    Args:
        columns: list of names.
#}
{% test unique_together(model, columns) %}
select
    {{ columns | join(', ') }},
    count(*) as how_many
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}
