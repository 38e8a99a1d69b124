{#- A model that has the events of another, as they were last changed, and no others. -#}
{% test same_events(model, as) %}
SELECT source_kind_id, connection, event_id, mine.updated_at AS here, theirs.updated_at AS there
FROM {{ model }} AS mine
FULL JOIN {{ as }} AS theirs USING (source_kind_id, connection, event_id)
WHERE mine.updated_at IS DISTINCT FROM theirs.updated_at
{% endtest %}
