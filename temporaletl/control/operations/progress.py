"""Progress of a run while it goes on: jobs, rows, and what keeps it from going on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

from temporaletl import names
from temporaletl.control.operations.attendance import (
    UNATTENDED_LOCAL,
    unattended_queuer,
    unattended_worker,
)
from temporaletl.control.operations.audit import local_author
from temporaletl.control.operations.details import run_details, run_of
from temporaletl.control.operations.following import (
    Ended,
    Handle,
    Run,
    TemporalRun,
    pending_failures,
)
from temporaletl.control.operations.local_runs import AttachedEngine, LocalRun, drive_to_end
from temporaletl.control.operations.platform import OPEN_WORKFLOWS, PATIENCE, Platform
from temporaletl.control.operations.retries import retry_request
from temporaletl.control.operations.runs import (
    RunGoesOnError,
    known_summary,
    start_only_run,
    start_run,
)
from temporaletl.errors import ETLError
from temporaletl.messages import BatchStatus, BatchSummary, QueuerInput, RowCounts
from temporaletl.temporal import sdk
from temporaletl.warehouse.budget import blocked_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import tally
from temporaletl.warehouse.run_log import read_log
from temporaletl.warehouse.runs import Engine
from temporaletl.warehouse.tally import JobTally

if TYPE_CHECKING:
    from temporalio.client import Client

_LOOK_EVERY = timedelta(seconds=1)
#: A server that does not answer is waited for no longer before that is said.
_ANSWERS_WITHIN = timedelta(seconds=3)
_NO_ANSWER = f"{{}} has not answered for {_ANSWERS_WITHIN.total_seconds():g} s"
_TROUBLE_AFTER = timedelta(seconds=3)
_TROUBLE_EVERY = timedelta(seconds=5)
_JOBS_LOOKED_AT = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Snapshot of a batch's progress; what is not known is None.

    `trouble` is its hindrance, as far as one can see from outside.
    """

    state: str
    planned: int | None = None
    done: int = 0
    failed: int = 0
    rows: RowCounts | None = None
    trouble: str | None = None

    @property
    def loaded(self) -> int:
        """Rows that went through the loader."""
        rows = self.rows
        return 0 if rows is None else rows.inserted + rows.updated + rows.unchanged


class FollowedRun(Protocol):
    """A run that somebody waits for, wherever it is followed from."""

    request: QueuerInput
    workflow_id: str
    run_id: str
    engine: Engine
    queue: str | None  # where a queuer takes it up; None for the local engine
    attached: bool  # whether it rests once it is followed no longer

    @property
    def status(self) -> BatchStatus | None:
        """The status that the run reported last; None while it has not."""

    async def until_planned(self, within: timedelta, unattended: Callable[[], None]) -> None:
        """Follow until the jobs are planned, the run has ended, or the time is over.

        `unattended` is called, once, when no queuer takes its tasks.
        """

    def snapshots(self) -> AsyncGenerator[Snapshot]:
        """Yield the progress about every second until the run has ended.

        Raises:
            LostSightError: nobody has answered about it for long; it goes on all the same.
        """

    async def result(self) -> Ended | None:
        """The result; None while it goes on. Raises: as `snapshots`."""

    async def failures(self) -> list[str]:
        """What failed and is tried again."""

    async def close(self) -> None:
        """Follow it no longer."""


class _RunHere:
    """A run that is followed by this process's own Temporal and warehouse.

    Where it is `attached`, a process of this one's drives it while it is followed.
    """

    def __init__(self, platform: Platform, run: Run, *, attached: bool) -> None:
        self._platform = platform
        self._run = run
        self.request = run.request
        self.workflow_id = run.workflow_id
        self.run_id = run.run_id
        self.engine = run.engine
        self.queue = run.queue if isinstance(run, TemporalRun) else None
        self.attached = attached and run.engine == "local"

    @property
    def status(self) -> BatchStatus | None:
        return self._run.status

    async def until_planned(self, within: timedelta, unattended: Callable[[], None]) -> None:
        await self._run.until_planned(within, unattended)

    async def snapshots(self) -> AsyncGenerator[Snapshot]:
        async with contextlib.AsyncExitStack() as exits:
            engine: AttachedEngine | None = None
            if self.attached:
                engine = await exits.enter_async_context(AttachedEngine(self.workflow_id))
            async for snapshot in follow(self._platform, self._run, driven=self.attached):
                yield snapshot
                if engine is not None:
                    engine.check()

    async def result(self) -> Ended | None:
        if not self._run.ending.done():
            return None
        ended = self._run.ending.result()
        if ended.summary.error is None:
            return ended
        known = await known_summary(self._platform, self._run)
        return ended if known is None else replace(ended, summary=known)

    async def failures(self) -> list[str]:
        if not isinstance(self._run, TemporalRun):
            return []
        return [str(one) for one in await pending_failures(self._run.client, self.workflow_id)]

    async def close(self) -> None:
        self._run.ending.cancel()
        await asyncio.gather(self._run.ending, return_exceptions=True)


