-- The ledger: what was planned, what ran, and which page of which run wrote a row.

CREATE TABLE etl_batches (
    batch_id     text PRIMARY KEY,
    source       text NOT NULL,
    mode         text NOT NULL,
    connection   text NOT NULL,
    metadata     jsonb NOT NULL,
    state        text NOT NULL,
    workflow_id  text NOT NULL,
    run_id       text NOT NULL,
    -- The attempt that writes the jobs; an older one that still runs finds itself replaced.
    planner      text,
    jobs_planned integer,
    summary      jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz
);

CREATE TABLE etl_jobs (
    batch_id      text NOT NULL REFERENCES etl_batches ON DELETE CASCADE,
    seq           integer NOT NULL,
    job_id        text NOT NULL,
    source        text NOT NULL,
    stream        text NOT NULL,
    window_start  timestamptz,
    window_end    timestamptz,
    input         jsonb NOT NULL,
    state         text NOT NULL DEFAULT 'planned',
    -- The position behind the last committed page; `pages` counts the commits and fences them.
    cursor        jsonb,
    pages         integer NOT NULL DEFAULT 0,
    records       bigint NOT NULL DEFAULT 0,
    inserted      bigint NOT NULL DEFAULT 0,
    updated       bigint NOT NULL DEFAULT 0,
    unchanged     bigint NOT NULL DEFAULT 0,
    rejected      bigint NOT NULL DEFAULT 0,
    error         text,
    workflow_id   text,
    run_id        text,
    started_at    timestamptz,
    touched_at    timestamptz,
    ended_at      timestamptz,
    PRIMARY KEY (batch_id, seq)
);

CREATE UNIQUE INDEX etl_jobs_job_id ON etl_jobs (job_id, batch_id);
CREATE INDEX etl_jobs_running ON etl_jobs (source, stream) WHERE state = 'running';

CREATE TABLE etl_pages (
    batch_id      text NOT NULL,
    seq           integer NOT NULL,
    page          integer NOT NULL,
    job_id        text NOT NULL,
    workflow_id   text NOT NULL,
    run_id        text NOT NULL,
    cursor_before jsonb,
    cursor_after  jsonb,
    records       integer NOT NULL,
    inserted      integer NOT NULL,
    updated       integer NOT NULL,
    unchanged     integer NOT NULL,
    rejected      integer NOT NULL,
    extracted_at  timestamptz NOT NULL,
    loaded_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (batch_id, seq, page),
    FOREIGN KEY (batch_id, seq) REFERENCES etl_jobs ON DELETE CASCADE
);

CREATE INDEX etl_pages_lineage ON etl_pages (run_id, job_id, extracted_at);

CREATE TABLE etl_sync_state (
    source                text NOT NULL,
    stream                text NOT NULL,
    connection            text NOT NULL DEFAULT 'default',
    -- Everything before this moment is loaded; an incremental window begins here.
    watermark             timestamptz,
    last_full_at          timestamptz,
    last_incremental_at   timestamptz,
    records               bigint NOT NULL DEFAULT 0,
    state                 text NOT NULL,
    batch_id              text,
    updated_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, stream, connection)
);

CREATE TABLE etl_rejects (
    reject_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source       text NOT NULL,
    stream       text NOT NULL,
    -- xxh3 of stage, key and payload: the same reject met again is counted, not repeated.
    reject_hash  bigint NOT NULL,
    stage        text NOT NULL,
    reason       text NOT NULL,
    key          text,
    payload      jsonb,
    times        integer NOT NULL DEFAULT 1,
    batch_id     text NOT NULL,
    job_id       text NOT NULL,
    workflow_id  text NOT NULL,
    run_id       text NOT NULL,
    first_seen   timestamptz NOT NULL DEFAULT now(),
    last_seen    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source, stream, reject_hash)
);
