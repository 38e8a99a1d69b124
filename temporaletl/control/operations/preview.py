"""`etl preview`: plan, extract and transform as the services do, and write nothing."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
from pydantic import JsonValue

from temporaletl.bound_connection import bound
from temporaletl.connections.providers import provided
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import find_source, strategies_of
from temporaletl.errors import NotReadyError, SourceUnavailableError
from temporaletl.extraction import Page, PageRequest
from temporaletl.ids import job_id_of
from temporaletl.messages import BatchMetadata, ETLInput, QueuerInput
from temporaletl.query import Query
from temporaletl.queuer.planning import check_request, jobs_of, window_of
from temporaletl.rows import Reject, Row
from temporaletl.settings.fields import load_field_rules
from temporaletl.settings.platform import TemporalSettings
from temporaletl.strategies import Planner, Strategies
from temporaletl.transformation import TransformContext, is_wanted, undeclared
from temporaletl.troubles import Troubles, observed
from temporaletl.worker.transforming import Transformed, transform_record

#: How long a preview may take, where its caller does not say.
PREVIEW_WITHIN = timedelta(seconds=30)


@dataclass(slots=True)
class StreamPreview:
    """Preview of a stream: its first rows and rejects, and the jobs and pages read for them."""

    stream: str
    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    records: int = 0
    jobs: int = 0  # looked into
    complete: bool = False  # there is nothing more
    stopped: str | None = None  # why there may be more: the preview's time was over


async def preview(
    platform: Platform,
    request: QueuerInput,
    *,
    limit: int,
    within: timedelta = PREVIEW_WITHIN,
    notice: Callable[[str], None] = lambda _: None,
) -> list[StreamPreview]:
    """Take the first rows of each stream, at most `limit` of all streams together.

    The window is that of a first run: a watermark is neither read nor moved. `notice` gets, from
    any thread, what failed and is tried again. After `within` the preview ends with what it has
    read; each stream that was not read to its end or its share says so.

    Raises:
        SourceUnavailableError: nothing was read in that time; says what failed last.
        ETLError: the request, a setting or a credential is wrong, or the source fails.
    """
    find_source(request.source, request.connection)
    with provided(await platform.stored_connections(request.connection)):
        planner = check_request(request)
        with bound(request.source, request.connection):
            previews = [StreamPreview(name) for name in request.streams or planner.streams]
            unread = list(previews)
            troubles = Troubles(notice)
            with observed(troubles):
                work = asyncio.create_task(_preview(platform, request, planner, unread, limit))
            try:
                await asyncio.wait({work}, timeout=within.total_seconds())
                if work.done():
                    work.result()
                else:
                    _stop(previews, unread, within, troubles.now)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            return previews


async def _preview(
    platform: Platform,
    request: QueuerInput,
    planner: Planner,
    unread: list[StreamPreview],
    limit: int,
) -> None:
    """Read the streams, and take each off the list when it is read."""
    if planner.settings is not None:
        planner.settings()
    left = limit
    while unread:
        found = unread[0]
        await read_stream(platform, request, found, limit=-(-left // len(unread)))
        left -= len(found.rows)
        del unread[0]


def _stop(
    previews: Sequence[StreamPreview],
    unread: Sequence[StreamPreview],
    within: timedelta,
    trouble: str | None,
) -> None:
    """Note what a preview has not read when its time is over.

    Raises:
        SourceUnavailableError: nothing was read.
    """
    seconds = f"{within.total_seconds():g} s"
    why = "" if trouble is None else f": {trouble}"
    if len(unread) == len(previews) and not previews[0].records:
        raise SourceUnavailableError(f"nothing was read within {seconds}{why}")
    for found in unread:
        begun = "stopped after" if found is unread[0] else "not reached within"
        found.stopped = f"{begun} {seconds}{why}"


async def read_stream(
    platform: Platform, request: QueuerInput, found: StreamPreview, *, limit: int
) -> None:
    """Add the first rows of a stream of the bound connection; raises as `preview`."""
    strategies = strategies_of(request.source, found.stream)
    batch = unwritten_batch(request, [found.stream], platform.settings)
    async with contextlib.aclosing(numbered_jobs(batch)) as jobs:
        async for job in jobs:
            found.jobs += 1
            if await _fill(found, job, strategies, limit):
                del found.rows[limit:]
                return
    found.complete = True


async def _fill(found: StreamPreview, job: ETLInput, strategies: Strategies, limit: int) -> bool:
    """Add a job's rows until there are `limit` of them (True) or the job ends (False)."""
    if job.scan:
        return False
    query = strategies.query.from_dict(job.params)
    rules = load_field_rules(job.source, strategies.rows)
    context = TransformContext(job=job, query=query, field_rules=rules)
    output = Transformed(rows=found.rows, rejects=found.rejects)
    async with contextlib.aclosing(pages_of(strategies, job, query)) as pages:
        async for page in pages:
            output.add_extracted(page.rejects, context)
            found.records += len(page.rejects)
            for record in page.records:
                found.records += 1
                before = len(found.rows)
                transform_record(strategies, context, record, output)
                found.rows[before:] = _loadable(found.rows[before:], job, strategies)
                if len(found.rows) >= limit:
                    return True
    return False


def _loadable(rows: Sequence[Row], job: ETLInput, strategies: Strategies) -> list[Row]:
    """What the loader would take of a record's rows.

    Raises:
        ConfigurationError: one is of a class that the transform does not declare.
    """
    for row in rows:
        if type(row) not in strategies.rows:
            raise undeclared(job.source, row, strategies.rows)
    return [row for row in rows if is_wanted(job, row)]


async def pages_of(strategies: Strategies, job: ETLInput, query: Query) -> AsyncGenerator[Page]:
    """Yield a job's pages; what is not ready yet is waited for, as Temporal would wait for it."""
    cursor: JsonValue = None
    while True:
        request = PageRequest(job=job, query=query, cursor=cursor)
        try:
            async with contextlib.aclosing(strategies.extract(request)) as pages:
                async for page in pages:
                    yield page
                    cursor = page.cursor
        except NotReadyError as error:
            await asyncio.sleep((error.delay or timedelta(0)).total_seconds())
        else:
            return


def unwritten_batch(
    request: QueuerInput, streams: Sequence[str], settings: TemporalSettings
) -> BatchMetadata:
    """Batch metadata as of a first run, for a batch that is in no ledger.

    The request's connection must be bound.
    """
    planner = find_source(request.source, request.connection)
    now = datetime.now(UTC)
    return BatchMetadata(
        batch_id=f"preview-{request.source}-{now:%Y%m%dT%H%M%SZ}",
        source=request.source,
        mode=request.mode,
        connection=request.connection,
        windows={stream: window_of(request, planner, now, None) for stream in streams},
        params=request.params,
        policy=settings.policy(),
        worker_queue=settings.worker_queue,
        started=now,
    )


async def numbered_jobs(metadata: BatchMetadata) -> AsyncGenerator[ETLInput]:
    """Yield the jobs with the ids they would have in the ledger."""
    seq = 0
    async with contextlib.aclosing(jobs_of(metadata)) as jobs:
        async for job in jobs:
            yield job.model_copy(update={"seq": seq, "job_id": job_id_of(job)})
            seq += 1


def as_document(row: Row) -> dict[str, JsonValue]:
    """Encode a row for JSON, with its columns in their order."""
    document: dict[str, JsonValue] = msgspec.json.decode(msgspec.json.encode(row))
    return document