async def start_followed(
    platform: Platform,
    request: QueuerInput,
    *,
    engine: Engine | None = None,
    force: bool = False,
    attached: bool = False,
    taken_up: Callable[[str], None] = lambda _: None,
) -> FollowedRun:
    """Start a run that somebody waits for; with `force`, also beside one that goes on.

    `attached`: where the local engine executes it, that runs beside the one who waits. One that
    goes on and that nobody drives is driven to its end first, and `taken_up` gets its workflow id.

    Raises: as `start_run`, `start_only_run`.
    """
    begins, by = start_run if force else start_only_run, local_author().name
    while True:
        try:
            run = await begins(platform, request, engine=engine, by=by)
        except RunGoesOnError as error:
            if not (error.abandoned and attached):
                raise
            taken_up(error.workflow_id)
            await drive_to_end(platform, error.workflow_id)
        else:
            return _RunHere(platform, run, attached=attached)


async def start_retry(
    platform: Platform, run: str, *, engine: Engine | None = None, attached: bool = False
) -> FollowedRun:
    """Start a run of what failed in another one; `attached` as in `start_followed`.

    Raises: as `retry_request`, `start_only_run`.
    """
    request = await retry_request(platform, run)
    started = await start_only_run(platform, request, engine=engine, by=local_author().name)
    return _RunHere(platform, started, attached=attached)


async def follow_run(platform: Platform, name: str) -> FollowedRun:
    """Follow a run that was started before, by whomever; one that has ended has its result.

    Raises:
        NotFoundError: nothing has that name.
        ConflictError: it is a job's.
        ETLError: neither the warehouse nor Temporal can be reached, or not what executes it.
    """
    report = run_of(await run_details(platform, name), name)
    request = QueuerInput.model_validate(report.model_dump(exclude_none=True))
    if report.engine == "local":
        warehouse = await platform.warehouse()
        local = LocalRun(warehouse, request, report.workflow_id, report.run_id)
        return _RunHere(platform, local, attached=False)
    client = await platform.client()
    handle: Handle = client.get_workflow_handle(
        report.workflow_id, run_id=report.run_id or None, result_type=BatchSummary
    )
    books = partial(known_summary, platform)
    run = TemporalRun(client, handle, request, platform.settings, books=books)
    return _RunHere(platform, run, attached=False)


async def follow(platform: Platform, run: Run, *, driven: bool = False) -> AsyncGenerator[Snapshot]:
    """Yield a run's progress about every second until it has ended; its result is `run.ending`'s.

    Jobs and rows are counted in the ledger; where this process cannot see the warehouse, jobs by
    their workflows. Of a run that is `driven` from here, it is not said that nobody does, however
    long its engine takes to start. While a server does not answer, a snapshot says so, with what
    was known before.
    """
    warehouse = await platform.warehouse_if_any()
    trouble, look_for_trouble = None, time.monotonic() + _TROUBLE_AFTER.total_seconds()
    snapshot = Snapshot("planning")
    async with _Look(run.refresh) as refresh, _Look(partial(_count, run, warehouse)) as counting:
        while not run.ending.done():
            refreshed = await refresh.renew(run.ending)
            counted = refreshed and await counting.renew(run.ending)
            snapshot = counting.latest or snapshot
            silent = run.silent or snapshot.trouble
            if silent is None and not counted:
                of_temporal = warehouse is None or not (refreshed or run.engine == "local")
                silent = _NO_ANSWER.format("Temporal" if of_temporal else "the warehouse")
            if silent is None and time.monotonic() >= look_for_trouble:
                if isinstance(run, TemporalRun):
                    trouble = await _find_trouble(run, warehouse, snapshot)
                else:
                    trouble = await find_local_trouble(run, warehouse, driven=driven)
                look_for_trouble = time.monotonic() + _TROUBLE_EVERY.total_seconds()
            state = run.status.state if run.status else "planning"
            yield replace(snapshot, state=state, trouble=silent or trouble)
            await asyncio.wait({run.ending}, timeout=_LOOK_EVERY.total_seconds())


