SELECT
    source_kind_id,
    connection,
    item,
    min(event_time_utc) AS first_event_at,
    max(event_time_utc) AS last_event_at,
    count(*) AS events,
    count(DISTINCT whoever) AS people
FROM {{ ref('fct_events') }}
WHERE item IS NOT NULL
GROUP BY source_kind_id, connection, item
