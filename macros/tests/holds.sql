{#
    Fails on the rows of which a condition is not true. A null condition fails
    too: say `or x is null` where that is meant.

    Args:
        condition: SQL over the model's columns.
#}
{% test holds(model, condition) %}
select *
from {{ model }}
where not coalesce({{ condition }}, false)
{% endtest %}
