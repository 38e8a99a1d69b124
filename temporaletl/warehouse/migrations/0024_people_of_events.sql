-- Alone in its transaction, which readers do not wait for, and writers do: a million events take
-- about a minute.
-- Events name the person by the source's own id, beside the employee: one column held either.

DO $$
DECLARE
    root regclass := to_regclass(quote_ident(current_schema()) || '.events');
BEGIN
    -- One that the loader completes later has no connection yet; its first load does the rest.
    IF root IS NULL OR 2 <> (
        SELECT count(*) FROM pg_attribute WHERE attrelid = root AND NOT attisdropped
            AND attname IN ('connection', 'employee_id')
    ) THEN
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = root AND NOT attisdropped AND attname = 'person'
    ) THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN person text', root);
    END IF;
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', root);
    CREATE TEMPORARY TABLE etl_people ON COMMIT DROP AS
    WITH employees (employee_id) AS (
        SELECT DISTINCT employee_id FROM etl_identities WHERE employee_id IS NOT NULL
    ), resolved AS (
        -- As the platform resolves them: by the source's word, else by the address.
        SELECT i.source_kind_id, i.connection, i.person,
            coalesce(i.employee_id, (
                SELECT e.employee_id FROM etl_identities AS e
                WHERE e.employee_id IS NOT NULL AND lower(e.email) = lower(i.email)
                ORDER BY e.source_kind_id <> 'salesforce', e.source_kind_id,
                    e.connection <> 'default', e.connection, e.person
                LIMIT 1
            )) AS employee_id
        FROM etl_identities AS i
    ), only_person AS (
        SELECT source_kind_id, connection, employee_id, min(person) AS person
        FROM resolved WHERE employee_id IS NOT NULL
        GROUP BY 1, 2, 3 HAVING count(*) = 1
    ), held AS (
        SELECT DISTINCT source_kind_id, connection, employee_id AS value
        FROM events WHERE employee_id IS NOT NULL AND person IS NULL
    )
    SELECT h.source_kind_id, h.connection, h.value, e.employee_id,
        -- A value that is no employee's id is a person's. An employee's leads back to a person
        -- where there is one only; the next load of the event knows in any case.
        CASE WHEN e.employee_id IS NULL THEN h.value ELSE p.person END AS person
    FROM held AS h
    LEFT JOIN employees AS e ON e.employee_id = h.value
    LEFT JOIN only_person AS p ON p.source_kind_id = h.source_kind_id
        AND p.connection = h.connection AND p.employee_id = h.value;
    -- Without its hash, the next load that meets a row compares it anew.
    UPDATE events AS t
    SET person = p.person, employee_id = p.employee_id, row_hash = NULL, updated_at = now()
    FROM etl_people AS p
    WHERE t.source_kind_id = p.source_kind_id AND t.connection = p.connection
      AND t.employee_id = p.value AND t.person IS NULL AND p.person IS NOT NULL;
END
$$;
