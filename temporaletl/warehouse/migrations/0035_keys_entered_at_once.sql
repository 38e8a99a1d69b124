-- Of tables divided by month: triggers leave the keys to a session that enters them itself.

DO $change$
DECLARE
    made text;
    left_to_them CONSTANT text :=
        $$current_setting('temporaletl.enters_keys', true) IS DISTINCT FROM 'on'$$;
BEGIN
    FOR made IN
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
        WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND t.tgparentid = 0
          AND t.tgname IN ('etl_keys_written', 'etl_keys_changed')
    LOOP
        made := replace(made, 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER');
        IF made LIKE '% FOR EACH ROW WHEN (%' THEN
            made := regexp_replace(
                made, 'WHEN (\(.*\)) EXECUTE', format('WHEN (\1 AND %s) EXECUTE', left_to_them)
            );
        ELSE
            made := replace(
                made, 'FOR EACH ROW', format('FOR EACH ROW WHEN (%s)', left_to_them)
            );
        END IF;
        EXECUTE made;
    END LOOP;
END
$change$;
