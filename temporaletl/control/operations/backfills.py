"""Backfills: runs over a past span, and what such a run would do, planned without writing."""

import asyncio
import contextlib
from datetime import timedelta

from pydantic import Field, JsonValue

from temporaletl.bound_connection import bound
from temporaletl.connections.providers import provided
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.preview import numbered_jobs, unwritten_batch
from temporaletl.control.operations.sources import check_params, find_source
from temporaletl.errors import SourceUnavailableError
from temporaletl.messages import Message, QueuerInput, Window
from temporaletl.queuer.planning import check_request, check_span
from temporaletl.troubles import Troubles, observed

#: The source may have to list its backlog for it.
_PLANNED_WITHIN = timedelta(seconds=30)
#: As many jobs are counted.
_MOST = 10_000


class PlannedJob(Message):
    """A job that a run would have: a slice of a stream, or a deletion scan."""

    job_id: str
    stream: str
    window: Window
    params: dict[str, JsonValue] = Field(default_factory=dict)
    scan: bool = False


class RunPlan(Message):
    """What a run would do: its windows by stream, and its jobs, of which `jobs` are the first.

    `total` counts all of them, or the first ten thousand where there are `more`.
    """

    source: str
    connection: str
    windows: dict[str, Window]
    jobs: tuple[PlannedJob, ...]
    total: int
    more: bool


async def plan_backfill(platform: Platform, request: QueuerInput, *, limit: int) -> RunPlan:
    """Plan a backfill as a run of it would, and write nothing; at most `limit` jobs are listed.

    Raises:
        ConfigurationError: the request is wrong, as `start_run` would find it.
        SourceUnavailableError: its source did not describe its backlog within half a minute.
        ETLError: as the source's strategies raise.
    """
    find_source(request.source, request.connection)
    check_params(request)
    with provided(await platform.stored_connections(request.connection)):
        planner = check_request(request)
        check_span(request, await platform.now())
        with bound(request.source, request.connection):
            if planner.settings is not None:
                planner.settings()
            streams = request.streams or planner.streams
            batch = unwritten_batch(request, streams, platform.settings)
            troubles = Troubles()
            jobs: list[PlannedJob] = []
            total = 0
            try:
                with observed(troubles):
                    async with (
                        asyncio.timeout(_PLANNED_WITHIN.total_seconds()),
                        contextlib.aclosing(numbered_jobs(batch)) as planned,
                    ):
                        async for job in planned:
                            if total == _MOST:
                                return _plan(request, batch.windows, jobs, total, more=True)
                            total += 1
                            if len(jobs) < limit:
                                jobs.append(PlannedJob.model_validate(job.model_dump()))
            except TimeoutError:
                raise SourceUnavailableError(
                    f"{request.source} did not describe its backlog within "
                    f"{_PLANNED_WITHIN.total_seconds():g} s"
                    + (f": {troubles.now}" if troubles.now else "; a run would wait longer")
                ) from None
    return _plan(request, batch.windows, jobs, total, more=False)


def _plan(
    request: QueuerInput,
    windows: dict[str, Window],
    jobs: list[PlannedJob],
    total: int,
    *,
    more: bool,
) -> RunPlan:
    return RunPlan(
        source=request.source,
        connection=request.connection,
        windows=windows,
        jobs=tuple(jobs),
        total=total,
        more=more,
    )