class _Look[T]:
    """A look that is repeated: one that takes long is not waited for, and gives its answer later.

    Use as a context. `latest` is the last answer, None before the first.
    """

    def __init__(self, look: Callable[[], Coroutine[None, None, T]]) -> None:
        self._look = look
        self._task: asyncio.Task[T] | None = None
        self.latest: T | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def renew(self, ending: asyncio.Task[Ended]) -> bool:
        """Look, for a few seconds or until `ending`; whether there is an answer by then."""
        task = self._task = self._task or asyncio.create_task(self._look())
        await asyncio.wait(
            {task, ending},
            timeout=_ANSWERS_WITHIN.total_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not task.done():
            return False
        self._task, self.latest = None, task.result()
        return True


async def _count(run: Run, warehouse: Warehouse | None) -> Snapshot:
    status, fault = run.status or BatchStatus(state="planning"), None
    if warehouse is not None:
        try:
            counted = await asyncio.to_thread(tally, warehouse, status.batch_id or "")
        except ETLError as error:
            fault = str(error)
        else:
            jobs = counted.jobs
            # Else it is still planned, or entered in another warehouse than the one known here.
            if jobs.planned == status.jobs:
                return Snapshot(status.state, status.jobs, done_of(jobs), jobs.failed, counted.rows)
    if isinstance(run, TemporalRun) and run.silent is None:
        return replace(await count_workflows(run.client, run.workflow_id, status), trouble=fault)
    return Snapshot(status.state, status.jobs, trouble=fault)


def done_of(jobs: JobTally) -> int:
    """Jobs that have ended by themselves: not those that a cancelled run left undone."""
    return jobs.completed + jobs.failed + jobs.skipped


async def count_workflows(client: Client, workflow_id: str, status: BatchStatus) -> Snapshot:
    """Count jobs by their workflows, which know nothing of rows."""
    query = (
        f"WorkflowType = '{names.ETL_FLOW}' AND RootWorkflowId = '{workflow_id}' "
        f"GROUP BY ExecutionStatus"
    )
    done = failed = 0
    if status.jobs:
        try:
            for group in (await client.count_workflows(query, rpc_timeout=PATIENCE)).groups:
                kind = str(group.group_values[0])
                if kind not in ("Running", "Paused", "ContinuedAsNew"):
                    done += group.count
                    failed += group.count if kind in ("Failed", "TimedOut") else 0
        except sdk.RPCError:
            done = failed = 0
    return Snapshot(status.state, status.jobs, min(done, status.jobs or 0), failed)


async def _find_trouble(
    run: TemporalRun, warehouse: Warehouse | None, snapshot: Snapshot
) -> str | None:
    """The hindrance of a run; None where there seems to be none."""
    if run.status is None and (missing := await unattended_queuer(run.client, run.queue)):
        return missing
    if failures := await pending_failures(run.client, run.workflow_id):
        return str(failures[0])
    if snapshot.planned is None or snapshot.done >= snapshot.planned:
        return None
    if unattended := await unattended_worker(run.client, run.worker_queue, run.request.source):
        return unattended
    query = (
        f"RootWorkflowId = '{run.workflow_id}' AND WorkflowType = '{names.ETL_FLOW}' "
        f"AND {OPEN_WORKFLOWS}"
    )
    with contextlib.suppress(sdk.RPCError):
        async for job in run.client.list_workflows(
            query, limit=_JOBS_LOOKED_AT, rpc_timeout=PATIENCE
        ):
            if failures := await pending_failures(run.client, job.id):
                return f"{job.id}: {failures[0]}"
    return None if warehouse is None else await _cool_down(warehouse, run.request.source)


async def find_local_trouble(run: Run, warehouse: Warehouse | None, *, driven: bool) -> str | None:
    """The hindrance of a run of the local engine; None where there seems to be none."""
    if not driven and not await run.is_attended():
        return UNATTENDED_LOCAL
    if warehouse is None:
        return None
    return await _cool_down(warehouse, run.request.source) or await _planning_fault(run, warehouse)


async def _planning_fault(run: Run, warehouse: Warehouse) -> str | None:
    """What the last attempt to plan met, by the run's log; None where it goes well or is over."""
    status = run.status
    if status is None or status.batch_id is None or status.jobs is not None:
        return None
    with contextlib.suppress(ETLError):
        tail = await asyncio.to_thread(read_log, warehouse, status.batch_id, limit=1)
        for line in tail.lines:
            if line.event == "attempt_failed":
                return f"{line.fields['error']}; it is tried again"
    return None


async def _cool_down(warehouse: Warehouse, source: str) -> str | None:
    """The source's cool-down, in a sentence: its jobs wait in timers, which fail nothing."""
    with contextlib.suppress(ETLError):
        for blocked in await asyncio.to_thread(blocked_sources, warehouse, source):
            return str(blocked)
    return None
