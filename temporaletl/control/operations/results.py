"""Results of runs that have ended, for whoever did not follow them."""

import asyncio
from datetime import UTC, datetime

from pydantic import TypeAdapter

from temporaletl.control.operations.details import run_details
from temporaletl.control.operations.following import Ended, explain, is_misconfiguration
from temporaletl.control.operations.platform import PATIENCE, Platform
from temporaletl.control.operations.reports import RunReport
from temporaletl.errors import ConflictError, ETLError, NotFoundError
from temporaletl.messages import BatchSummary, Mode
from temporaletl.temporal import sdk
from temporaletl.warehouse.reports import summary_of
from temporaletl.warehouse.runs import find_run

_MODE: TypeAdapter[Mode] = TypeAdapter(Mode)


async def run_result(platform: Platform, name: str) -> Ended:
    """The result of a run, named by its workflow or batch id.

    Raises:
        NotFoundError: no run has that name.
        ConflictError: it goes on.
        ETLError: neither the warehouse nor Temporal can be reached.
    """
    run = (await run_details(platform, name)).run
    if run is None:
        raise NotFoundError(f"{name!r} is a job, and no run")
    if run.ended_at is None and run.state != "lost":
        raise ConflictError(f"{run.workflow_id} has not ended: it is {run.state}")
    summary = await _booked(platform, run)
    if summary is not None and summary.error is None:
        return Ended(summary)
    if run.engine == "local":
        found = await asyncio.to_thread(find_run, await platform.warehouse(), run.workflow_id)
        kind = None if found is None else found.error_type
        return Ended(summary or _known(run, None), misconfigured=is_misconfiguration(kind or ""))
    failure = await _failure(platform, run)
    misconfigured = failure is not None and is_misconfiguration(explain(failure)[1])
    return Ended(summary or _known(run, failure), misconfigured=misconfigured)


async def _booked(platform: Platform, run: RunReport) -> BatchSummary | None:
    warehouse = await platform.warehouse_if_any()
    if warehouse is None:
        return None
    return await asyncio.to_thread(summary_of, warehouse, run.workflow_id, run.run_id)


async def _failure(platform: Platform, run: RunReport) -> BaseException | None:
    """The error that ended the run's workflow; None without one, or where Temporal has none."""
    try:
        client = await platform.client()
        handle = client.get_workflow_handle(run.workflow_id, run_id=run.run_id)
        await handle.result(rpc_timeout=PATIENCE)
    except sdk.WorkflowFailureError as failure:
        return failure.cause
    except (sdk.RPCError, ETLError):
        return None
    return None


def _known(run: RunReport, failure: BaseException | None) -> BatchSummary:
    """What is known of a run that entered no result in the ledger."""
    ended = run.ended_at or datetime.now(UTC)
    return BatchSummary(
        batch_id=run.batch_id or "",
        workflow_id=run.workflow_id,
        source=run.source,
        connection=run.connection,
        mode=_MODE.validate_python(run.mode or "incremental"),
        state="cancelled" if run.state in ("cancelled", "skipped") else "failed",
        seconds=round((ended - run.started_at).total_seconds(), 3),
        error=explain(failure)[0] if failure is not None else run.error,
    )
