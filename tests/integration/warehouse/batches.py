"""Batches and jobs to put into a ledger."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from temporaletl.messages import BatchMetadata, BatchSummary, ETLInput, Mode, Window
from temporaletl.strategies import Plan
from temporaletl.warehouse import closing, ledger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.plans import JobWriter

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def make_metadata(
    batch_id: str = "shop-1", mode: Mode = "incremental", **windows: Window
) -> BatchMetadata:
    """A batch of the source `shop`, of the stream `orders` unless others are given."""
    return BatchMetadata(
        batch_id=batch_id,
        source="shop",
        mode=mode,
        connection="default",
        windows=windows or {"orders": Window(start=NOON - 4 * HOUR, end=NOON)},
        worker_queue="q",
        started=NOON,
    )


def job(
    metadata: BatchMetadata, number: int, window: Window | None = None, **params: Any
) -> ETLInput:
    """The batch's job of that number, over its first stream's window unless another is given."""
    [(stream, whole), *_] = metadata.windows.items()
    return Plan(metadata).job(stream, window or whole, number=number, **params)


def begin(warehouse: Warehouse, metadata: BatchMetadata) -> None:
    ledger.begin_batch(warehouse, metadata, workflow_id="etl-shop", run_id="run")


def plan(warehouse: Warehouse, metadata: BatchMetadata, jobs: Iterable[ETLInput]) -> list[ETLInput]:
    """Begin the batch, plan the jobs, and return them as the ledger numbered them."""
    begin(warehouse, metadata)
    writer = JobWriter(warehouse, metadata.batch_id)
    if not writer.complete:
        writer.write(jobs)
        writer.close()
    return ledger.open_jobs(warehouse, metadata.batch_id, first=0, end=writer.count)[0]


def finish(
    warehouse: Warehouse,
    metadata: BatchMetadata,
    *,
    cancelled: bool = False,
    error: str | None = None,
) -> BatchSummary:
    return closing.finish_batch(
        warehouse, metadata, workflow_id="etl-shop", cancelled=cancelled, error=error
    )


def rows(warehouse: Warehouse, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with warehouse.connection() as connection:
        return list(connection.execute(statement.encode(), parameters).fetchall())


def load(warehouse: Warehouse, loaded: ETLInput, cursor: object, **counts: int) -> None:
    """Count a page of the job as loaded."""
    ledger.begin_job(warehouse, loaded, workflow_id="job/1", run_id="run")
    sums = "".join(f", {name} = {name} + {number}" for name, number in counts.items())
    with warehouse.connection() as connection:
        connection.execute(
            f"UPDATE etl_jobs SET pages = pages + 1, cursor = %s{sums} "
            "WHERE batch_id = %s AND seq = %s".encode(),
            [Jsonb(cursor), loaded.batch_id, loaded.seq],
        )
