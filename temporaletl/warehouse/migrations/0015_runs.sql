-- Requests for runs, entered before any engine is asked, and who drives those of the local engine.

CREATE TABLE etl_runs (
    workflow_id   text COLLATE "C" PRIMARY KEY,
    source        text NOT NULL,
    connection    text NOT NULL,
    request       jsonb NOT NULL,
    -- In the local engine; Temporal gives its own.
    run_id        text NOT NULL,
    -- Null until it is decided, and then never changed.
    engine        text CHECK (engine IN ('temporal', 'local')),
    requested_by  text,
    requested_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- What the local engine shall do; Temporal's runs are told by updates and signals.
    wanted        text NOT NULL DEFAULT 'run' CHECK (wanted IN ('run', 'pause', 'cancel')),
    wanted_by     text,
    wanted_at     timestamptz,
    batch_id      text,
    error         text,
    -- Name of the error's class, which says who can correct it.
    error_type    text,
    ended_at      timestamptz,
    -- The process that drives it, where the engine is local, and until when it counts as alive.
    owner         text,
    epoch         integer NOT NULL DEFAULT 0,
    lease_until   timestamptz,
    -- Owners in a row that died; those before one that loaded a page are not counted.
    adoptions     integer NOT NULL DEFAULT 0,
    adopted_pages bigint NOT NULL DEFAULT 0
);

CREATE INDEX etl_runs_open ON etl_runs (source, connection) WHERE ended_at IS NULL;
CREATE INDEX etl_runs_batch ON etl_runs (batch_id);
CREATE INDEX etl_runs_latest ON etl_runs (requested_at DESC);

ALTER TABLE etl_batches ADD COLUMN engine text NOT NULL DEFAULT 'temporal';
UPDATE etl_batches SET engine = 'local' WHERE lease_until IS NOT NULL;

-- Runs that go on already keep another of their source from being started beside them.
INSERT INTO etl_runs (workflow_id, source, connection, request, run_id, engine, requested_at, batch_id)
SELECT DISTINCT ON (workflow_id) workflow_id, source, connection,
    jsonb_build_object('source', source, 'connection', connection, 'mode', mode),
    run_id, 'temporal', created_at, batch_id
FROM etl_batches WHERE ended_at IS NULL AND lease_until IS NULL
ORDER BY workflow_id, created_at DESC;
