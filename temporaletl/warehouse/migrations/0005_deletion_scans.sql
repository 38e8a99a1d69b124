-- What a source's account saw when rows were loaded, and what deletion scans know so far.

ALTER TABLE etl_jobs
    -- A deletion scan, or a second reading of what could not be read: no watermark waits for it.
    ADD COLUMN windowless boolean NOT NULL DEFAULT false,
    -- What a person should know of how it went, though nothing failed.
    ADD COLUMN note text;

-- The widest view under which rows were loaded: absence means something only to as wide a one.
CREATE TABLE etl_account_views (
    source       text NOT NULL,
    connection   text NOT NULL,
    accounts     text[] NOT NULL,
    permissions  text[] NOT NULL,
    containers   text[] NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, connection)
);

-- The items of a scan under way: listed, missing, present after all, gone, deleted, kept. Unlogged:
-- a scan that finds them lost after a crash, by its row `begun`, begins anew.
CREATE UNLOGGED TABLE etl_scan_items (
    batch_id  text NOT NULL,
    seq       integer NOT NULL,
    item      text COLLATE "C" NOT NULL,
    finding   text NOT NULL,
    PRIMARY KEY (batch_id, seq, item),
    FOREIGN KEY (batch_id, seq) REFERENCES etl_jobs ON DELETE CASCADE
);
CREATE INDEX etl_scan_items_finding ON etl_scan_items (batch_id, seq, finding)
    WHERE finding <> 'listed';

-- The filters, members or queries that the last finished scan of a stream compared.
CREATE TABLE etl_scans (
    source       text NOT NULL,
    stream       text NOT NULL,
    connection   text NOT NULL,
    scope        text[] NOT NULL,
    finished_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, stream, connection)
);

-- Items that a narrower scope covers no more: they stay, and no scan asks for them again.
CREATE TABLE etl_kept_items (
    source      text NOT NULL,
    stream      text NOT NULL,
    connection  text NOT NULL,
    item        text COLLATE "C" NOT NULL,
    kept_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, stream, connection, item)
);
