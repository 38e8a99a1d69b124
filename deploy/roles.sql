-- Users of the warehouse, each with what it needs, and no more:
--
--   etl_owner     owns the schema and all that is in it; nobody logs in as it
--   etl_migrator  `etl migrate`: every session of it is the owner
--   etl_loader    queuer, workers, `etl serve`, and other commands: reads and writes rows, creates nothing
--   etl_reader    analysts and tools: reads, and cannot write
--
-- Run it as a superuser in the warehouse's database; then `etl migrate` as etl_migrator:
--
--   psql "$ADMIN_URL" -f deploy/roles.sql
--   psql "$ADMIN_URL" -c '\password etl_migrator'    # and of the two others
--   WPE_DB_USER=etl_migrator WPE_DB_PASSWORD_FILE=… etl migrate
--
-- The schema is WPE_DB_SCHEMA's default, `workplace`; PGOPTIONS='-c etl.schema=NAME' names another one.
-- Safe to repeat, also on a warehouse that somebody else's user made: its tables change their owner.
DO $$
DECLARE
    wanted text := coalesce(nullif(current_setting('etl.schema', true), ''), 'workplace');
    database text := current_database();
    one record;
BEGIN
    FOR one IN SELECT * FROM (VALUES
        ('etl_owner', 'NOLOGIN'), ('etl_migrator', 'LOGIN'),
        ('etl_loader', 'LOGIN'), ('etl_reader', 'LOGIN')) AS roles (name, login)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = one.name) THEN
            EXECUTE format('CREATE ROLE %I %s', one.name, one.login);
        END IF;
    END LOOP;

    -- The migrator has nothing by itself: its sessions begin as the owner.
    IF current_setting('server_version_num')::int >= 160000 THEN
        GRANT etl_owner TO etl_migrator WITH INHERIT FALSE, SET TRUE;
    ELSE
        GRANT etl_owner TO etl_migrator;
    END IF;
    EXECUTE format('ALTER ROLE etl_migrator IN DATABASE %I SET role = %L', database, 'etl_owner');
    EXECUTE format('ALTER ROLE etl_reader IN DATABASE %I SET default_transaction_read_only = on',
        database);

    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', database);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO etl_migrator, etl_loader, etl_reader', database);
    -- Pages are staged in temporary tables.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO etl_loader', database);

    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION etl_owner', wanted);
    EXECUTE format('ALTER SCHEMA %I OWNER TO etl_owner', wanted);
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', wanted);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO etl_loader, etl_reader', wanted);

    FOR one IN
        SELECT c.relname AS name,
               CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                   WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind
        FROM pg_class c
        WHERE c.relnamespace = to_regnamespace(quote_ident(wanted))
          AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
          AND c.relowner <> 'etl_owner'::regrole
          -- A sequence of a column goes with its table.
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
              AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i'))
    LOOP
        EXECUTE format('ALTER %s %I.%I OWNER TO etl_owner', one.kind, wanted, one.name);
    END LOOP;
    FOR one IN
        SELECT p.oid::regprocedure AS name FROM pg_proc p
        WHERE p.pronamespace = to_regnamespace(quote_ident(wanted))
          AND p.proowner <> 'etl_owner'::regrole
    LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO etl_owner', one.name);
    END LOOP;

    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO etl_loader',
        wanted);
    EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO etl_loader', wanted);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO etl_reader', wanted);
    -- And on what `etl migrate` will create.
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE etl_owner IN SCHEMA %I '
        'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO etl_loader', wanted);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE etl_owner IN SCHEMA %I '
        'GRANT USAGE, SELECT ON SEQUENCES TO etl_loader', wanted);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE etl_owner IN SCHEMA %I '
        'GRANT SELECT ON TABLES TO etl_reader', wanted);
END
$$;
