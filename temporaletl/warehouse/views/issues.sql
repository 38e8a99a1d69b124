-- source: jira
-- Jira's issues, as they were last loaded.
-- connection: connection; default
-- issue_id: Jira's id of the issue
-- issue_key: the issue's key, such as PROJ-12
-- project: the project's key
-- type: type of issue
-- status: status
-- priority: priority
-- resolution: resolution; null while it is open
-- summary: summary
-- parent: key of the parent issue
-- labels: labels, a list
-- components: components, a list
-- fix_versions: versions that it is fixed in, a list
-- created_at: creation
-- creator: the person who created it
-- creator_employee_id: the employee who created it; null while unknown
-- reporter: the person who reported it
-- assignee: the person it is assigned to
-- original_estimate_seconds: original estimate, in seconds
-- story_points: story points; null unless JIRA_FIELDS loads a field under this name
-- due_date: due date; null unless JIRA_FIELDS loads a field under this name
-- sprint: sprint; null unless JIRA_FIELDS loads a field under this name
-- properties: all properties, with those that JIRA_FIELDS names
-- updated_at: when the row was last changed in the warehouse
SELECT connection, split_part(event_id, ':', 1) AS issue_id, parent_item_id AS issue_key,
    event_properties->>'project' AS project, event_properties->>'type' AS type,
    event_properties->>'status' AS status, event_properties->>'priority' AS priority,
    event_properties->>'resolution' AS resolution, event_properties->>'summary' AS summary,
    event_properties->>'parent' AS parent, event_properties->'labels' AS labels,
    event_properties->'components' AS components,
    event_properties->'fix_versions' AS fix_versions,
    event_time_utc AS created_at, person AS creator, employee_id AS creator_employee_id,
    event_properties->>'reporter' AS reporter, event_properties->>'assignee' AS assignee,
    (metrics->>'original_estimate_seconds')::numeric AS original_estimate_seconds,
    event_properties->'story_points' AS story_points,
    event_properties->>'due_date' AS due_date, event_properties->'sprint' AS sprint,
    event_properties AS properties, updated_at
FROM events
WHERE source_kind_id = 'jira' AND event_type = 'issue_created' AND deleted_at IS NULL
