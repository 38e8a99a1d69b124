"""A batch in the engine, from its request to its summary: as QueuerFlow and DispatchFlow."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from types import UnionType

import structlog
from pydantic import JsonValue

from temporaletl.engine.job import JobRunner
from temporaletl.engine.lease import kept_lease
from temporaletl.engine.limits import EngineLimits
from temporaletl.engine.listener import Audience, Listener
from temporaletl.engine.request import make_request
from temporaletl.engine.retries import Retries, StoppedError
from temporaletl.engine.runner import BatchRunner, import_all_sources
from temporaletl.engine.threads import in_thread
from temporaletl.errors import ConfigurationError
from temporaletl.messages import (
    BatchMetadata,
    BatchSummary,
    MetadataRequest,
    Mode,
)
from temporaletl.queuer import finishing, planning
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.warehouse.run_log import kept_run_log

log = get_logger("temporaletl.engine")

#: In place of a task queue; a job says so in its ledger row.
_HERE = "in process"


async def run_batch(
    warehouse: Warehouse,
    source: str,
    *,
    mode: Mode = "incremental",
    streams: Sequence[str] = (),
    date_start: datetime | None = None,
    date_end: datetime | None = None,
    connection: str = "default",
    params: Mapping[str, JsonValue] | None = None,
    accept_view: bool = False,
    scheduled: datetime | None = None,
    limits: EngineLimits | None = None,
    cancel: asyncio.Event | None = None,
    listener: Listener | None = None,
) -> BatchSummary:
    """Plan a batch, run its jobs, close its books, and return what the books say.

        with Warehouse(WarehouseSettings.load()) as warehouse:
            summary = await run_batch(warehouse, "jira", mode="full")

    The platform's tables are created, or brought up to date, where that is needed.
    The request is that of `QueuerInput`; `scheduled` is the time the run stands for, by default
    now, and not before 1970. One job that fails is counted and named, and does not stop the
    others. An outage of the warehouse is waited out, once the batch is in its books. Nobody is
    notified.

    Once `cancel` is set, planning ends at once, jobs end at their next page boundary, and the
    books are closed as cancelled; cancelling the task does not wait for the boundary, closes the
    books and raises CancelledError, whenever it comes; a second time it does not wait for the
    books of a warehouse that does not answer. A process that dies leaves the batch open; `policy`'s
    heartbeat timeout later the next run closes it, moves watermarks to what it has loaded, and
    loads what is missing: it begins by closing every batch, of whatever source, that was left so.

    Of a source and connection one run at a time is let in, in all processes that use the
    warehouse. Runs in Temporal are not counted: loading the same there costs double work alone.

    Raises:
        ConflictError: the source is being loaded by another run without Temporal.
        UnknownSourceError: no such source.
        ConfigurationError: an argument, or a setting of the source, is wrong; names it.
        WarehouseClosedError: the program closed the warehouse before the run had ended, which is
            left open in the books, as by a process that died.
        CredentialsError: a privilege in the warehouse is missing; says which.
        WarehouseUnavailableError: the warehouse does not answer, and nothing has begun.
        ETLError: the batch could not be planned; its books are closed as failed.
    """
    for name, value, kind in (
        ("warehouse", warehouse, Warehouse),
        ("limits", limits, EngineLimits | None),
        ("cancel", cancel, asyncio.Event | None),  # that of threading would block the loop
        ("listener", listener, Listener | None),
    ):
        if not isinstance(value, kind):
            wanted = str(kind) if isinstance(kind, UnionType) else kind.__name__
            raise ConfigurationError(
                f"no batch of {source!r}: {name}: must be {wanted}, not {type(value).__module__}."
                f"{type(value).__qualname__}"
            )
    limits = limits or EngineLimits()
    requested = make_request(
        source,
        mode=mode,
        streams=streams,
        date_start=date_start,
        date_end=date_end,
        connection=connection,
        params=params,
        max_in_flight=limits.jobs_at_once,
        accept_view=accept_view,
        scheduled=scheduled,
    )
    await asyncio.to_thread(import_all_sources)
    return await _Batch(warehouse, requested, limits, listener or Listener()).run(cancel)


class _Batch:
    """One batch while it runs. `_stopping` is set when it shall end, for whatever reason."""

    def __init__(
        self,
        warehouse: Warehouse,
        requested: MetadataRequest,
        limits: EngineLimits,
        listener: Listener,
    ) -> None:
        self._warehouse = warehouse
        self._requested = requested
        self._metadata: BatchMetadata | None = None
        self._limits = limits
        self._stopping = asyncio.Event()
        self._audience = Audience(listener, self._stopping)
        self._retries = Retries(limits.policy, limits.longest_wait, self._stopping)
        self._runner = BatchRunner(warehouse, self._audience)
        self._job_runner = JobRunner(
            warehouse, limits.segment, self._retries, self._audience, requested.run_id
        )

    async def run(self, cancel: asyncio.Event | None) -> BatchSummary:
        await in_thread(partial(migrate, self._warehouse))
        await in_thread(partial(finishing.end_lapsed, self._warehouse))
        interrupted: asyncio.CancelledError | None = None
        try:
            await in_thread(self._enter)
        except asyncio.CancelledError as error:
            interrupted = error
        metadata = self._metadata
        if metadata is None:
            raise interrupted or AssertionError  # it was cancelled, and is not in the books
        loop = asyncio.get_running_loop()

        def stop() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped
                loop.call_soon_threadsafe(self._stopping.set)

        following = asyncio.create_task(self._follow(cancel))
        try:
            with (
                kept_run_log(self._warehouse),
                structlog.contextvars.bound_contextvars(batch_id=metadata.batch_id),
                kept_lease(self._warehouse, metadata, lost=stop),
            ):
                return await self._run_to_summary(metadata, interrupted)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _enter(self) -> None:
        """Enter the batch in the books; whoever is cancelled meanwhile must close them."""
        self._metadata = planning.resolve_batch(
            self._warehouse,
            self._requested,
            policy=self._limits.policy,
            worker_queue=_HERE,
            lease=self._limits.policy.heartbeat_timeout,
            engine="local",
        )

    async def _follow(self, cancel: asyncio.Event | None) -> None:
        if cancel is not None:
            await cancel.wait()
            self._stopping.set()

    async def _run_to_summary(
        self, metadata: BatchMetadata, failure: BaseException | None
    ) -> BatchSummary:
        stopped = False
        try:
            if failure is None:
                jobs = await self._runner.plan(metadata, self._retries)
                await self._runner.run_jobs(
                    metadata, jobs, self._job_runner, at_once=metadata.max_in_flight
                )
        except StoppedError:
            stopped = True
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - raised below
            failure = error
        failure = failure or self._audience.fault
        # Failed or cancelled from outside: close the books first, then say so.
        closing = asyncio.create_task(
            self._runner.finish(
                metadata,
                self._requested.workflow_id,
                self._retries,
                cancelled=stopped
                or self._stopping.is_set()
                or isinstance(failure, asyncio.CancelledError),
                error=failure if isinstance(failure, Exception) else None,
            )
        )
        failure = await self._see_closed(closing, failure) or self._audience.fault
        if failure is not None:
            raise failure
        return closing.result()

    async def _see_closed(
        self, closing: asyncio.Task[BatchSummary], failure: BaseException | None
    ) -> BaseException | None:
        """Wait until the books are closed; return why the batch failed or was cancelled.

        The first cancellation waits for them, as one that came before did; a second one does not.
        """
        while not closing.done():
            try:
                await asyncio.wait({closing})
            except asyncio.CancelledError as error:
                if isinstance(failure, asyncio.CancelledError):
                    closing.cancel()
                failure = error
        if closing.cancelled():
            return failure or asyncio.CancelledError()
        if (unclosed := closing.exception()) is None:
            return failure
        log.warning(
            "books_left_open",
            workflow_id=self._requested.workflow_id,
            reason=str(unclosed),
            exception=unexpected(unclosed),
        )
        return failure or unclosed
