-- Payload keys that are in use, and what is encrypted with them.

CREATE TABLE etl_payload_keys (
    key_id         text COLLATE "C" PRIMARY KEY,
    check_value    text NOT NULL,
    first_used_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

ALTER TABLE pipeline_results ADD COLUMN key_id text COLLATE "C";
ALTER TABLE pipeline_items ADD COLUMN key_id text COLLATE "C";

ALTER TABLE etl_tokens DROP CONSTRAINT etl_tokens_scope_check;
ALTER TABLE etl_tokens ADD CONSTRAINT etl_tokens_scope_check
    CHECK (scope IN ('read', 'decrypt', 'operate'));

COMMENT ON COLUMN etl_tokens.scope IS 'read, decrypt or operate';
COMMENT ON TABLE etl_payload_keys IS
    'Payload keys that encrypted something and are still needed, never the keys themselves: a service that lacks one does not start.';
COMMENT ON COLUMN etl_payload_keys.key_id IS 'id of the key in ETL_PAYLOAD_KEYS';
COMMENT ON COLUMN etl_payload_keys.check_value IS
    'tells whether two processes have the same key under this id; the key does not follow from it';
COMMENT ON COLUMN etl_payload_keys.first_used_at IS
    'when a process first had it as the key that encrypts';
COMMENT ON COLUMN etl_payload_keys.last_used_at IS 'when one last had; to a few minutes';
COMMENT ON COLUMN pipeline_results.key_id IS
    'the payload key that the part is encrypted with; null: it is not';
COMMENT ON COLUMN pipeline_items.key_id IS
    'the payload key that the result is encrypted with; null: it is not';
