-- Runs are listed by their time and found by their workflow, in a ledger of any length.

CREATE INDEX etl_batches_latest ON etl_batches (created_at DESC, batch_id DESC);
CREATE INDEX etl_batches_workflow ON etl_batches (workflow_id);
