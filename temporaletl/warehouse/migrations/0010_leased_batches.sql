-- Batches that a process runs by itself, without a workflow that would tell whether they go on.

ALTER TABLE etl_batches
    -- Until when that process counts as alive, unless it says so again; null: a workflow runs it.
    ADD COLUMN lease_until timestamptz;

-- Of a source and connection, one of them at a time.
CREATE UNIQUE INDEX etl_batches_leased ON etl_batches (source, connection)
    WHERE ended_at IS NULL AND lease_until IS NOT NULL;
