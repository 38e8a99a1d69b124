-- source: salesforce
-- Salesforce's cases that are not deleted there, as they were last loaded.
-- connection: connection; default
-- case_id: Salesforce's id
-- case_number: the case's number
-- subject: subject
-- status: status
-- priority: priority
-- account_id: account
-- contact_id: contact
-- owner_id: owner
-- created_at: creation
-- closed_at: when it was closed; null while it is open
-- creator: the person who created it
-- creator_employee_id: the employee who created it; null while unknown
-- properties: all properties
-- updated_at: when the row was last changed in the warehouse
SELECT c.connection, split_part(c.event_id, ':', 1) AS case_id, c.parent_item_id AS case_number,
    c.event_properties->>'subject' AS subject, c.event_properties->>'status' AS status,
    c.event_properties->>'priority' AS priority, c.event_properties->>'account_id' AS account_id,
    c.event_properties->>'contact_id' AS contact_id, c.event_properties->>'owner_id' AS owner_id,
    c.event_time_utc AS created_at, (c.event_properties->>'closed_at')::timestamptz AS closed_at,
    c.person AS creator, c.employee_id AS creator_employee_id, c.event_properties AS properties,
    c.updated_at
FROM events AS c
WHERE c.source_kind_id = 'salesforce' AND c.event_type = 'case_created' AND c.deleted_at IS NULL
  AND NOT EXISTS (
    SELECT FROM events AS d
    WHERE d.source_kind_id = 'salesforce' AND d.connection = c.connection
      AND d.event_id = split_part(c.event_id, ':', 1) || ':deleted' AND d.deleted_at IS NULL)
