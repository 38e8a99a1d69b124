"""Open batches: those that have not ended, and the Temporal namespaces of their workflows."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg.rows import dict_row

from temporaletl.messages import BatchMetadata
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.stored_batches import COLUMNS, stored_batch


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace of a Temporal server, as a process reaches it.

    `id` is the server's own; a server that was restarted empty gives another one, and None is
    one that did not say.
    """

    address: str
    name: str
    id: str | None = None

    def __str__(self) -> str:
        return f"Temporal at {self.address}, namespace {self.name}"

    def is_place_of(self, recorded: "Namespace | None") -> bool:
        """Whether what was begun in `recorded` would be here if it were anywhere.

        A namespace keeps its id under another address; and at the same address, a server that
        lost what it knew gives the namespace another id.
        """
        if recorded is None:
            return False
        same_id = self.id is not None and self.id == recorded.id
        return same_id or (self.address, self.name) == (recorded.address, recorded.name)


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that has not ended. `unsighted` is how long no queuer found its workflow running."""

    metadata: BatchMetadata
    workflow_id: str
    run_id: str  # the first run's, where the workflow continued as new or was reset
    namespace: Namespace | None  # None: begun before that was recorded
    unsighted: timedelta


_COLUMNS = f"""
    {COLUMNS}, workflow_id, run_id, temporal_address, temporal_namespace, temporal_namespace_id,
    clock_timestamp() - coalesce(sighted_at, created_at) AS unsighted
"""


def open_batches(warehouse: Warehouse) -> list[OpenBatch]:
    """The batches of workflows that have not ended, the oldest first."""
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"SELECT {_COLUMNS} FROM etl_batches "  # noqa: S608 - constant
            "WHERE ended_at IS NULL AND engine = 'temporal' ORDER BY created_at"
        ).fetchall()
    return [_batch(row) for row in rows]


def open_batch(warehouse: Warehouse, batch_id: str) -> OpenBatch | None:
    """The batch of that id; None where there is none, or where it has ended."""
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"SELECT {_COLUMNS} FROM etl_batches "  # noqa: S608 - constant
            "WHERE batch_id = %s AND ended_at IS NULL",
            [batch_id],
        ).fetchone()
    return None if row is None else _batch(row)


def _batch(row: dict[str, Any]) -> OpenBatch:
    address = row["temporal_address"]
    return OpenBatch(
        metadata=stored_batch(row).metadata,
        workflow_id=row["workflow_id"],
        run_id=row["run_id"],
        namespace=None
        if address is None
        else Namespace(address, row["temporal_namespace"], row["temporal_namespace_id"]),
        unsighted=row["unsighted"],
    )


def sight(warehouse: Warehouse, batch_id: str, namespace: Namespace) -> None:
    """Record that a batch's workflow runs there. Safe to repeat."""
    with warehouse.connection() as connection:
        connection.execute(
            """
            UPDATE etl_batches SET sighted_at = clock_timestamp(), temporal_address = %s,
                temporal_namespace = %s,
                temporal_namespace_id = coalesce(%s, temporal_namespace_id)
            WHERE batch_id = %s AND ended_at IS NULL
            """,
            [namespace.address, namespace.name, namespace.id, batch_id],
        )
