{#- A column that names a row of another table, in the same connection. -#}
{% test refers_to(model, column, to, field) %}
SELECT referring.connection, referring.{{ column }}
FROM {{ model }} AS referring
WHERE referring.{{ column }} IS NOT NULL
  AND NOT EXISTS (
    SELECT FROM {{ to }} AS target
    WHERE target.connection = referring.connection AND target.{{ field }} = referring.{{ column }}
  )
{% endtest %}
