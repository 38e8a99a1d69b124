"""Planning of batches: a request is resolved to windows, and those to jobs in the ledger.

Plain functions, called by the activities and by the engine, which runs without Temporal.
"""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import JsonValue

from temporaletl import names
from temporaletl.bound_connection import bound
from temporaletl.budget import rate_limited
from temporaletl.connections.providers import find_connection, provided
from temporaletl.errors import ConfigurationError, UnknownSourceError
from temporaletl.ids import batch_id_of
from temporaletl.messages import (
    BatchMetadata,
    ETLInput,
    MetadataRequest,
    QueuerInput,
    RunPolicy,
    Window,
)
from temporaletl.placement import check_placement
from temporaletl.query import ACCEPT_DELETIONS
from temporaletl.queuer.beside import beside_planning
from temporaletl.queuer.generated import in_blocks
from temporaletl.queuer.rejects import reprocessing_jobs, second_readings
from temporaletl.queuer.retries import resolve_retry, retried_jobs
from temporaletl.queuer.scans import check_acceptance, scan_jobs
from temporaletl.registry import AFTER_RESTART
from temporaletl.strategies import Plan, Planner, budgets, expanders, planners
from temporaletl.warehouse.budget import rate_limiter_of
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.deletion_scans import scanned_streams
from temporaletl.warehouse.ledger import begin_batch
from temporaletl.warehouse.open_batches import Namespace
from temporaletl.warehouse.plans import JobWriter
from temporaletl.warehouse.runs import Engine
from temporaletl.warehouse.source_connections import connections_for
from temporaletl.warehouse.state import last_cursors, trusted_watermarks

_JOBS_AT_ONCE = 500


def check_request(request: QueuerInput) -> Planner:
    """Find a request's source, and check the request as far as that needs no source.

    Raises:
        UnknownSourceError: no such source.
        StrategyImportError: the worker would not find it.
        UnknownConnectionError: the source has no such connection (a ConfigurationError), of those
            that the context provides.
        ConfigurationError: a stream, a date or a parameter that does not fit.
    """
    if request.source not in planners:
        known = ", ".join(planners) or "none"
        raise UnknownSourceError(f"there is no source {request.source!r}; known: {known}")
    check_placement(request.source)
    planner = planners.get(request.source)
    check_acceptance(request)
    find_connection(request.source, request.connection)
    with bound(request.source, request.connection):
        streams = planner.streams
    unknown = sorted(set(request.streams) - set(streams))
    if unknown:
        raise ConfigurationError(
            f"source {request.source!r} has no stream {', '.join(map(repr, unknown))}; "
            f"its streams: {', '.join(streams)}"
        )
    if request.rejects and request.mode != "replay":
        raise ConfigurationError(f"rejects are reprocessed by mode replay, not by {request.mode}")
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
    if planner.params is not None:
        planner.params.from_dict(request.params)
    return planner


def check_span(request: QueuerInput, now: datetime) -> None:
    """Check that a backfill's span has come, by the warehouse's clock.

    Raises:
        ConfigurationError: its start or its end has not: the end would be taken for loaded.
    """
    for end, timestamp in (("start", request.date_start), ("end", request.date_end)):
        if timestamp is not None and timestamp > now:
            hint = "; without it, all up to now is loaded" if end == "end" else ""
            raise ConfigurationError(
                f"the span's {end} {timestamp.isoformat()} has not come yet: by the "
                f"warehouse's clock it is {now.isoformat(timespec='seconds')}{hint}"
            )


def resolve_batch(
    warehouse: Warehouse,
    requested: MetadataRequest,
    *,
    policy: RunPolicy,
    worker_queue: str,
    namespace: Namespace | None = None,
    lease: timedelta | None = None,
    engine: Engine = "temporal",
) -> BatchMetadata:
    """Resolve a request to a batch: source, windows and filters. The same request, the same id.

    `namespace` is where its workflow runs; with a `lease` none does: see `begin_batch`.

    Raises: as `check_request` and `begin_batch`, and ConfigurationError for a setting of the
        source.
    """
    with provided(connections_for(warehouse, requested.input.connection)):
        metadata = _resolve(warehouse, requested, policy=policy, worker_queue=worker_queue)
    begin_batch(
        warehouse,
        metadata,
        workflow_id=requested.workflow_id,
        run_id=requested.run_id,
        namespace=namespace,
        lease=lease,
        engine=engine,
    )
    return metadata


def _resolve(
    warehouse: Warehouse, requested: MetadataRequest, *, policy: RunPolicy, worker_queue: str
) -> BatchMetadata:
    request = requested.input
    try:
        planner = check_request(request)
    except UnknownSourceError as error:
        raise UnknownSourceError(f"{error}{AFTER_RESTART}") from None
    with bound(request.source, request.connection):
        if planner.settings is not None:
            planner.settings()
        streams = request.streams or planner.streams
        whole_scope = dict(planner.scope())
    own = {
        "batch_id": batch_id_of(requested),
        "max_in_flight": request.max_in_flight,
        "notify": request.notify,
        "policy": policy,
        "worker_queue": worker_queue,
        "segment_queue": (
            names.segment_queue(worker_queue, request.source) if request.source in budgets else None
        ),
        "started": requested.nominal,
    }
    if request.retries is not None:
        return resolve_retry(warehouse, request, request.retries, whole_scope, own)
    scope = whole_scope | filters_of(planner, request)
    now, watermarks = trusted_watermarks(
        warehouse, request.source, request.connection, scopes=(scope, whole_scope)
    )
    check_span(request, now)
    # The scheduled time may come from a clock that is ahead.
    scheduled = min(requested.nominal, now)
    with bound(request.source, request.connection):
        windows = {
            stream: window_of(request, planner, scheduled, watermarks.get(stream))
            for stream in streams
        }
    return BatchMetadata(
        **own,
        source=request.source,
        mode=request.mode,
        connection=request.connection,
        windows=windows,
        params=request.params,
        accept_view=request.accept_view or check_acceptance(request),
        rejects=request.rejects,
        scope=scope,
        whole_scope=whole_scope,
    )


