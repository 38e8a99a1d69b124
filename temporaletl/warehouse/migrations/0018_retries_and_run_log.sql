-- Retries of what failed in a batch, and the log of runs.

ALTER TABLE etl_batches
    -- The batch whose failed jobs it runs.
    ADD COLUMN retries text,
    -- The first batch of a chain of retries: together they load what that one planned.
    ADD COLUMN original text;
CREATE INDEX etl_batches_retries ON etl_batches (retries) WHERE retries IS NOT NULL;
CREATE INDEX etl_batches_original ON etl_batches (original) WHERE original IS NOT NULL;

-- No reference to the batch: its row is locked where it is closed, and a log waits for nothing.
CREATE TABLE etl_run_log (
    line_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id  text NOT NULL,
    job_id    text,
    at        timestamptz NOT NULL,
    level     text NOT NULL,
    logger    text NOT NULL,
    event     text NOT NULL,
    fields    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX etl_run_log_latest ON etl_run_log (batch_id, line_id DESC);
CREATE INDEX etl_run_log_age ON etl_run_log (at);
