"""Closing of batches: their summaries, and the watermarks that they move.

Plain functions, called by the activities and by the engine, which runs without Temporal.
"""

from temporaletl.messages import BatchSummary, FinishRequest
from temporaletl.telemetry.logs import get_logger
from temporaletl.telemetry.metrics import lost_runs
from temporaletl.warehouse import closing, state
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.leases import lapsed_batches
from temporaletl.warehouse.open_batches import OpenBatch
from temporaletl.warehouse.ownership import Ownership

log = get_logger("temporaletl.queuer.finishing")


def finish(
    warehouse: Warehouse, request: FinishRequest, *, ownership: Ownership | None = None
) -> BatchSummary:
    """Close a batch and move its watermarks. Safe to repeat: the first summary stands.

    A batch that a process of the local engine drives is closed under its `ownership` alone; whoever
    has that then ends the run.

    Raises:
        LeaseLostError: another process drives it.
    """
    summary = closing.finish_batch(
        warehouse,
        request.metadata,
        workflow_id=request.workflow_id,
        cancelled=request.cancelled,
        error=request.error,
        ownership=ownership,
    )
    state.advance(warehouse, request.metadata, summary)
    return summary


def end_lost(warehouse: Warehouse, batch: OpenBatch, error: str) -> BatchSummary | None:
    """Close a lost batch as failed, and move watermarks to what it has loaded.

    Its open jobs end as cancelled: pages of them that are still on their way are not loaded, and
    the next run covers their windows. None where it was closed already.
    """
    summary, first = closing.close_batch(
        warehouse, batch.metadata, workflow_id=batch.workflow_id, cancelled=False, error=error
    )
    state.advance(warehouse, batch.metadata, summary)
    return summary if first else None


def end_lapsed(warehouse: Warehouse) -> list[BatchSummary]:
    """As `end_lost`, for every batch whose process died with it: its lease has run out."""
    ended = []
    for batch in lapsed_batches(warehouse):
        summary = closing.close_lapsed(warehouse, batch)
        if summary is None:
            continue
        state.advance(warehouse, batch.metadata, summary)
        log.warning("batch_lost", batch_id=summary.batch_id, reason=summary.error)
        lost_runs.add(1, source=summary.source, connection=summary.connection)
        ended.append(summary)
    return ended
