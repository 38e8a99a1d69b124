-- Every run has an entry, which says where Temporal has it and ends with its batch.

ALTER TABLE etl_runs
    -- Where its workflow is; null until that is known, and in the local engine.
    ADD COLUMN temporal_address      text,
    ADD COLUMN temporal_namespace    text,
    ADD COLUMN temporal_namespace_id text;

-- Those that ended before there were entries: what Temporal has of them is no news.
INSERT INTO etl_runs (workflow_id, source, connection, request, run_id, engine, requested_at,
    batch_id, error, ended_at)
SELECT DISTINCT ON (workflow_id) workflow_id, source, connection,
    jsonb_build_object('source', source, 'connection', connection, 'mode', mode),
    run_id, engine, created_at, batch_id, summary->>'error', ended_at
FROM etl_batches WHERE ended_at IS NOT NULL AND engine = 'temporal'
ORDER BY workflow_id, created_at DESC
ON CONFLICT (workflow_id) DO NOTHING;

UPDATE etl_runs AS r SET ended_at = b.ended_at, error = b.summary->>'error'
FROM etl_batches AS b
WHERE b.batch_id = r.batch_id AND b.ended_at IS NOT NULL AND r.ended_at IS NULL
  AND r.engine IS DISTINCT FROM 'local';

-- Those with a batch are listed by it.
DROP INDEX etl_runs_latest;
CREATE INDEX etl_runs_without_batch ON etl_runs (requested_at DESC, workflow_id DESC)
    WHERE batch_id IS NULL;

-- Of a key that may say something of its request, only the hash is needed.
ALTER TABLE etl_idempotency_keys ADD COLUMN key_sha256 bytea;
UPDATE etl_idempotency_keys SET key_sha256 = sha256(convert_to(key, 'UTF8'));
ALTER TABLE etl_idempotency_keys DROP CONSTRAINT etl_idempotency_keys_pkey;
ALTER TABLE etl_idempotency_keys DROP COLUMN key;
ALTER TABLE etl_idempotency_keys ADD PRIMARY KEY (token_id, route, key_sha256);
