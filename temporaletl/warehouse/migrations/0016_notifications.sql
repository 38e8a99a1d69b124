-- Who was notified of what, what is late, and the schedules as Temporal listed them last.

CREATE TABLE etl_notifications (
    event_key        text COLLATE "C" NOT NULL,
    -- By setting and position, never by URL.
    destination      text COLLATE "C" NOT NULL,
    kind             text NOT NULL
        CHECK (kind IN ('finished', 'failed', 'late', 'recovered', 'test')),
    source           text NOT NULL,
    connection       text NOT NULL,
    event            jsonb NOT NULL,
    state            text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'sending', 'sent', 'failed')),
    attempts         integer NOT NULL DEFAULT 0,
    -- A process died between sending and saying so: it was sent once again.
    repeated         boolean NOT NULL DEFAULT false,
    error            text,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- While it is sent: when its process is taken for dead.
    next_attempt_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at          timestamptz,
    PRIMARY KEY (event_key, destination)
);
CREATE INDEX etl_notifications_due ON etl_notifications (destination, next_attempt_at)
    WHERE state IN ('pending', 'sending');
CREATE INDEX etl_notifications_latest
    ON etl_notifications (created_at DESC, event_key DESC, destination DESC);

CREATE TABLE etl_notification_destinations (
    destination  text COLLATE "C" PRIMARY KEY,
    -- What ended before is not announced to it.
    since        timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX etl_batches_ended ON etl_batches (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE etl_late_streams (
    source      text COLLATE "C" NOT NULL,
    connection  text COLLATE "C" NOT NULL,
    stream      text COLLATE "C" NOT NULL,
    -- Null of one that was never loaded.
    due_at      timestamptz,
    noticed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, connection, stream)
);

CREATE TABLE etl_schedules (
    source           text COLLATE "C" NOT NULL,
    connection       text COLLATE "C" NOT NULL,
    streams          text[] NOT NULL,
    mode             text NOT NULL,
    paused           boolean NOT NULL,
    -- Null where its times are none of the week.
    timetable        jsonb,
    next_run         timestamptz,
    created_at       timestamptz NOT NULL,
    missed           bigint NOT NULL,
    skipped          bigint NOT NULL,
    -- When one of the two was first seen to have grown.
    missed_at        timestamptz,
    seen_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, connection)
);
