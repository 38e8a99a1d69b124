-- source: salesforce
-- Salesforce's opportunities that are not deleted there, as they were last loaded.
-- connection: connection; default
-- opportunity_id: Salesforce's id
-- name: name
-- stage: stage
-- is_closed: whether it is closed
-- is_won: whether it is won
-- close_date: day on which it is, or is expected to be, closed
-- account_id: account
-- owner_id: owner
-- created_at: creation
-- creator: the person who created it
-- creator_employee_id: the employee who created it; null while unknown
-- metrics: its amounts
-- properties: all properties
-- updated_at: when the row was last changed in the warehouse
SELECT o.connection, split_part(o.event_id, ':', 1) AS opportunity_id,
    o.event_properties->>'name' AS name, o.event_properties->>'stage' AS stage,
    (o.event_properties->>'is_closed')::boolean AS is_closed,
    (o.event_properties->>'is_won')::boolean AS is_won,
    o.event_properties->>'close_date' AS close_date,
    o.event_properties->>'account_id' AS account_id, o.event_properties->>'owner_id' AS owner_id,
    o.event_time_utc AS created_at, o.person AS creator, o.employee_id AS creator_employee_id,
    o.metrics, o.event_properties AS properties, o.updated_at
FROM events AS o
WHERE o.source_kind_id = 'salesforce' AND o.event_type = 'opportunity_created'
  AND o.deleted_at IS NULL
  AND NOT EXISTS (
    SELECT FROM events AS d
    WHERE d.source_kind_id = 'salesforce' AND d.connection = o.connection
      AND d.event_id = split_part(o.event_id, ':', 1) || ':deleted' AND d.deleted_at IS NULL)
