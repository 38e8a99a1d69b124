-- Pipelines that users define: their versions, executions, and what each node gave.

CREATE TABLE pipelines (
    name        text COLLATE "C" PRIMARY KEY,
    -- The version that starts where none is named.
    latest      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE pipeline_versions (
    pipeline    text COLLATE "C" NOT NULL REFERENCES pipelines ON DELETE CASCADE,
    sha256      text COLLATE "C" NOT NULL,
    number      integer NOT NULL,
    -- As it was sent, with the keys that lay out its picture.
    document    jsonb NOT NULL,
    created_by  text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pipeline, sha256),
    UNIQUE (pipeline, number)
);

CREATE TABLE pipeline_executions (
    execution_id   text COLLATE "C" PRIMARY KEY,
    pipeline       text COLLATE "C",
    sha256         text COLLATE "C" NOT NULL,
    document       jsonb NOT NULL,
    state          text NOT NULL DEFAULT 'pending' CHECK (state IN
        ('pending', 'running', 'completed', 'failed', 'cancelled', 'timed_out')),
    error          text,
    error_node     text,
    started_how    text NOT NULL,
    started_by     text,
    -- Of what started it, so that it starts once: the id of an event, for one.
    event_key      text COLLATE "C",
    -- The node of another execution that waits for this one.
    parent         text COLLATE "C",
    parent_node    text,
    -- The execution whose results it goes on with, and the node from which it runs anew.
    resumed_from   text COLLATE "C",
    resumed_node   text,
    timeout        interval,
    -- Of the workflow that a Temporal client started by itself; else it follows from the id.
    workflow_id    text COLLATE "C",
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at     timestamptz,
    ended_at       timestamptz,
    UNIQUE (pipeline, event_key)
);

CREATE INDEX pipeline_executions_latest ON pipeline_executions (created_at DESC);
CREATE INDEX pipeline_executions_of ON pipeline_executions (pipeline, created_at DESC);
CREATE INDEX pipeline_executions_ended ON pipeline_executions (ended_at);
CREATE INDEX pipeline_executions_open ON pipeline_executions (created_at)
    WHERE ended_at IS NULL;

CREATE TABLE pipeline_nodes (
    execution_id   text COLLATE "C" NOT NULL REFERENCES pipeline_executions ON DELETE CASCADE,
    node           text COLLATE "C" NOT NULL,
    type           text NOT NULL,
    state          text NOT NULL CHECK (state IN
        ('running', 'completed', 'failed', 'skipped', 'cancelled', 'timed_out')),
    attempts       integer NOT NULL DEFAULT 1,
    -- Outcomes whose edges were taken; null is the outcome without a name.
    handles        text[],
    -- What it waits for: a time, a decision, a run, an execution, items.
    wait           jsonb,
    input_bytes    bigint NOT NULL DEFAULT 0,
    result_bytes   bigint,
    result_items   bigint,
    result_sha256  text,
    error          jsonb,
    -- What its type has to tell: tokens of a model, rows of a load.
    details        jsonb,
    -- The execution that recorded its result, where another one did.
    recorded_by    text COLLATE "C",
    started_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at       timestamptz,
    PRIMARY KEY (execution_id, node)
);

CREATE TABLE pipeline_results (
    execution_id   text COLLATE "C" NOT NULL REFERENCES pipeline_executions ON DELETE CASCADE,
    -- The input of the execution has the empty name.
    node           text COLLATE "C" NOT NULL,
    part           integer NOT NULL DEFAULT 0,
    items          bigint,
    bytes          bigint NOT NULL,
    body           bytea NOT NULL,
    PRIMARY KEY (execution_id, node, part)
);
-- Bodies are compressed already.
ALTER TABLE pipeline_results ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE pipeline_items (
    execution_id   text COLLATE "C" NOT NULL REFERENCES pipeline_executions ON DELETE CASCADE,
    node           text COLLATE "C" NOT NULL,
    item           integer NOT NULL,
    -- Of the item and of what is done with it: of another hash, it is done anew.
    input_sha256   text COLLATE "C" NOT NULL,
    state          text NOT NULL CHECK (state IN ('completed', 'failed')),
    attempts       integer NOT NULL DEFAULT 1,
    bytes          bigint NOT NULL DEFAULT 0,
    body           bytea,
    error          jsonb,
    ended_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (execution_id, node, item)
);
ALTER TABLE pipeline_items ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX pipeline_items_failed ON pipeline_items (execution_id, node, item)
    WHERE state = 'failed';

COMMENT ON TABLE pipelines IS
    'Pipelines that are stored, by name.';
COMMENT ON COLUMN pipelines.name IS 'the pipeline';
COMMENT ON COLUMN pipelines.latest IS 'the version that starts where none is named';
COMMENT ON COLUMN pipelines.created_at IS 'when its first version was stored';
COMMENT ON COLUMN pipelines.updated_at IS 'when its latest version was chosen';
COMMENT ON TABLE pipeline_versions IS
    'Versions of pipelines: what two definitions share that differ in their picture alone. A version never changes.';
COMMENT ON COLUMN pipeline_versions.pipeline IS 'the pipeline';
COMMENT ON COLUMN pipeline_versions.sha256 IS 'hash of what the definition does';
COMMENT ON COLUMN pipeline_versions.number IS 'number, from 1';
COMMENT ON COLUMN pipeline_versions.document IS 'the definition, with the keys of its picture';
COMMENT ON COLUMN pipeline_versions.created_by IS 'who stored it';
COMMENT ON COLUMN pipeline_versions.created_at IS 'when';
COMMENT ON TABLE pipeline_executions IS
    'Executions of pipelines. Those that ended longer than PIPELINE_RESULTS_KEPT_DAYS ago are deleted, with what their nodes gave.';
