-- Months of events that retention has detached: what is older is not loaded again.

CREATE TABLE etl_detached_months (
    source       text NOT NULL,
    month        date NOT NULL,
    table_name   text NOT NULL,
    rows         bigint NOT NULL,
    detached_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    dropped_at   timestamptz,
    PRIMARY KEY (source, month)
);

COMMENT ON TABLE etl_detached_months IS
    'Months of a source''s events that retention has detached: events up to the end of the latest are not loaded.';
COMMENT ON COLUMN etl_detached_months.source IS 'source';
COMMENT ON COLUMN etl_detached_months.month IS 'first day of the month, UTC';
COMMENT ON COLUMN etl_detached_months.table_name IS 'the table that holds its events';
COMMENT ON COLUMN etl_detached_months.rows IS 'events in it';
COMMENT ON COLUMN etl_detached_months.detached_at IS 'when it was detached';
COMMENT ON COLUMN etl_detached_months.dropped_at IS
    'when its table was dropped; null: it is there, apart from events';
