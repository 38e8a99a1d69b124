"""Pause, resume and cancel of runs of the local engine: recorded, for whoever drives them."""

import asyncio
import uuid
from datetime import timedelta

from temporaletl.control.operations.control_answers import Action, Controlled
from temporaletl.control.operations.platform import NoLedgerError, OldLedgerError, Platform
from temporaletl.errors import ConflictError, WarehouseUnavailableError
from temporaletl.messages import FinishRequest, OpenState
from temporaletl.queuer.finishing import finish
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ownership import LeaseLostError, adopt_run, stored_metadata
from temporaletl.warehouse.reports import find_batch, find_job
from temporaletl.warehouse.run_control import RunControl, want
from temporaletl.warehouse.runs import Wanted, end_run

_WANTED: dict[Action, Wanted] = {"pause": "pause", "resume": "run", "cancel": "cancel"}
#: Longer than it takes to close a batch.
_LEASE = timedelta(minutes=1)


async def control_local_run(
    platform: Platform, name: str, action: Action, by: str | None
) -> Controlled | None:
    """Control a run of the local engine; None where no run of it has that name.

    None, too, while the warehouse does not say: Temporal's own runs are controlled without it.

    Raises:
        ConflictError: it has ended, is being cancelled, or it is a job: only its run is controlled.
    """
    if not platform.has_warehouse:
        return None
    try:
        warehouse = await platform.current_warehouse()
        found = await asyncio.to_thread(want, warehouse, name, _WANTED[action], by)
        if found is None:
            await asyncio.to_thread(_refuse_job, warehouse, name, action)
            return None
    except (NoLedgerError, OldLedgerError, WarehouseUnavailableError):
        return None
    run = found.run
    if not found.accepted:
        state = "has ended" if run.ended_at else "is being cancelled"
        raise ConflictError(f"{run.workflow_id} {state}: there is nothing to {action}")
    if platform.engine is not None:
        platform.engine.wake()
    if action == "cancel" and not run.owned:
        await asyncio.to_thread(_end_unowned, warehouse, run.workflow_id)
    return Controlled(
        "run",
        run.workflow_id,
        action,
        state=_state_after(found, action),
        jobs_running=found.jobs_running if run.owned else 0,
        engine="local",
        changed=found.before != _WANTED[action],
        stored=action == "resume" and not run.owned and platform.engine is None,
    )


def _state_after(found: RunControl, action: Action) -> OpenState:
    if action == "cancel":
        return "cancelling"
    if action == "resume":
        return "running" if found.planned else "planning"
    at_rest = not found.run.owned or (found.planned and not found.jobs_running)
    return "paused" if at_rest else "pausing"


def _refuse_job(warehouse: Warehouse, name: str, action: Action) -> None:
    job = find_job(warehouse, name)
    batch = find_batch(warehouse, job.batch_id) if job and job.batch_id else None
    if batch is not None and batch.engine == "local" and batch.ended_at is None:
        raise ConflictError(
            f"{name} is a job of a run of the local engine, which has no control of its own: "
            f"`etl {action} {batch.workflow_id}` is for the run"
        )


def _end_unowned(warehouse: Warehouse, workflow_id: str) -> None:
    """Close the books of a cancelled run that nobody drives; another process may be faster."""
    owner = f"cancel:{uuid.uuid4().hex[:8]}"
    owned = adopt_run(warehouse, owner, _LEASE, workflow_id=workflow_id)
    if owned is None:
        return
    error: str | None = "cancelled before it was planned"
    found = stored_metadata(warehouse, owned.batch_id)
    try:
        if found is not None:
            request = FinishRequest(
                metadata=found[0].metadata, workflow_id=workflow_id, cancelled=True
            )
            error = finish(warehouse, request, ownership=owned.ownership).error
    except LeaseLostError:
        return
    end_run(warehouse, workflow_id, error=error, owner=(owner, owned.ownership.epoch))
