{#
    Fails unless exactly one row has a value: the member that facts without one of
    their own point to.

    Args:
        column_name: the key.
        value: the member's.
#}
{% test one_member(model, column_name, value='unknown') %}
select count(*) as members
from {{ model }}
where {{ column_name }} = '{{ value }}'
having count(*) != 1
{% endtest %}
