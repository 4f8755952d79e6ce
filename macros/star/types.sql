{# The interaction types of the contract, in order. #}
{% macro interaction_types() %}
    {% do return(['view', 'search', 'click', 'add_to_cart', 'wishlist', 'purchase', 'review']) %}
{% endmacro %}
