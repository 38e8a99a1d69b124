"""Executions of pipelines, and the states of their nodes.

Every function runs in one short transaction of its own and is safe to repeat.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.errors import NotFoundError, RetryableError
from temporaletl.messages import Message
from temporaletl.names import execution_workflow_id
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row

ENDED = ("completed", "failed", "cancelled", "timed_out")
_SETTLED = ("completed", "failed", "skipped", "cancelled", "timed_out")


class SupersededNodeError(RetryableError):
    """Another attempt of the node is ahead of this one, which must not record anything."""


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


class NodeRecord(NamedTuple):
    """What the warehouse has of a node of an execution."""

    node: str
    type: str
    state: str
    attempts: int
    handles: list[str | None] | None
    wait: dict[str, Any] | None
    input_bytes: int
    result_bytes: int | None
    result_items: int | None
    result_sha256: str | None
    error: dict[str, Any] | None
    details: dict[str, Any] | None
    recorded_by: str | None
    started_at: datetime
    ended_at: datetime | None

    @property
    def is_settled(self) -> bool:
        return self.state in _SETTLED


class Measure(NamedTuple):
    """Size of a result: its JSON in bytes, its items where it is a list, its hash."""

    bytes: int
    items: int | None
    sha256: str


_COLUMNS = ", ".join(StoredExecution.model_fields)
_NODE_COLUMNS = ", ".join(NodeRecord._fields)


def enter_execution(connection: Connection, new: NewExecution) -> bool:
    """Enter an execution, in the caller's transaction; False where it is there already."""
    values = {**new.model_dump(), "document": Jsonb(new.document)}
    columns, fields = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    statement = f"INSERT INTO pipeline_executions ({columns}) VALUES ({fields})"  # noqa: S608
    return connection.execute(f"{statement} ON CONFLICT DO NOTHING", values).rowcount == 1


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


def read_nodes(warehouse: Warehouse, execution_id: str) -> list[NodeRecord]:
    """The nodes of an execution that have begun, in the order in which they did."""
    with warehouse.connection() as connection:
        return (
            connection.cursor(row_factory=class_row(NodeRecord))
            .execute(
                f"SELECT {_NODE_COLUMNS} FROM pipeline_nodes "  # noqa: S608 - names of our own
                "WHERE execution_id = %s ORDER BY started_at, node",
                [execution_id],
            )
            .fetchall()
        )


def begin_node(
    warehouse: Warehouse, execution_id: str, node: str, kind: str, *, counted: bool = True
) -> NodeRecord:
    """Begin an attempt of a node, and number it; of one that is settled or waits, nothing changes.

    Not `counted`, only the node is entered, where it never began.

    Raises:
        NotFoundError: there is no such execution.
    """
    with warehouse.connection() as connection:
        connection.execute(
            """
            INSERT INTO pipeline_nodes AS n (execution_id, node, type, state)
            SELECT execution_id, %(node)s, %(kind)s, 'running' FROM pipeline_executions
            WHERE execution_id = %(execution_id)s
            ON CONFLICT (execution_id, node) DO UPDATE SET attempts = n.attempts + 1
            WHERE %(counted)s AND n.state = 'running' AND n.wait IS NULL
            """,
            {"execution_id": execution_id, "node": node, "kind": kind, "counted": counted},
        )
        row = (
            connection.cursor(row_factory=class_row(NodeRecord))
            .execute(
                f"SELECT {_NODE_COLUMNS} FROM pipeline_nodes "  # noqa: S608 - names of our own
                "WHERE execution_id = %s AND node = %s",
                [execution_id, node],
            )
            .fetchone()
        )
    if row is None:
        raise NotFoundError(f"there is no execution {execution_id!r}")
    return row


def note_failure(
    warehouse: Warehouse, execution_id: str, node: str, error: Mapping[str, JsonValue]
) -> None:
    """Take note of why an attempt of a node failed, for who looks on meanwhile."""
    with warehouse.connection() as connection:
        connection.execute(
            "UPDATE pipeline_nodes SET error = %s "
            "WHERE execution_id = %s AND node = %s AND state = 'running'",
            [Jsonb(error), execution_id, node],
        )


