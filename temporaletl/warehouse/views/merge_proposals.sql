-- source: launchpad
-- Launchpad's merge proposals, as they were last loaded.
-- connection: connection; default
-- merge_proposal: the proposal's number
-- status: status
-- source: the branch to be merged
-- target: the branch it is to be merged into
-- created_at: its creation
-- registrant: the person who proposed it
-- registrant_employee_id: the employee who proposed it; null while unknown
-- web_link: its page
-- updated_at: when the row was last changed in the warehouse
SELECT connection, parent_item_id AS merge_proposal, event_properties->>'status' AS status,
    event_properties->'source' AS source, event_properties->'target' AS target,
    event_time_utc AS created_at, person AS registrant, employee_id AS registrant_employee_id,
    event_properties->>'web_link' AS web_link, updated_at
FROM events
WHERE source_kind_id = 'launchpad' AND event_type = 'merge_proposal_created'
  AND deleted_at IS NULL
