-- Tokens of language models: what nodes took of them, and the budget of each day.

CREATE TABLE pipeline_token_days (
    -- UTC.
    day     date PRIMARY KEY,
    -- Taken, or reserved by calls that have not been answered.
    tokens  bigint NOT NULL DEFAULT 0
);

CREATE TABLE pipeline_model_use (
    execution_id       text COLLATE "C" NOT NULL REFERENCES pipeline_executions ON DELETE CASCADE,
    node               text COLLATE "C" NOT NULL,
    model              text,
    calls              bigint NOT NULL DEFAULT 0,
    prompt_tokens      bigint NOT NULL DEFAULT 0,
    completion_tokens  bigint NOT NULL DEFAULT 0,
    -- By calls under way, and for ever by those whose end nobody knows.
    reserved_tokens    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (execution_id, node)
);

COMMENT ON TABLE pipeline_token_days IS
    'Tokens that language models took by day, for the budget that all workers share.';
COMMENT ON COLUMN pipeline_token_days.day IS 'the day, UTC';
COMMENT ON COLUMN pipeline_token_days.tokens IS
    'tokens taken by calls that began on it, or reserved by them';
COMMENT ON TABLE pipeline_model_use IS
    'What nodes of the type ai_agent took of a language model, with failed attempts and the items of a map.';
COMMENT ON COLUMN pipeline_model_use.execution_id IS 'the execution';
COMMENT ON COLUMN pipeline_model_use.node IS 'the node';
COMMENT ON COLUMN pipeline_model_use.model IS 'the model that answered last';
COMMENT ON COLUMN pipeline_model_use.calls IS 'calls that were answered';
COMMENT ON COLUMN pipeline_model_use.prompt_tokens IS 'tokens of what it was asked';
COMMENT ON COLUMN pipeline_model_use.completion_tokens IS 'tokens of its answers';
COMMENT ON COLUMN pipeline_model_use.reserved_tokens IS
    'tokens reserved by calls under way, and by those of which it is unknown what they took';
