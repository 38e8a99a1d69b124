-- source: jira
-- Spans of time for which a Jira issue had a status, from its creation on.
-- connection: connection; default
-- issue_key: the issue's key
-- issue_id: Jira's id of the issue
-- number: number of the span within the issue, from 1
-- status: status
-- started_at: start of the span, inclusive
-- ended_at: end of the span, exclusive; null of the present one
-- seconds: its length, up to now of the present one
-- changed_by: the person who set the status
-- employee_id: the employee who set it; null while unknown
WITH changes AS (
    SELECT connection, parent_item_id AS issue_key, split_part(event_id, ':', 1) AS issue_id,
        event_time_utc AS started_at, person AS changed_by, employee_id,
        split_part(event_id, ':', 3) AS history,
        CASE event_type WHEN 'status_changed' THEN event_properties->>'from_string' END AS was,
        CASE event_type WHEN 'status_changed' THEN event_properties->>'to_string'
            ELSE event_properties->>'status' END AS status,
        event_type = 'issue_created' AS is_first
    FROM events
    WHERE source_kind_id = 'jira' AND event_type IN ('issue_created', 'status_changed')
      AND deleted_at IS NULL
), spans AS (
    -- An issue's creation has the status of today: its first one is what its first change left.
    SELECT *, row_number() OVER life AS number, lead(started_at) OVER life AS ended_at,
        lead(was) OVER life AS next_was
    FROM changes
    WINDOW life AS (
        PARTITION BY connection, issue_key, issue_id
        ORDER BY is_first DESC, started_at, length(history), history
    )
)
SELECT connection, issue_key, issue_id, number,
    CASE WHEN is_first THEN coalesce(next_was, status) ELSE status END AS status,
    started_at, ended_at,
    extract(epoch FROM coalesce(ended_at, now()) - started_at) AS seconds,
    changed_by, employee_id
FROM spans
