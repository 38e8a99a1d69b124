-- Rows that differ under one key are counted; what is kept of a large reject is bounded.

ALTER TABLE etl_jobs
    -- Rows that had the key of another row of the job, and another content.
    ADD COLUMN conflicting bigint NOT NULL DEFAULT 0,
    -- Those of them that one extracted page held: no change at the source explains them.
    ADD COLUMN conflicting_at_once bigint NOT NULL DEFAULT 0,
    -- The first of them, in words.
    ADD COLUMN conflict text;

ALTER TABLE etl_rejects
    -- Bytes of the payload, where only its beginning is kept.
    ADD COLUMN payload_bytes bigint;
