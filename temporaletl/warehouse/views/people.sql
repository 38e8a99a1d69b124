-- People of all sources, each with the employee that the person is as far as that is known now.
-- source_kind_id: the source
-- connection: connection; default
-- person: the person, by the source's own id, as in events.person
-- employee_id: the employee, by the source's word or by the e-mail address; null while unknown
-- email: e-mail address
-- name: name
-- timezone: IANA time zone
SELECT i.source_kind_id, i.connection, i.person,
    coalesce(i.employee_id, (
        SELECT e.employee_id FROM etl_identities AS e
        WHERE e.employee_id IS NOT NULL AND lower(e.email) = lower(i.email)
        ORDER BY e.source_kind_id <> 'salesforce', e.source_kind_id, e.connection <> 'default',
            e.connection, e.person
        LIMIT 1
    )) AS employee_id,
    i.email, i.name, i.timezone
FROM etl_identities AS i
