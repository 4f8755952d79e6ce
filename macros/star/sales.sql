{# Whether a line counts as sold. Args: status, SQL of the order's status. #}
{% macro is_sale(status) -%}
    {{ status }} not in ('cancelled', 'returned')
{%- endmacro %}
