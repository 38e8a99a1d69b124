-- Executions have the statuses that Temporal has: TIMED_OUT where TimedOut stood.

DO $$
BEGIN
    -- The first load of the source creates the table.
    IF EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('temporal_workflows') AND attname = 'status'
    ) THEN
        -- Without its hash, the next load that meets a row writes it once more.
        UPDATE temporal_workflows
        SET status = upper(regexp_replace(status, '([a-z])([A-Z])', '\1_\2', 'g')),
            row_hash = NULL, updated_at = now()
        WHERE status IN ('Running', 'Completed', 'Failed', 'Canceled', 'Terminated',
                         'ContinuedAsNew', 'TimedOut');
    END IF;
END
$$;