COMMENT ON COLUMN pipeline_executions.execution_id IS 'the execution';
COMMENT ON COLUMN pipeline_executions.pipeline IS
    'the pipeline; null where its definition has no name';
COMMENT ON COLUMN pipeline_executions.sha256 IS 'the version';
COMMENT ON COLUMN pipeline_executions.document IS 'its definition';
COMMENT ON COLUMN pipeline_executions.state IS
    'pending, running, completed, failed, cancelled or timed_out';
COMMENT ON COLUMN pipeline_executions.error IS 'why it failed';
COMMENT ON COLUMN pipeline_executions.error_node IS 'the node that failed';
COMMENT ON COLUMN pipeline_executions.started_how IS
    'workflow, api, command, schedule, webhook, pipeline or resume';
COMMENT ON COLUMN pipeline_executions.started_by IS 'who started it';
COMMENT ON COLUMN pipeline_executions.event_key IS
    'of the event that started it, so that it starts once';
COMMENT ON COLUMN pipeline_executions.parent IS 'the execution that waits for it';
COMMENT ON COLUMN pipeline_executions.parent_node IS 'the node of that one';
COMMENT ON COLUMN pipeline_executions.resumed_from IS
    'the execution whose results it goes on with';
COMMENT ON COLUMN pipeline_executions.resumed_node IS 'the node from which it runs anew';
COMMENT ON COLUMN pipeline_executions.timeout IS 'how long it may take';
COMMENT ON COLUMN pipeline_executions.workflow_id IS
    'the workflow, where a client of Temporal started it by itself';
COMMENT ON COLUMN pipeline_executions.created_at IS 'when it was requested';
COMMENT ON COLUMN pipeline_executions.started_at IS 'when it began';
COMMENT ON COLUMN pipeline_executions.ended_at IS 'when it ended; null before';
COMMENT ON TABLE pipeline_nodes IS
    'What became of the nodes of executions.';
COMMENT ON COLUMN pipeline_nodes.execution_id IS 'the execution';
COMMENT ON COLUMN pipeline_nodes.node IS 'the node';
COMMENT ON COLUMN pipeline_nodes.type IS 'type of the node';
COMMENT ON COLUMN pipeline_nodes.state IS
    'running (also where it waits), completed, failed, skipped, cancelled or timed_out';
COMMENT ON COLUMN pipeline_nodes.attempts IS 'attempts that began';
COMMENT ON COLUMN pipeline_nodes.handles IS
    'outcomes whose edges were taken; null is the one without a name';
COMMENT ON COLUMN pipeline_nodes.wait IS 'what it waits for, or waited for';
COMMENT ON COLUMN pipeline_nodes.input_bytes IS 'size of the results that it read';
COMMENT ON COLUMN pipeline_nodes.result_bytes IS 'size of its result, as JSON';
COMMENT ON COLUMN pipeline_nodes.result_items IS 'items of its result, where that is a list';
COMMENT ON COLUMN pipeline_nodes.result_sha256 IS 'hash of its result';
COMMENT ON COLUMN pipeline_nodes.error IS 'why its last attempt failed';
COMMENT ON COLUMN pipeline_nodes.details IS
    'what its type tells: rows of a load, tokens of a model';
COMMENT ON COLUMN pipeline_nodes.recorded_by IS
    'the execution that recorded its result, where this one took it over';
COMMENT ON COLUMN pipeline_nodes.started_at IS 'when it began';
COMMENT ON COLUMN pipeline_nodes.ended_at IS 'when it was settled; null before';
COMMENT ON TABLE pipeline_results IS
    'Results of nodes: JSON, compressed (zlib), in several parts where they are lists of much.';
COMMENT ON COLUMN pipeline_results.execution_id IS 'the execution';
COMMENT ON COLUMN pipeline_results.node IS 'the node; empty for the input of the execution';
COMMENT ON COLUMN pipeline_results.part IS 'part, from 0';
COMMENT ON COLUMN pipeline_results.items IS 'items of the part, where it is a list';
COMMENT ON COLUMN pipeline_results.bytes IS 'size as JSON';
COMMENT ON COLUMN pipeline_results.body IS 'the part';
COMMENT ON TABLE pipeline_items IS
    'What became of the items of a map.';
COMMENT ON COLUMN pipeline_items.execution_id IS 'the execution';
COMMENT ON COLUMN pipeline_items.node IS 'the node';
COMMENT ON COLUMN pipeline_items.item IS 'the item, from 0';
COMMENT ON COLUMN pipeline_items.input_sha256 IS
    'hash of the item and of what is done with it';
COMMENT ON COLUMN pipeline_items.state IS 'completed or failed';
COMMENT ON COLUMN pipeline_items.attempts IS 'attempts that began';
COMMENT ON COLUMN pipeline_items.bytes IS 'size of its result, as JSON';
COMMENT ON COLUMN pipeline_items.body IS 'its result, as in pipeline_results';
COMMENT ON COLUMN pipeline_items.error IS 'why it failed';
COMMENT ON COLUMN pipeline_items.ended_at IS 'when it was settled';
