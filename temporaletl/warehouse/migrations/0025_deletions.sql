-- Deletions leave a trace, so that what is built on the tables incrementally sees them.

CREATE TABLE etl_deletions (
    deletion_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source       text NOT NULL,
    connection   text NOT NULL,
    table_name   text NOT NULL,
    key          text NOT NULL,
    deleted_at   timestamptz NOT NULL DEFAULT now(),
    batch_id     text NOT NULL,
    job_id       text NOT NULL,
    workflow_id  text NOT NULL,
    run_id       text NOT NULL
);
CREATE INDEX etl_deletions_latest ON etl_deletions USING brin (deleted_at);

DO $$
DECLARE
    root regclass := to_regclass(quote_ident(current_schema()) || '.events');
BEGIN
    IF root IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS deleted_at timestamptz', root);
    END IF;
END
$$;