def note_wait(
    connection: Connection,
    execution_id: str,
    node: str,
    attempt: int,
    wait: Mapping[str, JsonValue],
    *,
    input_bytes: int,
    details: Mapping[str, JsonValue] | None,
) -> None:
    """Record what a node waits for, in the caller's transaction.

    Raises:
        SupersededNodeError: it is not this attempt's to say.
    """
    found = connection.execute(
        """
        UPDATE pipeline_nodes
        SET wait = %(wait)s, error = NULL, input_bytes = %(input_bytes)s, details = %(details)s
        WHERE execution_id = %(execution_id)s AND node = %(node)s
          AND state = 'running' AND attempts = %(attempt)s
        """,
        {
            "execution_id": execution_id,
            "node": node,
            "attempt": attempt,
            "wait": Jsonb(wait),
            "input_bytes": input_bytes,
            "details": None if details is None else Jsonb(details),
        },
    )
    _check(found.rowcount, node)


def settle_node(
    connection: Connection,
    execution_id: str,
    node: str,
    state: str,
    *,
    attempt: int | None = None,
    handles: Sequence[str | None] = (),
    measure: Measure | None = None,
    input_bytes: int | None = None,
    error: Mapping[str, JsonValue] | None = None,
    details: Mapping[str, JsonValue] | None = None,
) -> None:
    """Settle a node that runs, in the transaction that writes its result.

    With an `attempt`, only that one may.

    Raises:
        SupersededNodeError: it is settled already, or another attempt runs.
    """
    found = connection.execute(
        """
        UPDATE pipeline_nodes
        SET state = %(state)s, handles = %(handles)s, ended_at = clock_timestamp(),
            error = %(error)s, result_bytes = %(bytes)s, result_items = %(items)s,
            result_sha256 = %(sha256)s, input_bytes = coalesce(%(input_bytes)s, input_bytes),
            details = coalesce(details || %(details)s, %(details)s, details)
        WHERE execution_id = %(execution_id)s AND node = %(node)s AND state = 'running'
          AND (%(attempt)s::integer IS NULL OR attempts = %(attempt)s)
        """,
        {
            "execution_id": execution_id,
            "node": node,
            "state": state,
            "attempt": attempt,
            "handles": list(handles),
            "error": None if error is None else Jsonb(error),
            "details": None if details is None else Jsonb(details),
            "input_bytes": input_bytes,
            **(measure._asdict() if measure else dict.fromkeys(Measure._fields)),
        },
    )
    _check(found.rowcount, node)


def _check(changed: int, node: str) -> None:
    if changed != 1:
        raise SupersededNodeError(f"another attempt of node {node} is ahead of this one")


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
            WHERE execution_id = %(execution_id)s AND ended_at IS NULL
            """,
            {
                "execution_id": execution_id,
                "state": state,
                "error": error,
                "error_node": error_node,
            },
        )
        if ended.rowcount != 1:
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


def count_nodes(warehouse: Warehouse, execution_id: str) -> dict[str, int]:
    """How many nodes of an execution are in each state."""
    with warehouse.connection() as connection:
        found = connection.cursor(row_factory=dict_row).execute(
            "SELECT state, count(*) AS nodes FROM pipeline_nodes "
            "WHERE execution_id = %s GROUP BY state ORDER BY state",
            [execution_id],
        )
        return {row["state"]: row["nodes"] for row in found}


def copy_nodes(connection: Connection, source: str, target: str, nodes: Sequence[str]) -> None:
    """Take over what another execution has recorded of nodes, in the caller's transaction.

    Nodes that did not complete run again.
    """
    values = {"source": source, "target": target, "nodes": list(nodes)}
    connection.execute(
        """
        INSERT INTO pipeline_nodes (execution_id, node, type, state, attempts, handles,
            input_bytes, result_bytes, result_items, result_sha256, error, details, recorded_by,
            started_at, ended_at)
        SELECT %(target)s, node, type, state, attempts, handles, input_bytes, result_bytes,
            result_items, result_sha256, error, details, coalesce(recorded_by, execution_id),
            started_at, ended_at
        FROM pipeline_nodes
        WHERE execution_id = %(source)s AND node = ANY (%(nodes)s) AND state = 'completed'
        ON CONFLICT DO NOTHING
        """,
        values,
    )
    connection.execute(
        """
        INSERT INTO pipeline_results (execution_id, node, part, items, bytes, body)
        SELECT %(target)s, r.node, r.part, r.items, r.bytes, r.body
        FROM pipeline_results r JOIN pipeline_nodes n USING (execution_id, node)
        WHERE r.execution_id = %(source)s AND r.node = ANY (%(nodes)s) AND n.state = 'completed'
        ON CONFLICT DO NOTHING
        """,
        values,
    )


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
