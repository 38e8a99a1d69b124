-- Items of all sources: when something happened to each, and how much. Read it by item.
-- source_kind_id: the source
-- connection: connection; default
-- item: the item, by the name people use
-- first_event_at: its first event
-- last_event_at: its last event
-- events: number of its events
-- people: number of people who took part
SELECT source_kind_id, connection, parent_item_id AS item,
    min(event_time_utc) AS first_event_at, max(event_time_utc) AS last_event_at,
    count(*) AS events, count(DISTINCT person) AS people
FROM events
WHERE parent_item_id IS NOT NULL AND deleted_at IS NULL
GROUP BY source_kind_id, connection, parent_item_id
