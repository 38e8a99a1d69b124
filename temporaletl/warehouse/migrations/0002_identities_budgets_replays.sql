-- Who is who, what sources may be asked, and what replaying rejects and retracting rows needs.

ALTER TABLE etl_jobs
    ADD COLUMN deleted bigint NOT NULL DEFAULT 0,
    -- Records of which something was rejected; `rejected` counts the rejects.
    ADD COLUMN rejected_records bigint NOT NULL DEFAULT 0;
ALTER TABLE etl_pages ADD COLUMN deleted integer NOT NULL DEFAULT 0;

-- When the record was asked for: a replay of it must not overwrite what is newer.
ALTER TABLE etl_rejects ADD COLUMN extracted_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX etl_rejects_replay ON etl_rejects (source, stream, extracted_at, reject_id);

-- The table of the row class Identity: streams load it as they load any other.
CREATE TABLE etl_identities (
    source_kind_id    text COLLATE "C" NOT NULL,
    -- The id that the source's records carry.
    person            text COLLATE "C" NOT NULL,
    employee_id       text,
    email             text,
    name              text,
    timezone          text,
    version           text,
    specific_version  text,
    job_id            text,
    workflow_id       text,
    run_id            text,
    extracted_at      timestamptz,
    loaded_at         timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    row_hash          bigint,
    PRIMARY KEY (source_kind_id, person) INCLUDE (row_hash)
);

CREATE INDEX etl_identities_email ON etl_identities (lower(email)) WHERE employee_id IS NOT NULL;

-- One row for each credential whose requests are counted, by all workers together.
CREATE TABLE etl_budgets (
    source        text NOT NULL,
    connection    text NOT NULL,
    -- Requests are granted up to here.
    granted_until timestamptz NOT NULL DEFAULT '-infinity',
    -- The source asked to be left alone up to here.
    closed_until  timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (source, connection)
);
