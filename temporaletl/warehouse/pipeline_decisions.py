"""Decisions that nodes of executions wait for: recorded before their workflow is told.

The first one stands, a person's as well as the end of the time.
"""

from datetime import datetime

from psycopg.rows import class_row
from pydantic import JsonValue

from temporaletl.errors import ConflictError, NotFoundError
from temporaletl.messages import Message
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.json_values import as_jsonb
from temporaletl.warehouse.pipeline_results import write_result


class RecordedDecision(Message):
    """A decision: its outcome, who took it and why; None for both at the end of the time."""

    outcome: str
    by: str | None = None
    comment: str | None = None
    at: datetime


def record_decision(
    warehouse: Warehouse,
    execution_id: str,
    node: str,
    outcome: str,
    *,
    by: str | None = None,
    comment: str | None = None,
    body: JsonValue = None,
    author: Author | None = None,
) -> bool:
    """Record what was decided of a node that waits; returns whether it is the first decision.

    With an `author`, the first one is audited. `body` is what a request brought: the node's result.
    Of a later decision nothing is kept; see `read_decision` for the one that stands. Safe to
    repeat.

    Raises:
        NotFoundError: there is no such execution, or its node has not begun.
        ConflictError: the node waits for no decision.
    """
    with warehouse.connection() as connection:
        found = (
            connection.cursor()
            .execute(
                """
                SELECT state, (wait ->> 'decision')::boolean IS TRUE, details ? 'decision'
                FROM pipeline_nodes WHERE execution_id = %s AND node = %s FOR UPDATE
                """,
                [execution_id, node],
            )
            .fetchone()
        )
        if found is None:
            raise NotFoundError(f"no node {node!r} of execution {execution_id!r} has begun")
        state, waits, decided = found
        if waits and decided:
            return False
        if state != "running" or not waits:
            raise ConflictError(f"node {node} does not wait for a decision: it is {state}")
        if body is not None:
            write_result(connection, execution_id, node, [body])
        connection.execute(
            """
            UPDATE pipeline_nodes
            SET details = coalesce(details, '{}') || jsonb_build_object('decision', %s::jsonb
                || jsonb_build_object('at', clock_timestamp()))
            WHERE execution_id = %s AND node = %s
            """,
            [as_jsonb({"outcome": outcome, "by": by, "comment": comment}), execution_id, node],
        )
        if author is not None:
            details: dict[str, JsonValue] = {"node": node, "outcome": outcome, "comment": comment}
            record(connection, author, "execution.decide", execution_id, details=details)
    return True


def read_decision(warehouse: Warehouse, execution_id: str, node: str) -> RecordedDecision | None:
    """The decision that stands; None where there is none yet."""
    with warehouse.connection() as connection:
        return (
            connection.cursor(row_factory=class_row(RecordedDecision))
            .execute(
                """
                SELECT decision ->> 'outcome' AS outcome, decision ->> 'by' AS by,
                       decision ->> 'comment' AS comment, (decision ->> 'at')::timestamptz AS at
                FROM (SELECT details -> 'decision' AS decision FROM pipeline_nodes
                      WHERE execution_id = %s AND node = %s) AS found
                WHERE decision IS NOT NULL
                """,
                [execution_id, node],
            )
            .fetchone()
        )
