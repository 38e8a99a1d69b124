"""An empty warehouse is as a new one, whoever used its schema before."""

from collections.abc import Iterator

import psycopg
import pytest

from temporaletl.testing.empty_schemas import EmptySchemas
from temporaletl.testing.postgres import empty_warehouse

_AUDITED = (
    "INSERT INTO etl_audit (actor, action, target, outcome) "
    "VALUES ('ann', repeat('x', {length}), 'run', 'done') RETURNING audit_id"
)
_BATCH = (
    "INSERT INTO etl_batches (batch_id, source, mode, connection, metadata, state, workflow_id, "
    "run_id) VALUES ('b', 'jira', 'full', 'default', '{}', 'running', 'w', 'r')"
)
_JOB = (
    "INSERT INTO etl_jobs (batch_id, seq, job_id, source, stream, input) "
    "VALUES ('b', 0, 'j', 'jira', 'issues', '{}')"
)
_COUNTED = (
    "SELECT (SELECT count(*) FROM etl_batches), (SELECT count(*) FROM etl_jobs), "
    "(SELECT count(*) FROM etl_audit)"
)


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as opened:
        yield opened


@pytest.fixture
def schemas(connection: psycopg.Connection) -> Iterator[EmptySchemas]:
    made = EmptySchemas()
    yield made
    made.drop_free(connection)


def _use(connection: psycopg.Connection, schema: str, *statements: str) -> list[object]:
    """Execute statements in a schema; the rows of the last one."""
    connection.execute(f"SET search_path TO {schema}".encode())
    for statement in statements:
        found = connection.execute(statement.encode())
    return [*found] if found.description else []


def _number(connection: psycopg.Connection, schema: str) -> object:
    """What stays of a schema when it is emptied and gets another name."""
    return _use(connection, schema, f"SELECT '{schema}'::regnamespace::oid")


@pytest.mark.parametrize(
    "put",
    [
        [_AUDITED.format(length=1)] * 2,
        [_BATCH, _JOB],
        [_AUDITED.format(length=1_500)] * 200,
        ["CREATE TABLE a (id int PRIMARY KEY)", "CREATE VIEW b AS SELECT * FROM a, etl_audit"],
        ["CREATE TABLE a (id int) PARTITION BY LIST (id)", "CREATE TABLE b PARTITION OF a DEFAULT"],
    ],
    ids=["rows", "a job", "large rows", "a table", "parts"],
)
def test_a_schema_is_emptied_and_used_again(
    schemas: EmptySchemas, connection: psycopg.Connection, put: list[str]
) -> None:
    first = schemas.take(connection)
    number = _number(connection, first)
    _use(connection, first, *put)
    schemas.give_back(connection, first)
    again = schemas.take(connection)
    assert again != first
    assert _number(connection, again) == number
    assert _use(connection, again, _COUNTED) == [(0, 0, 0)]
    assert _use(connection, again, "SELECT to_regclass('a'), to_regclass('b')") == [(None, None)]
    assert _use(connection, again, _AUDITED.format(length=1)) == [(1,)]
    schemas.give_back(connection, again)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE etl_jobs ADD COLUMN more text",
        "ALTER TABLE etl_jobs ALTER COLUMN state SET DEFAULT 'odd'",
        "ALTER TABLE etl_runs DROP CONSTRAINT etl_runs_pkey CASCADE",
        "CREATE INDEX odd ON etl_jobs (state)",
        "CREATE FUNCTION odd() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "COMMENT ON TABLE etl_jobs IS 'odd'",
        "GRANT SELECT ON etl_jobs TO public",
        "GRANT USAGE ON SCHEMA {schema} TO public",
        "DROP TABLE etl_audit",
        "DELETE FROM etl_migrations",
        "INSERT INTO etl_migrations (name) VALUES ('odd')",
        "DROP SCHEMA {schema} CASCADE",
    ],
)
def test_a_schema_that_is_not_what_it_was_is_not_used_again(
    schemas: EmptySchemas, connection: psycopg.Connection, change: str
) -> None:
    first = schemas.take(connection)
    number = _number(connection, first)
    _use(connection, first, change.format(schema=first))
    schemas.give_back(connection, first)
    assert connection.execute("SELECT to_regnamespace(%s)", [first]).fetchone() == (None,)
    again = schemas.take(connection)
    assert _number(connection, again) != number
    schemas.give_back(connection, again)


def test_who_is_still_at_work_in_a_warehouse_that_was_given_up_meets_no_other(
    postgres_url: str,
) -> None:
    with empty_warehouse(postgres_url) as warehouse:
        left = warehouse.schema
    with (
        empty_warehouse(postgres_url) as another,
        psycopg.connect(postgres_url, options=f"-c search_path={left}") as late,
    ):
        assert another.schema != left
        with pytest.raises(psycopg.errors.UndefinedTable):
            late.execute(_AUDITED.format(length=1).encode())
