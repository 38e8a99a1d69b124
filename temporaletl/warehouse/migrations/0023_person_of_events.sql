-- The column that 0024 fills: who adds one keeps readers away until its transaction ends.

DO $$
DECLARE
    root regclass := to_regclass(quote_ident(current_schema()) || '.events');
BEGIN
    IF root IS NOT NULL AND 2 = (
        SELECT count(*) FROM pg_attribute WHERE attrelid = root AND NOT attisdropped
            AND attname IN ('connection', 'employee_id')
    ) AND NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = root AND NOT attisdropped AND attname = 'person'
    ) THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN person text', root);
    END IF;
END
$$;
