-- What is done through the API and the command line: who may, who did, and what was set up there.

CREATE TABLE etl_tokens (
    token_id       text COLLATE "C" PRIMARY KEY,
    name           text NOT NULL,
    scope          text NOT NULL CHECK (scope IN ('read', 'operate')),
    -- Of 256 random bits: nothing slower is needed.
    secret_sha256  bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    created_by     text NOT NULL,
    expires_at     timestamptz,
    last_used_at   timestamptz,
    revoked_at     timestamptz
);
CREATE UNIQUE INDEX etl_tokens_name ON etl_tokens (name) WHERE revoked_at IS NULL;

CREATE TABLE etl_sessions (
    session_sha256  bytea PRIMARY KEY,
    token_id        text COLLATE "C" NOT NULL REFERENCES etl_tokens,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL
);
CREATE INDEX etl_sessions_token ON etl_sessions (token_id);
CREATE INDEX etl_sessions_expiry ON etl_sessions (expires_at);

CREATE TABLE etl_audit (
    audit_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor       text NOT NULL,
    action      text NOT NULL,
    target      text NOT NULL,
    reason      text,
    outcome     text NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
    request_id  text,
    details     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX etl_audit_latest ON etl_audit (at DESC, audit_id DESC);

CREATE TABLE etl_idempotency_keys (
    token_id        text COLLATE "C" NOT NULL,
    route           text COLLATE "C" NOT NULL,
    key             text COLLATE "C" NOT NULL,
    request_sha256  bytea NOT NULL,
    -- Null while the request runs.
    status          integer,
    body            jsonb,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (token_id, route, key)
);
CREATE INDEX etl_idempotency_keys_age ON etl_idempotency_keys (created_at);

CREATE TABLE source_connections (
    connection_id  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name           text COLLATE "C" NOT NULL UNIQUE,
    source         text COLLATE "C" NOT NULL,
    settings       jsonb NOT NULL DEFAULT '{}',
    -- Where secrets are, {"env": …} or {"file": …}; never their values.
    secrets        jsonb NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    version        integer NOT NULL DEFAULT 1
);

CREATE TABLE collections (
    collection_id  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name           text NOT NULL UNIQUE,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    version        integer NOT NULL DEFAULT 1
);

-- Connections of the environment and of files can be members, too: no reference to a table.
CREATE TABLE collection_members (
    collection_id  uuid NOT NULL REFERENCES collections ON DELETE CASCADE,
    source         text COLLATE "C" NOT NULL,
    connection     text COLLATE "C" NOT NULL,
    PRIMARY KEY (collection_id, source, connection)
);
