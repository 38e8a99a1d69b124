"""Leases of batches that a process runs by itself: heartbeats in place of a workflow.

Such a batch has a lease, which its process renews. Of a source and connection, the ledger takes
one batch with a lease that has not ended: its index `etl_batches_leased` sees to that, whatever
processes do, and in ordinary transactions. Once a lease has run out, anybody may close the batch,
and nobody need do it in time: whoever comes next does. The process that let it run out finds its
batch closed, its jobs ended, and loads nothing more.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import dict_row

from temporaletl.messages import BatchMetadata
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.stored_batches import COLUMNS, stored_batch


@dataclass(frozen=True, slots=True)
class LeasedBatch:
    """A batch with a lease, that has not ended."""

    metadata: BatchMetadata
    workflow_id: str
    lease_until: datetime


def silent_since(lease_until: datetime) -> str:
    """What is said of a batch whose lease has run out."""
    return (
        "lost: the process that ran it has given no sign of life since "
        f"{lease_until.isoformat(timespec='seconds')}"
    )


def renew_lease(warehouse: Warehouse, batch_id: str, lease: timedelta) -> bool:
    """Renew a batch's lease for so long from now; return whether it has not ended yet."""
    with warehouse.connection() as connection:
        renewed = connection.execute(
            """
            UPDATE etl_batches SET lease_until = clock_timestamp() + %s
            WHERE batch_id = %s AND ended_at IS NULL AND lease_until IS NOT NULL
            """,
            [lease, batch_id],
        )
        return renewed.rowcount == 1


def lapsed_batches(warehouse: Warehouse) -> list[LeasedBatch]:
    """The batches that have not ended though their lease has run out, the oldest first."""
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"SELECT {COLUMNS}, workflow_id, lease_until FROM etl_batches "  # noqa: S608 - constant
            "WHERE ended_at IS NULL AND lease_until < clock_timestamp() ORDER BY created_at"
        ).fetchall()
    return [
        LeasedBatch(stored_batch(row).metadata, row["workflow_id"], row["lease_until"])
        for row in rows
    ]


def is_lapsed(connection: Connection, batch_id: str) -> bool:
    """Whether a batch's lease has run out; then it cannot be renewed before the transaction ends.

    A batch that has ended has no lease that could run out.
    """
    row = connection.execute(
        """
        SELECT lease_until < clock_timestamp() FROM etl_batches
        WHERE batch_id = %s AND ended_at IS NULL AND lease_until IS NOT NULL FOR UPDATE
        """,
        [batch_id],
    ).fetchone()
    return row == (True,)
