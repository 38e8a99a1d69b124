"""Retries of runs: a run of the jobs that failed in another one, and of nothing else."""

import asyncio
from collections.abc import Iterable
from datetime import datetime

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.runs import RunGoesOnError, run_request
from temporaletl.errors import ConflictError
from temporaletl.messages import QueuerInput
from temporaletl.names import connection_option, label
from temporaletl.warehouse.retries import FailedBatch, find_failed


class NothingFailedError(ConflictError):
    """Nothing of the run has failed, or all of that was loaded since."""


async def retry_request(platform: Platform, run: str, *, notify: bool = True) -> QueuerInput:
    """The request for a run of what failed in another one, named by its workflow or batch id.

    Its jobs have the windows and the parameters of those that failed, deletion scans as well; what
    a retry has loaded already is left out. Once all that the first run planned is loaded, by
    whichever of them, the watermarks move to where it would have moved them.

    Raises:
        NotFoundError: the ledger has no such run.
        RunGoesOnError: it has not ended.
        NothingFailedError: there is nothing to retry; says why.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    found = await asyncio.to_thread(find_failed, warehouse, run)
    metadata = found.metadata
    if not found.ended:
        raise RunGoesOnError(
            label(metadata.source, metadata.connection), found.workflow_id, found.state
        )
    if not found.failed or not found.planned:
        raise NothingFailedError(_nothing(found))
    windows = metadata.windows.values()
    is_backfill = metadata.mode == "backfill"
    request = run_request(
        metadata.source,
        connection=metadata.connection,
        mode=metadata.mode,
        streams=sorted(found.failed),
        date_start=_earliest(w.start for w in windows) if is_backfill else None,
        date_end=_latest(w.end for w in windows) if is_backfill else None,
        params=metadata.params,
        max_in_flight=metadata.max_in_flight,
        notify=notify,
        rejects=metadata.rejects,
    )
    return request.model_copy(update={"retries": metadata.batch_id})


def _nothing(found: FailedBatch) -> str:
    metadata = found.metadata
    again = f"`etl run {metadata.source}{connection_option(metadata.connection)}` starts a new run"
    if not found.planned:
        return f"the jobs of {metadata.batch_id} were never all planned: {again}"
    if found.jobs_removed_at is not None:
        return (
            f"nothing of {metadata.batch_id} is still to be loaded: its jobs were summarised on "
            f"{found.jobs_removed_at.date()}; `etl run {metadata.source}"
            f"{connection_option(metadata.connection)} --from … --to …` loads a span again"
        )
    if found.loaded:
        return f"all that failed in {metadata.batch_id} has been loaded by a retry of it"
    how = (
        "was cancelled, and no job of it failed"
        if found.state == "cancelled"
        else "has no failed job"
    )
    return f"{metadata.batch_id} {how}: there is nothing to retry; {again}"


def _earliest(times: Iterable[datetime | None]) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


def _latest(times: Iterable[datetime | None]) -> datetime | None:
    return max((time for time in times if time is not None), default=None)