def filters_of(planner: Planner, request: QueuerInput) -> dict[str, JsonValue]:
    """The request's parameters that are filters."""
    return {
        name: value
        for name, value in request.params.items()
        if name != ACCEPT_DELETIONS
        and value not in (None, "", [], {})
        and (planner.filters is None or name in planner.filters)
    }


def window_of(
    request: QueuerInput, planner: Planner, scheduled: datetime, watermark: datetime | None
) -> Window:
    """The window of one stream: see the modes in `temporaletl.messages.QueuerInput`.

    The request's connection must be bound.

    Raises:
        ConfigurationError: a backfill without an end begins where there is nothing yet.
    """
    if request.mode == "replay" or not planner.listed:
        return Window()
    end = scheduled - planner.lag()
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

    The source's people are recorded first, so that all jobs find the same. Memory does not grow
    with the number of jobs. What is requested meanwhile counts under the source's rate limit. Safe
    to repeat: a complete plan stands. `report` gets their number.

    Raises:
        UnknownSourceError: the source is not registered.
        ETLError: what the source's strategies raise.
    """
    stored = await asyncio.to_thread(connections_for, warehouse, metadata.connection)
    with provided(stored), bound(metadata.source, metadata.connection):
        return await _expand(warehouse, metadata, report)


async def _expand(
    warehouse: Warehouse, metadata: BatchMetadata, report: Callable[[int], None]
) -> int:
    lease = metadata.policy.heartbeat_timeout
    writer = await asyncio.to_thread(JobWriter, warehouse, metadata.batch_id, lease=lease)
    if writer.complete:
        return writer.count
    limiter = await asyncio.to_thread(
        rate_limiter_of, warehouse, metadata.source, metadata.connection
    )
    block: list[ETLInput] = []
    with rate_limited(limiter):
        async with contextlib.aclosing(_planned(warehouse, metadata)) as found:
            async for jobs in found:
                block += jobs
                while len(block) >= _JOBS_AT_ONCE:
                    await asyncio.to_thread(writer.write, block[:_JOBS_AT_ONCE])
                    report(writer.count)
                    del block[:_JOBS_AT_ONCE]
    if block:
        await asyncio.to_thread(writer.write, block)
    return await asyncio.to_thread(writer.close)


async def _planned(
    warehouse: Warehouse, metadata: BatchMetadata
) -> AsyncGenerator[Sequence[ETLInput]]:
    if metadata.retries is not None:
        jobs = in_blocks(retried_jobs(warehouse, metadata, metadata.retries))
    elif metadata.mode == "replay":
        jobs = in_blocks(reprocessing_jobs(warehouse, metadata))
    else:
        jobs = _of_source(warehouse, metadata)
    async with contextlib.aclosing(jobs):
        if metadata.mode == "replay":
            async for block in jobs:
                yield block
            return
        async with beside_planning(warehouse, metadata) as beside:
            async for block in jobs:
                await beside.done(has_jobs=True)
                yield block
            await beside.done(has_jobs=False)


async def _of_source(
    warehouse: Warehouse, metadata: BatchMetadata
) -> AsyncGenerator[Sequence[ETLInput]]:
    cursors = await asyncio.to_thread(last_cursors, warehouse, metadata)
    scanned = await asyncio.to_thread(scanned_streams, warehouse, metadata)
    async with contextlib.aclosing(_blocks_of(metadata, cursors, scanned)) as blocks:
        async for block in blocks:
            yield block
    if metadata.mode == "incremental":
        # A full run reads all there is anyway, and a backfill is about its window alone.
        async for job in second_readings(warehouse, metadata):
            yield [job]


async def jobs_of(
    metadata: BatchMetadata,
    cursors: Mapping[str, JsonValue] | None = None,
    scanned: Collection[str] = (),
) -> AsyncGenerator[ETLInput]:
    """Yield a batch's jobs as its source plans them, then its deletion scans; not yet numbered.

    The batch's connection must be bound. `cursors` are the `last_cursors` that the plan shall have,
    `scanned` the `scanned_streams`.

    Raises: as `expand`.
    """
    async with contextlib.aclosing(_blocks_of(metadata, cursors or {}, scanned)) as blocks:
        async for block in blocks:
            for job in block:
                yield job


async def _blocks_of(
    metadata: BatchMetadata, cursors: Mapping[str, JsonValue], scanned: Collection[str]
) -> AsyncGenerator[Sequence[ETLInput]]:
    plan = Plan(metadata, cursors)
    describe = planners.get(metadata.source).describe
    # Plain functions and generators may block on their source: they run beside the event loop.
    if inspect.iscoroutinefunction(describe):
        backlog = await describe(plan)
    else:
        backlog = await asyncio.to_thread(describe, plan)
    for jobs in (
        expanders.get(metadata.source)(plan, backlog),
        scan_jobs(plan, backlog, scanned),
    ):
        async with contextlib.aclosing(in_blocks(jobs)) as blocks:
            async for block in blocks:
                yield block
