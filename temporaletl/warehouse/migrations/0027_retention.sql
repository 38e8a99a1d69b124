-- Pages and jobs of runs that ended long ago are summarised by stream, and removed.

CREATE TABLE etl_stream_summaries (
    batch_id    text NOT NULL REFERENCES etl_batches ON DELETE CASCADE,
    stream      text NOT NULL,
    jobs        integer NOT NULL,
    completed   integer NOT NULL,
    failed      integer NOT NULL,
    skipped     integer NOT NULL,
    cancelled   integer NOT NULL,
    pages       integer NOT NULL,
    records     bigint NOT NULL,
    inserted    bigint NOT NULL,
    updated     bigint NOT NULL,
    unchanged   bigint NOT NULL,
    rejected    bigint NOT NULL,
    deleted     bigint NOT NULL,
    started_at  timestamptz,
    ended_at    timestamptz,
    -- Of the pages that changed rows: rows name them, and so lead to the batch.
    run_ids     text[] NOT NULL,
    PRIMARY KEY (batch_id, stream)
);
-- A list of pending entries would be emptied by whoever happens to find it full.
CREATE INDEX etl_stream_summaries_runs ON etl_stream_summaries USING gin (run_ids)
    WITH (fastupdate = off);

ALTER TABLE etl_batches
    ADD COLUMN pages_removed_at timestamptz,
    ADD COLUMN jobs_removed_at  timestamptz;
CREATE INDEX etl_batches_with_pages ON etl_batches (ended_at, batch_id)
    WHERE pages_removed_at IS NULL;
CREATE INDEX etl_batches_with_jobs ON etl_batches (ended_at, batch_id)
    WHERE jobs_removed_at IS NULL;
-- A reject is reprocessed with the parameters of its job.
CREATE INDEX etl_rejects_batch ON etl_rejects (batch_id);

COMMENT ON COLUMN etl_batches.pages_removed_at IS
    'when its pages were summarised and removed; null: they are there';
COMMENT ON COLUMN etl_batches.jobs_removed_at IS
    'when its jobs were summarised and removed; null: they are there';
COMMENT ON TABLE etl_stream_summaries IS
    'What the jobs and pages of a batch came to, by stream: written when its pages are removed.';
COMMENT ON COLUMN etl_stream_summaries.batch_id IS 'the batch';
COMMENT ON COLUMN etl_stream_summaries.stream IS 'stream';
COMMENT ON COLUMN etl_stream_summaries.jobs IS 'jobs planned';
COMMENT ON COLUMN etl_stream_summaries.completed IS 'jobs that completed';
COMMENT ON COLUMN etl_stream_summaries.failed IS 'jobs that failed';
COMMENT ON COLUMN etl_stream_summaries.skipped IS 'jobs that were skipped';
COMMENT ON COLUMN etl_stream_summaries.cancelled IS 'jobs that were cancelled';
COMMENT ON COLUMN etl_stream_summaries.pages IS 'committed pages';
COMMENT ON COLUMN etl_stream_summaries.records IS 'records extracted';
COMMENT ON COLUMN etl_stream_summaries.inserted IS 'rows inserted';
COMMENT ON COLUMN etl_stream_summaries.updated IS 'rows updated';
COMMENT ON COLUMN etl_stream_summaries.unchanged IS 'rows found unchanged';
COMMENT ON COLUMN etl_stream_summaries.rejected IS 'rejects';
COMMENT ON COLUMN etl_stream_summaries.deleted IS 'rows deleted';
COMMENT ON COLUMN etl_stream_summaries.started_at IS 'start of its first job';
COMMENT ON COLUMN etl_stream_summaries.ended_at IS 'end of its last job';
COMMENT ON COLUMN etl_stream_summaries.run_ids IS
    'the workflow runs whose pages changed rows: the run_id of a row is one of them';
