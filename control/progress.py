"""How far a batch has got, and showing it while somebody waits."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text
from temporalio.client import Client
from temporalio.service import RPCError

from control import batches
from control.following import Ended, Run, pending_failures
from control.output import count, err, note
from control.servers import is_polled
from temporaletl import names
from temporaletl.errors import ETLError
from temporaletl.messages import BatchStatus, RowCounts
from temporaletl.terminal import fit_to_print
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.tally import JobTally

_LINE_EVERY = timedelta(seconds=5)
_LOOK_EVERY = timedelta(seconds=1)
_RATE_OVER = timedelta(seconds=15)
_TROUBLE_AFTER = timedelta(seconds=3)
_TROUBLE_EVERY = timedelta(seconds=5)
_JOBS_LOOKED_AT = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A batch at one moment; what is not known is None."""

    state: str
    planned: int | None = None
    done: int = 0
    failed: int = 0
    rows: RowCounts | None = None
    trouble: str | None = None  # what keeps it from going on, as far as one can see

    @property
    def loaded(self) -> int:
        """Rows that went through the loader."""
        rows = self.rows
        return 0 if rows is None else rows.inserted + rows.updated + rows.unchanged


class Counter(Protocol):
    async def __call__(self, status: BatchStatus) -> Snapshot: ...


def ledger_counter(warehouse: Warehouse, fallback: Counter) -> Counter:
    """Counts from the ledger; from `fallback` where this warehouse does not have the batch."""

    async def take(status: BatchStatus) -> Snapshot:
        try:
            jobs, rows, _ = await asyncio.to_thread(batches.tally, warehouse, status.batch_id or "")
        except ETLError:
            return await fallback(status)
        if jobs.planned != status.jobs:
            # Still planned, or entered in another warehouse than the one configured here.
            return await fallback(status)
        return Snapshot(status.state, status.jobs, _done(jobs), jobs.failed, rows)

    return take


def _done(jobs: JobTally) -> int:
    return jobs.planned - jobs.running - jobs.waiting


def visibility_counter(client: Client, workflow_id: str) -> Counter:
    """Counts jobs by their workflows; knows nothing of rows."""
    query = (
        f"WorkflowType = '{names.ETL_FLOW}' AND RootWorkflowId = '{workflow_id}' "
        f"GROUP BY ExecutionStatus"
    )

    async def take(status: BatchStatus) -> Snapshot:
        done = failed = 0
        if status.jobs:
            try:
                for group in (await client.count_workflows(query)).groups:
                    kind = str(group.group_values[0])
                    if kind not in ("Running", "ContinuedAsNew"):
                        done += group.count
                        failed += group.count if kind in ("Failed", "TimedOut") else 0
            except RPCError:
                done = failed = 0
        return Snapshot(status.state, status.jobs, min(done, status.jobs or 0), failed)

    return take


class Rate:
    """Rows a second over the last moments."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, rows: int, now: float) -> float | None:
        """Take note of the rows so far; None while there is nothing to compare them with."""
        if not rows:
            self._seen.clear()  # the time it takes to plan says nothing about the loading
        self._seen.append((now, rows))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_OVER.total_seconds():  # noqa: PLR2004
            self._seen.popleft()
        then, before = self._seen[0]
        return (rows - before) / (now - then) if now > then else None


def rows_line(rows: RowCounts, rate: float | None = None) -> str:
    """Rows by outcome in one line; outcomes without rows are left out."""
    parts = [f"{number:,} {name}" for name, number in rows.model_dump().items() if number] or [
        "no rows yet"
    ]
    if rate:
        parts.append(f"{rate:,.0f} rows/s")
    return ", ".join(parts)


class _Bar:
    """A bar of jobs with the rows below it, for a terminal."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rate = Rate()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("jobs"),
            TimeElapsedColumn(),
            console=err(),
            expand=True,
        )
        self._task = self._bar.add_task(title, total=None)
        self._below = Text()

    def render(self) -> Group:
        return Group(self._bar, self._below)

    def show(self, snapshot: Snapshot) -> None:
        rate = self._rate.update(snapshot.loaded, time.monotonic())
        state = "" if snapshot.state == "running" else f" · {snapshot.state}"
        self._bar.update(
            self._task,
            description=f"{self._title}{state}",
            total=snapshot.planned,
            completed=snapshot.done,
        )
        lines = []
        if snapshot.rows is not None:
            lines.append(Text(rows_line(snapshot.rows, rate), style="dim"))
        if snapshot.failed:
            lines.append(Text(f"{count(snapshot.failed, 'job')} failed", style="bold red"))
        if snapshot.trouble:
            lines.append(Text(f"waiting: {fit_to_print(snapshot.trouble)}", style="yellow"))
        self._below = Text("\n").join(lines)


class _Lines:
    """A line every few seconds, for logs and pipes."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rate = Rate()
        self._due = time.monotonic()

    def show(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        rate = self._rate.update(snapshot.loaded, now)
        if now < self._due:
            return
        self._due = now + _LINE_EVERY.total_seconds()
        line = f"{self._title} {snapshot.state}"
        if snapshot.planned is not None:
            line += f": {snapshot.done:,} of {count(snapshot.planned, 'job')}"
        if snapshot.failed:
            line += f", {snapshot.failed:,} failed"
        if snapshot.rows is not None:
            line += f"; {rows_line(snapshot.rows, rate)}"
        if snapshot.trouble:
            line += f"; waiting: {snapshot.trouble}"
        note(line)


@contextmanager
def display(title: str) -> Iterator[Callable[[Snapshot], None]]:
    """Show snapshots on standard error, in the form that fits where it goes."""
    if not err().is_terminal:
        yield _Lines(title).show
        return
    bar = _Bar(title)
    with Live(get_renderable=bar.render, console=err(), transient=True):
        yield bar.show


async def wait(run: Run, counter: Counter, show: Callable[[Snapshot], None]) -> Ended:
    """Follow a run to its end; `show` hears of it every second."""
    trouble, look_for_trouble = None, time.monotonic() + _TROUBLE_AFTER.total_seconds()
    while not run.ending.done():
        await run.refresh()
        status = run.status or BatchStatus(state="planning")
        snapshot = await counter(status)
        if time.monotonic() >= look_for_trouble:
            trouble = await find_trouble(run, snapshot)
            look_for_trouble = time.monotonic() + _TROUBLE_EVERY.total_seconds()
        show(replace(snapshot, trouble=run.silent or trouble))
        await asyncio.wait({run.ending}, timeout=_LOOK_EVERY.total_seconds())
    return run.ending.result()


async def find_trouble(run: Run, snapshot: Snapshot) -> str | None:
    """What keeps a run from going on, None where nothing seems to."""
    if run.status is None and not await run.is_attended():
        return f"no queuer polls task queue {run.queue}"
    if failures := await pending_failures(run.client, run.workflow_id):
        return str(failures[0])
    if snapshot.planned is None or snapshot.done >= snapshot.planned:
        return None
    if not await is_polled(run.client, run.worker_queue):
        return f"no worker polls task queue {run.worker_queue}"
    query = (
        f"RootWorkflowId = '{run.workflow_id}' AND ExecutionStatus = 'Running' "
        f"AND WorkflowType = '{names.ETL_FLOW}'"
    )
    with contextlib.suppress(RPCError):
        async for job in run.client.list_workflows(query, limit=_JOBS_LOOKED_AT):
            if failures := await pending_failures(run.client, job.id):
                return f"{job.id}: {failures[0]}"
    return None
