-- Which Temporal a batch's workflow runs in: only there can anybody say that it is lost.

ALTER TABLE etl_batches
    -- As the queuer reaches it; one on the queuer's own machine names that machine too.
    ADD COLUMN temporal_address      text,
    ADD COLUMN temporal_namespace    text,
    -- The server's own id of the namespace: another one where the server lost what it knew.
    ADD COLUMN temporal_namespace_id text,
    -- When a queuer last found the workflow running.
    ADD COLUMN sighted_at            timestamptz;

CREATE INDEX etl_batches_open ON etl_batches (created_at) WHERE ended_at IS NULL;
