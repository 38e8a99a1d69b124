-- source: jira
-- The status that each Jira issue had at the end of each day, UTC, from its creation to yesterday. Read it by day.
-- day: the day
-- connection: connection; default
-- issue_key: the issue's key
-- issue_id: Jira's id of the issue
-- status: the status at the end of the day
-- since: since when it had that status
SELECT days.day::date AS day, s.connection, s.issue_key, s.issue_id, s.status,
    s.started_at AS since
FROM generate_series(
    (SELECT date_trunc('day', min(event_time_utc) AT TIME ZONE 'UTC') FROM events
     WHERE source_kind_id = 'jira' AND event_type = 'issue_created'),
    date_trunc('day', now() AT TIME ZONE 'UTC') - interval '1 day', interval '1 day'
) AS days (day)
JOIN issue_status_spans AS s
  ON s.started_at < (days.day + interval '1 day') AT TIME ZONE 'UTC'
 AND (s.ended_at IS NULL OR s.ended_at >= (days.day + interval '1 day') AT TIME ZONE 'UTC')
