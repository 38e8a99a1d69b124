"""States of nodes: each attempt is numbered, and the end recorded once, by the latest of them.

Functions that take a connection belong to the transaction that writes the node's result.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg.rows import class_row, dict_row
from pydantic import JsonValue

from temporaletl.errors import NotFoundError, RetryableError
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.json_values import as_jsonb

_SETTLED = ("completed", "failed", "skipped", "cancelled", "timed_out")


class SupersededNodeError(RetryableError):
    """Another attempt of the node is ahead of this one, which must not record anything."""


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


_NODE_COLUMNS = ", ".join(NodeRecord._fields)


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


def enter_node(
    connection: Connection, execution_id: str, node: str, kind: str, took: timedelta
) -> None:
    """Enter a node's first attempt, which `took` so long, in the transaction that settles it.

    Raises:
        SupersededNodeError: it has begun otherwise, or the execution has ended.
    """
    found = connection.execute(
        """
        INSERT INTO pipeline_nodes (execution_id, node, type, state, started_at)
        SELECT execution_id, %(node)s, %(kind)s, 'running', clock_timestamp() - %(took)s
        FROM pipeline_executions
        WHERE execution_id = %(execution_id)s AND ended_at IS NULL
        ON CONFLICT DO NOTHING
        """,
        {"execution_id": execution_id, "node": node, "kind": kind, "took": took},
    )
    _check(found.rowcount, node)


def note_failure(
    warehouse: Warehouse, execution_id: str, node: str, error: Mapping[str, JsonValue]
) -> None:
    """Take note of why an attempt of a node failed, for who looks on meanwhile."""
    with warehouse.connection() as connection:
        connection.execute(
            "UPDATE pipeline_nodes SET error = %s "
            "WHERE execution_id = %s AND node = %s AND state = 'running'",
            [as_jsonb(error), execution_id, node],
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
            "wait": as_jsonb(wait),
            "input_bytes": input_bytes,
            "details": None if details is None else as_jsonb(details),
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
            "error": None if error is None else as_jsonb(error),
            "details": None if details is None else as_jsonb(details),
            "input_bytes": input_bytes,
            **(measure._asdict() if measure else dict.fromkeys(Measure._fields)),
        },
    )
    _check(found.rowcount, node)


def _check(changed: int, node: str) -> None:
    if changed != 1:
        raise SupersededNodeError(f"another attempt of node {node} is ahead of this one")


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
        INSERT INTO pipeline_results (execution_id, node, part, items, bytes, body, key_id)
        SELECT %(target)s, r.node, r.part, r.items, r.bytes, r.body, r.key_id
        FROM pipeline_results r JOIN pipeline_nodes n USING (execution_id, node)
        WHERE r.execution_id = %(source)s AND r.node = ANY (%(nodes)s) AND n.state = 'completed'
        ON CONFLICT DO NOTHING
        """,
        values,
    )
