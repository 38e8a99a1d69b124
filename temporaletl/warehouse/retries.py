"""Retries: what failed in a batch, and is run again by a batch of its own.

The batch that planned the jobs and all retries of it are a family. A job of it is loaded once any
of them has completed it: a retry has the same slices, and so the same job ids. One that was shown
less than there is (`held`) has loaded nothing for certain. What was cancelled by a person has not
failed; what a batch left open that failed as a whole, has.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from temporaletl.errors import NotFoundError
from temporaletl.messages import BatchMetadata, ETLInput
from temporaletl.rows import storable_text
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.cursors import unescaped
from temporaletl.warehouse.sessions import only_row
from temporaletl.warehouse.stored_batches import COLUMNS, stored_batch

_AT_ONCE = 500
_FAILED = """
    FROM etl_jobs AS j JOIN etl_batches AS b USING (batch_id)
    WHERE j.batch_id = %(batch)s
      AND (j.state = 'failed' OR (j.state = 'cancelled' AND b.summary->>'error' IS NOT NULL))
      AND NOT EXISTS (
          SELECT FROM etl_jobs AS o JOIN etl_batches AS r USING (batch_id)
          WHERE o.job_id = j.job_id AND o.state = 'completed' AND r.held IS NULL
            AND r.original = coalesce(b.original, b.batch_id))
"""


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """A batch that may be retried: its jobs by stream that failed and nothing has loaded since.

    `loaded` counts those that failed and a retry has loaded.
    """

    metadata: BatchMetadata
    workflow_id: str
    state: str
    ended: bool
    planned: bool  # whether all its jobs were
    failed: dict[str, int]
    loaded: int
    jobs_removed_at: datetime | None  # nothing of it can be retried then


def find_failed(warehouse: Warehouse, name: str) -> FailedBatch:
    """The batch of that id, or the latest of that workflow id, with what failed in it.

    Raises:
        NotFoundError: the ledger has none.
    """
    with warehouse.connection() as connection:
        row = (
            connection.cursor(row_factory=dict_row)
            .execute(
                f"SELECT {COLUMNS}, workflow_id, state, ended_at IS NOT NULL AS ended, "  # noqa: S608 - constant
                "jobs_planned IS NOT NULL AS planned, jobs_removed_at FROM etl_batches "
                "WHERE batch_id = %(name)s OR workflow_id = %(name)s "
                "ORDER BY created_at DESC LIMIT 1",
                {"name": storable_text(name)},
            )
            .fetchone()
        )
        if row is None:
            raise NotFoundError(
                f"the ledger has no run {name!r} (`etl status` lists the latest; one whose jobs "
                "are not planned yet has none)"
            )
        of_batch = {"batch": row["batch_id"]}
        failed: Sequence[Any] = connection.execute(
            f"SELECT j.stream, count(*) {_FAILED} GROUP BY 1",
            of_batch,
        ).fetchall()
        total = only_row(
            connection.execute(
                "SELECT count(*) FROM etl_jobs WHERE batch_id = %(batch)s AND state = 'failed'",
                of_batch,
            )
        )[0]
    batch = stored_batch(row)
    if batch.fault is not None:
        raise batch.fault
    by_stream = {str(stream): int(count) for stream, count in failed}
    return FailedBatch(
        metadata=batch.metadata,
        workflow_id=row["workflow_id"],
        state=row["state"],
        ended=row["ended"],
        planned=row["planned"],
        failed=by_stream,
        loaded=max(0, int(total) - sum(by_stream.values())),
        jobs_removed_at=row["jobs_removed_at"],
    )


def failed_inputs(warehouse: Warehouse, batch_id: str, *, after: int = -1) -> list[ETLInput]:
    """The next jobs of a batch that failed, behind one, given by its number; as they were planned.

    Those that a retry has loaded since are left out.
    """
    with warehouse.connection() as connection:
        found = connection.execute(
            f"SELECT j.input::text {_FAILED} AND j.seq > %(after)s ORDER BY j.seq LIMIT %(most)s",
            {"batch": batch_id, "after": after, "most": _AT_ONCE},
        ).fetchall()
    return [ETLInput.model_validate(unescaped(json.loads(str(text)))) for (text,) in found]


@dataclass(frozen=True, slots=True)
class Family:
    """A batch and all retries of it, seen from one of them."""

    original: str
    began: datetime
    members: frozenset[str]


def family_of(connection: Connection, batch_id: str) -> Family:
    """The family of a batch; one that nobody retried is alone in it."""
    rows: Sequence[Any] = connection.execute(
        """
        SELECT f.batch_id, f.created_at, f.original IS NULL
        FROM etl_batches AS b JOIN etl_batches AS f
          ON coalesce(b.original, b.batch_id) IN (f.batch_id, f.original)
        WHERE b.batch_id = %s
        """,
        [batch_id],
    ).fetchall()
    [(original, began)] = [(member, at) for member, at, is_first in rows if is_first]
    return Family(original, began, frozenset(member for member, _, _ in rows))
