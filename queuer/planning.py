"""From a request to the windows it covers, and from those to jobs in the ledger.

Plain functions: the activities call them, and so does whoever runs without Temporal.
"""

import asyncio
import contextlib
import hashlib
import inspect
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import cast

from temporaletl.errors import ConfigurationError
from temporaletl.messages import (
    BatchMetadata,
    ETLInput,
    MetadataRequest,
    QueuerInput,
    RunPolicy,
    Window,
)
from temporaletl.strategies import Plan, Planner, expanders, planners
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ledger import JobWriter, begin_batch
from temporaletl.warehouse.state import read_states

_JOBS_AT_ONCE = 500


def check_request(request: QueuerInput) -> Planner:
    """Find the source and check what can be checked without it.

    Raises:
        UnknownSourceError: no such source.
        ConfigurationError: a stream or a date that does not fit.
    """
    planner = planners.get(request.source)
    unknown = sorted(set(request.streams) - set(planner.streams))
    if unknown:
        raise ConfigurationError(
            f"source {request.source!r} has no stream {', '.join(map(repr, unknown))}; "
            f"its streams: {', '.join(planner.streams)}"
        )
    if request.mode == "backfill":
        if request.date_start is None:
            raise ConfigurationError("a backfill needs a start date (--from)")
        if request.date_end is not None and request.date_end <= request.date_start:
            raise ConfigurationError(
                f"the backfill's end {request.date_end.isoformat()} is not after its start "
                f"{request.date_start.isoformat()}"
            )
    elif request.date_start is not None or request.date_end is not None:
        raise ConfigurationError(
            f"dates belong to a backfill: mode {request.mode} finds its own window"
        )
    return planner


def settle(
    warehouse: Warehouse, asked: MetadataRequest, *, policy: RunPolicy, worker_queue: str
) -> BatchMetadata:
    """Settle what a batch covers. The same request gives the same batch id.

    Raises: as `check_request`, and ConfigurationError for a setting of the source.
    """
    request = asked.input
    planner = check_request(request)
    if planner.settings is not None:
        planner.settings()
    streams = request.streams or planner.streams
    watermarks = {
        state.stream: state.watermark
        for state in read_states(warehouse, request.source)
        if state.connection == request.connection
    }
    windows = {
        stream: window_of(request, planner, asked.nominal, watermarks.get(stream))
        for stream in streams
    }
    digest = hashlib.blake2b(f"{asked.workflow_id} {asked.run_id}".encode(), digest_size=4)
    metadata = BatchMetadata(
        batch_id=f"{request.source}-{request.mode}-{asked.nominal:%Y%m%dT%H%M%SZ}-"
        f"{digest.hexdigest()}",
        source=request.source,
        mode=request.mode,
        connection=request.connection,
        windows=windows,
        params=request.params,
        max_in_flight=request.max_in_flight,
        policy=policy,
        worker_queue=worker_queue,
        started=asked.nominal,
    )
    begin_batch(warehouse, metadata, workflow_id=asked.workflow_id, run_id=asked.run_id)
    return metadata


def window_of(
    request: QueuerInput, planner: Planner, nominal: datetime, watermark: datetime | None
) -> Window:
    """The window of one stream: see the modes in `temporaletl.messages.QueuerInput`.

    Raises:
        ConfigurationError: a backfill without an end begins where there is nothing yet.
    """
    end = nominal - planner.lag()
    if request.mode == "backfill":
        end = request.date_end or end
        if request.date_start is not None and end <= request.date_start:
            raise ConfigurationError(
                f"the backfill's start {request.date_start.isoformat()} is not before "
                f"{end.isoformat()}, up to which the source lists everything"
            )
        return Window(start=request.date_start, end=end)
    if request.mode == "full" or watermark is None:
        return Window(end=end)
    # A watermark set by hand may lie ahead: the window is then empty, not upside down.
    return Window(start=min(watermark - planner.overlap, end), end=end)


async def expand(
    warehouse: Warehouse, metadata: BatchMetadata, *, report: Callable[[int], None]
) -> int:
    """Write a batch's jobs to the ledger as its source plans them; return their number.

    Memory does not grow with their number. Safe to repeat: the ledger keeps one row for each
    (batch, seq). `report` hears the number of jobs written so far.

    Raises:
        UnknownSourceError: the source is not registered.
        ETLError: what the source's strategies raise.
    """
    writer = await asyncio.to_thread(JobWriter, warehouse, metadata.batch_id)
    block: list[ETLInput] = []
    async with contextlib.aclosing(jobs_of(metadata)) as jobs:
        async for job in jobs:
            block.append(job)
            if len(block) == _JOBS_AT_ONCE:
                await asyncio.to_thread(writer.write, block)
                report(writer.count)
                block = []
    if block:
        await asyncio.to_thread(writer.write, block)
    return await asyncio.to_thread(writer.close)


async def jobs_of(metadata: BatchMetadata) -> AsyncGenerator[ETLInput]:
    """Yield a batch's jobs as its source plans them, not yet numbered.

    Raises: as `expand`.
    """
    plan = Plan(metadata)
    describe = planners.get(metadata.source).describe
    # Plain functions and generators may block on their source: they run beside the event loop.
    if inspect.iscoroutinefunction(describe):
        backlog = await describe(plan)
    else:
        backlog = await asyncio.to_thread(describe, plan)
    jobs = expanders.get(metadata.source)(plan, backlog)
    if inspect.isasyncgen(jobs):
        async with contextlib.aclosing(cast("AsyncGenerator[ETLInput]", jobs)) as planned:
            async for one in planned:
                yield one
        return
    iterator = iter(jobs)
    ended = object()
    while (job := await asyncio.to_thread(next, iterator, ended)) is not ended:
        assert isinstance(job, ETLInput)  # noqa: S101 - the alternative is the sentinel
        yield job
