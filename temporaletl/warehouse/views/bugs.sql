-- source: launchpad
-- Launchpad's bugs, a row for each project or package that a bug is in, as they were last loaded.
-- connection: connection; default
-- bug: the bug's number
-- target: project or package; null of a bug without any
-- title: title
-- status: status there
-- importance: importance there
-- assignee: the person it is assigned to there
-- tags: tags, a list
-- duplicate_of: the bug that it is a duplicate of
-- created_at: report of the bug
-- owner: the person who reported it
-- owner_employee_id: the employee who reported it; null while unknown
-- web_link: its page
-- updated_at: when the row was last changed in the warehouse
SELECT e.connection, e.parent_item_id AS bug, t.task->>'target' AS target,
    e.event_properties->>'title' AS title, t.task->>'status' AS status,
    t.task->>'importance' AS importance, t.task->>'assignee' AS assignee,
    e.event_properties->'tags' AS tags, e.event_properties->>'duplicate_of' AS duplicate_of,
    e.event_time_utc AS created_at, e.person AS owner, e.employee_id AS owner_employee_id,
    e.event_properties->>'web_link' AS web_link, e.updated_at
FROM events AS e
LEFT JOIN LATERAL jsonb_array_elements(e.event_properties->'tasks') AS t (task) ON true
WHERE e.source_kind_id = 'launchpad' AND e.event_type = 'bug_created' AND e.deleted_at IS NULL
