-- A connection has several schedules, by their names; those of before are the default ones.

ALTER TABLE etl_schedules
    ADD COLUMN name text COLLATE "C" NOT NULL DEFAULT 'default',
    -- Whether its parameters leave out what other runs load.
    ADD COLUMN filtered boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT etl_schedules_pkey,
    ADD PRIMARY KEY (source, connection, name);

-- Scheduled runs that were skipped, for their number.
CREATE INDEX etl_runs_skipped ON etl_runs (source, connection) WHERE error_type = 'SkippedRunError';

COMMENT ON COLUMN etl_schedules.name IS 'name; default';
COMMENT ON COLUMN etl_schedules.filtered IS
    'whether its parameters leave out what other runs load';
