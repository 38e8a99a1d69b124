"""Executions of pipelines, and the states of their nodes.

Every function runs in one short transaction of its own and is safe to repeat.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.errors import NotFoundError
from temporaletl.messages import Message
from temporaletl.names import execution_workflow_id
from temporaletl.rows import storable_text
from temporaletl.telemetry.metrics import executions
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row

ENDED = ("completed", "failed", "cancelled", "timed_out")


class NewExecution(Message):
    """An execution to enter. `resumed_from` and `resumed_node`: see `copy_results`."""

    execution_id: str
    document: dict[str, JsonValue]
    sha256: str
    started_how: str
    pipeline: str | None = None
    started_by: str | None = None
    event_key: str | None = None
    parent: str | None = None
    parent_node: str | None = None
    resumed_from: str | None = None
    resumed_node: str | None = None
    timeout: timedelta | None = None
    #: Of the workflow that a Temporal client started by itself; else it follows from the id.
    workflow_id: str | None = None


class StoredExecution(NewExecution):
    """An execution as the warehouse has it."""

    state: str
    error: str | None
    error_node: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class ExecutionFilter(NamedTuple):
    """Which executions: of a pipeline, in a state, older than `before`; at most `limit`."""

    pipeline: str | None = None
    state: str | None = None
    before: datetime | None = None
    limit: int = 50


class ExecutionEntry(NamedTuple):
    """An execution in a list; `nodes` counts those that were settled, `of` all of them."""

    execution_id: str
    pipeline: str | None
    sha256: str
    state: str
    error: str | None
    error_node: str | None
    started_how: str
    started_by: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    nodes: int
    of: int


_COLUMNS = ", ".join(StoredExecution.model_fields)


def enter_execution(connection: Connection, new: NewExecution) -> bool:
    """Enter an execution, in the caller's transaction; False where it is there already."""
    values = {**new.model_dump(), "document": Jsonb(new.document)}
    columns, fields = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    statement = f"INSERT INTO pipeline_executions ({columns}) VALUES ({fields})"  # noqa: S608
    return connection.execute(f"{statement} ON CONFLICT DO NOTHING", values).rowcount == 1


def enter_refused(warehouse: Warehouse, new: NewExecution, error: str) -> None:
    """Enter an execution that cannot begin as one that failed, unless it is there already."""
    with warehouse.connection() as connection:
        if enter_execution(connection, new):
            connection.execute(
                """
                UPDATE pipeline_executions SET state = 'failed', error = %s,
                    started_at = clock_timestamp(), ended_at = clock_timestamp()
                WHERE execution_id = %s
                """,
                [storable_text(error), new.execution_id],
            )


def find_event(warehouse: Warehouse, pipeline: str, event_key: str) -> str | None:
    """The execution that an event has started."""
    with warehouse.connection() as connection:
        row = connection.execute(
            "SELECT execution_id FROM pipeline_executions WHERE pipeline = %s AND event_key = %s",
            [pipeline, event_key],
        ).fetchone()
    return None if row is None else str(row[0])


def read_execution(warehouse: Warehouse, execution_id: str) -> StoredExecution:
    """An execution.

    Raises:
        NotFoundError: there is none of that id.
    """
    with warehouse.connection() as connection:
        row = (
            connection.cursor(row_factory=class_row(StoredExecution))
            .execute(
                f"SELECT {_COLUMNS} FROM pipeline_executions WHERE execution_id = %s",  # noqa: S608
                [execution_id],
            )
            .fetchone()
        )
    if row is None:
        raise NotFoundError(f"there is no execution {execution_id!r}")
    return row


def begin_execution(warehouse: Warehouse, execution_id: str) -> datetime:
    """Take note that an execution runs; returns when it began."""
    with warehouse.connection() as connection:
        row = only_row(
            connection.execute(
                """
                UPDATE pipeline_executions
                SET state = CASE state WHEN 'pending' THEN 'running' ELSE state END,
                    started_at = coalesce(started_at, clock_timestamp())
                WHERE execution_id = %s RETURNING started_at
                """,
                [execution_id],
            )
        )
    began: datetime = row[0]
    return began


