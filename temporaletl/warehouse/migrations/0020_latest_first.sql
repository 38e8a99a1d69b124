-- Runs and rejects are listed, the latest first, and found, in a ledger of any length.

CREATE INDEX etl_batches_latest ON etl_batches (created_at DESC, batch_id DESC);
CREATE INDEX etl_batches_workflow ON etl_batches (workflow_id);
CREATE INDEX etl_rejects_latest
    ON etl_rejects (source, connection, last_seen DESC, reject_id DESC);
