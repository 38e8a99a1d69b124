-- Rows, rejects and people are those of a connection; what is there came from `default`.

ALTER TABLE etl_jobs ADD COLUMN connection text NOT NULL DEFAULT 'default';
UPDATE etl_jobs SET connection = input->>'connection' WHERE input->>'connection' <> 'default';

ALTER TABLE etl_rejects ADD COLUMN connection text NOT NULL DEFAULT 'default';
UPDATE etl_rejects AS r SET connection = b.connection
    FROM etl_batches AS b WHERE b.batch_id = r.batch_id AND b.connection <> 'default';
ALTER TABLE etl_rejects
    DROP CONSTRAINT etl_rejects_source_stream_reject_hash_key,
    ADD CONSTRAINT etl_rejects_met UNIQUE (source, connection, stream, reject_hash);
DROP INDEX etl_rejects_replay;
CREATE INDEX etl_rejects_replay
    ON etl_rejects (source, connection, stream, extracted_at, reject_id);
DROP INDEX etl_rejects_unread;
CREATE INDEX etl_rejects_unread ON etl_rejects (source, connection, stream, last_seen, reject_id)
    WHERE stage = 'extract';

-- The tables of the sources that come with the platform, as far as they are there. A key with the
-- hash in its index is ours and gets the connection into it; any other table, and a key that
-- something else depends on, is completed by the loader when it next loads into it.
DO $$
DECLARE
    name    text;
    root    regclass;
    old     record;
    columns text;
BEGIN
    FOREACH name IN ARRAY ARRAY['events', 'etl_identities', 'temporal_workflows', 'st_customers',
                                'st_jobs', 'st_invoices', 'st_estimates'] LOOP
        root := to_regclass(quote_ident(current_schema()) || '.' || name);
        CONTINUE WHEN root IS NULL
            OR NOT EXISTS (SELECT FROM pg_class WHERE oid = root AND relkind IN ('r', 'p'))
            OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = root AND attname = 'connection'
                       AND NOT attisdropped);
        -- A constant default touches no row.
        EXECUTE format('ALTER TABLE %s ADD COLUMN connection text COLLATE "C" NOT NULL '
                       'DEFAULT ''default''', root);
        SELECT c.conname,
            (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.position)
             FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (attnum, position)
             JOIN pg_attribute AS a ON a.attrelid = root AND a.attnum = k.attnum) AS key_columns
        INTO old
        FROM pg_index AS i JOIN pg_constraint AS c ON c.conindid = i.indexrelid AND c.contype = 'p'
        WHERE i.indrelid = root AND EXISTS (
            SELECT FROM pg_attribute AS a WHERE a.attrelid = root AND a.attname = 'row_hash'
              AND a.attnum = ANY (i.indkey[i.indnkeyatts:]));
        CONTINUE WHEN old.conname IS NULL;
        columns := CASE WHEN name = 'events'
            THEN replace(old.key_columns, 'source_kind_id', 'source_kind_id, connection')
            ELSE 'connection, ' || old.key_columns END;
        BEGIN
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', root, old.conname);
            EXECUTE format('ALTER TABLE %s ADD PRIMARY KEY (%s) INCLUDE (row_hash)', root, columns);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE WARNING '% keeps its key: %', root, SQLERRM;
        END;
    END LOOP;
END
$$;