def end_execution(
    warehouse: Warehouse,
    execution_id: str,
    state: str,
    *,
    skipped: Mapping[str, str],
    error: str | None,
    error_node: str | None,
) -> None:
    """End an execution, and every node of it that is not settled; the first end stands.

    `skipped` are the nodes that never ran, with their types.
    """
    with warehouse.connection() as connection:
        ended = connection.execute(
            """
            UPDATE pipeline_executions
            SET state = %(state)s, error = %(error)s, error_node = %(error_node)s,
                started_at = coalesce(started_at, clock_timestamp()),
                ended_at = clock_timestamp()
            WHERE execution_id = %(execution_id)s AND ended_at IS NULL RETURNING pipeline
            """,
            {
                "execution_id": execution_id,
                "state": state,
                "error": None if error is None else storable_text(error),
                "error_node": error_node,
            },
        ).fetchone()
        if ended is None:
            return
        connection.execute(
            """
            UPDATE pipeline_nodes SET state = %s, ended_at = clock_timestamp()
            WHERE execution_id = %s AND state = 'running'
            """,
            ["timed_out" if state == "timed_out" else "cancelled", execution_id],
        )
        connection.execute(
            """
            INSERT INTO pipeline_nodes (execution_id, node, type, state, attempts, ended_at)
            SELECT %s, node, type, 'skipped', 0, clock_timestamp()
            FROM unnest(%s::text[], %s::text[]) AS never(node, type)
            ON CONFLICT DO NOTHING
            """,
            [execution_id, [*skipped], [*skipped.values()]],
        )
    executions.add(1, pipeline=str(ended[0]), outcome=state)


def list_executions(warehouse: Warehouse, wanted: ExecutionFilter) -> list[ExecutionEntry]:
    """Executions that a filter passes, the latest first."""
    with warehouse.connection() as connection:
        return (
            connection.cursor(row_factory=class_row(ExecutionEntry))
            .execute(
                """
                SELECT e.execution_id, pipeline, sha256, e.state, e.error, error_node,
                       started_how, started_by, created_at, started_at, ended_at,
                       (SELECT count(*) FROM pipeline_nodes n
                        WHERE n.execution_id = e.execution_id AND n.ended_at IS NOT NULL) AS nodes,
                       jsonb_array_length(document -> 'nodes') AS of
                FROM pipeline_executions e
                WHERE (%(pipeline)s::text IS NULL OR pipeline = %(pipeline)s)
                  AND (%(state)s::text IS NULL OR e.state = %(state)s)
                  AND (%(before)s::timestamptz IS NULL OR created_at < %(before)s)
                ORDER BY created_at DESC, execution_id LIMIT %(limit)s
                """,
                wanted._asdict(),
            )
            .fetchall()
        )


def open_executions(warehouse: Warehouse, older_than: timedelta) -> list[tuple[str, str]]:
    """Executions that were entered so long ago and have not ended, with their workflows' ids."""
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT execution_id, coalesce(workflow_id, %s || execution_id)
            FROM pipeline_executions
            WHERE ended_at IS NULL AND created_at < clock_timestamp() - %s
            ORDER BY created_at
            """,
            [execution_workflow_id(""), older_than],
        )
        return [(str(row[0]), str(row[1])) for row in found]


def remove_executions(warehouse: Warehouse, kept: timedelta, most: int) -> int:
    """Remove executions that ended longer ago than `kept`, `most` of them; returns how many."""
    with warehouse.connection() as connection:
        return connection.execute(
            """
            DELETE FROM pipeline_executions WHERE execution_id IN (
                SELECT execution_id FROM pipeline_executions
                WHERE ended_at < clock_timestamp() - %s
                ORDER BY ended_at LIMIT %s FOR UPDATE SKIP LOCKED)
            """,
            [kept, most],
        ).rowcount
