"""`etl run`: starts a run, follows it, and prints its result."""

import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue
from rich.text import Text

from temporaletl.command import FAILED, INTERRUPTED, MISUSED, print_interrupted
from temporaletl.control.cli.output import (
    add_row,
    count,
    make_table,
    note,
    print_fields,
    print_json,
    print_table,
    say,
    show_span,
    show_window,
    state_text,
    waiting,
)
from temporaletl.control.cli.session import (
    Session,
    local_warehouse,
    open_session,
    run_to_end,
    warehouse_left_here,
)
from temporaletl.control.cli.views.progress import display
from temporaletl.control.operations.attendance import UNATTENDED_LOCAL
from temporaletl.control.operations.following import Ended
from temporaletl.control.operations.progress import (
    FollowedRun,
    follow_run,
    start_followed,
    start_retry,
)
from temporaletl.control.operations.runs import run_request
from temporaletl.messages import BatchSummary, Mode
from temporaletl.names import connection_option, label
from temporaletl.settings.platform import TemporalSettings
from temporaletl.warehouse.runs import Engine

#: How long a command stays to see whether the run can be planned at all.
_PLANNED_WITHIN = timedelta(seconds=10)


def launch(
    source: str,
    *,
    connection: str,
    mode: Mode | None,
    streams: Sequence[str],
    date_start: datetime | None,
    date_end: datetime | None,
    params: dict[str, JsonValue],
    max_in_flight: int,
    accept_view: bool = False,
    engine: Engine | None = None,
    force: bool = False,
    wait: bool,
    as_json: bool,
) -> int:
    """Check a request as far as one can from here, start it, and return the exit status.

    Raises:
        ETLError: it cannot be started.
    """
    request = run_request(
        source,
        connection=connection,
        mode=mode,
        streams=streams,
        date_start=date_start,
        date_end=date_end,
        params=params,
        max_in_flight=max_in_flight,
        accept_view=accept_view,
    )

    def taken_up(workflow_id: str) -> None:
        note(f"first, {workflow_id} goes on, which was left before its end")

    with _warehouse_for(engine) as own:
        # Without the warehouse, nothing would take the run up.
        stays = wait or own

        async def start(session: Session) -> FollowedRun:
            return await session.call(
                start_followed,
                request,
                engine=engine,
                force=force,
                attached=stays,
                taken_up=taken_up,
            )

        return _Launch(start, wait=stays, as_json=as_json).to_exit_status()


@contextlib.contextmanager
def _warehouse_for(engine: Engine | None) -> Iterator[bool]:
    """The local engine needs nothing that runs: the warehouse is started where none is."""
    local = engine == "local" or (engine is None and not TemporalSettings.load().enabled)
    if not local:
        yield False
        return
    with local_warehouse() as own:
        if own:
            note("PostgreSQL runs for this command alone; `etl psql` then shows the rows")
        yield own


def launch_retry(run: str, *, wait: bool, as_json: bool) -> int:
    """Start a run of what failed in another one, and return the exit status.

    Raises:
        ETLError: nothing in it failed, or it cannot be started.
    """
    with warehouse_left_here() as own:
        # There is no Temporal then, and without the warehouse nothing would take the run up.
        stays = wait or own
        engine: Engine | None = "local" if own else None

        async def start(session: Session) -> FollowedRun:
            return await session.call(start_retry, run, engine=engine, attached=stays)

        return _Launch(start, wait=stays, as_json=as_json).to_exit_status()


def follow(run: str, *, as_json: bool) -> int:
    """Follow a run that goes on to its end, and return the exit status of its result.

    Raises:
        ETLError: there is none, or it cannot be followed.
    """

    async def find(session: Session) -> FollowedRun:
        return await session.call(follow_run, run)

    return _Launch(find, wait=True, as_json=as_json, began="following").to_exit_status()


class _Launch:
    """Start of a run, which is followed as far as requested."""

    def __init__(
        self,
        start: Callable[[Session], Awaitable[FollowedRun]],
        *,
        wait: bool,
        as_json: bool,
        began: str = "started",
    ) -> None:
        self._began = began
        self._start = start
        self._rests = False
        self._wait = wait
        self._as_json = as_json
        self._workflow_id: str | None = None

    def to_exit_status(self) -> int:
        try:
            return run_to_end(self._run)
        except KeyboardInterrupt:
            print_interrupted(self._interrupted())
            sys.exit(INTERRUPTED)

    def _interrupted(self) -> str:
        if self._workflow_id is None:
            began = self._began == "started"
            return "Interrupted before the run was started." if began else "Interrupted."
        if self._rests:
            return (
                f"Interrupted: {self._workflow_id} rests at its last page; `etl serve`, or the "
                "same command again, goes on with it, and `etl cancel` ends it"
            )
        return (
            f"No longer waiting; the run goes on. Back to it: etl follow {self._workflow_id}; "
            f"to end it: etl cancel {self._workflow_id}"
        )

    async def _run(self) -> int:
        async with open_session() as session:
            started = await self._start(session)
            self._workflow_id = started.workflow_id
            self._rests = started.attached
            try:
                await self._follow(started)
                return await self._finish(started, await started.result())
            finally:
                await started.close()

    async def _follow(self, started: FollowedRun) -> None:
        def unattended() -> None:
            if started.queue is not None:
                note(
                    f"no queuer polls task queue {started.queue} yet; the run waits for one "
                    f"(`etl up` or `python -m queuer` starts it)"
                )
            else:
                note(f"{UNATTENDED_LOCAL} (without --wait, this command does not)")

        if self._wait:
            await self._follow_to_end(started)
            return
        with waiting(f"planning {_what(started)} ..."):
            await started.until_planned(_PLANNED_WITHIN, unattended)

    async def _follow_to_end(self, started: FollowedRun) -> None:
        note(f"{self._began} {started.workflow_id}", style="dim")
        with display(f"{_what(started)} {started.request.mode}") as show:
            async with contextlib.aclosing(started.snapshots()) as snapshots:
                async for snapshot in snapshots:
                    show(snapshot)

    async def _finish(self, started: FollowedRun, ended: Ended | None) -> int:
        if ended is None:
            await self._tell_started(started)
            return 0
        summary = ended.summary
        if self._as_json:
            print_json({**summary.model_dump(mode="json"), "engine": started.engine})
        if ended.misconfigured:
            note(f"etl: {summary.error}")
            return MISUSED
        if not self._as_json:
            _print_summary(summary)
        elif summary.error is not None:
            note(f"etl: {summary.error}")
        return 0 if summary.state == "completed" else FAILED

    async def _tell_started(self, started: FollowedRun) -> None:
        status = started.status
        jobs = status.jobs if status else None
        if self._as_json:
            print_json(
                {
                    "batch_id": status.batch_id if status else None,
                    "workflow_id": started.workflow_id,
                    "run_id": started.run_id,
                    "source": started.request.source,
                    "connection": started.request.connection,
                    "mode": started.request.mode,
                    "retries": started.request.retries,
                    "state": status.state if status else "waiting",
                    "jobs": {"planned": jobs},
                    "engine": started.engine,
                }
            )
        else:
            planned = f"{count(jobs, 'job')} planned" if jobs is not None else "not planned yet"
            say(f"started {_what(started)} {started.request.mode}: {planned}")
            print_fields(
                [
                    ("workflow", started.workflow_id),
                    ("engine", started.engine),
                    ("follow it", f"etl follow {started.workflow_id}"),
                    ("end it", f"etl cancel {started.workflow_id}"),
                ]
            )
        if jobs is None:
            for failure in await started.failures():
                note(f"it is tried again: {failure}", style="yellow")


def _what(started: FollowedRun) -> str:
    return label(started.request.source, started.request.connection)


def _print_summary(summary: BatchSummary) -> None:
    say(
        Text.assemble(
            f"{label(summary.source, summary.connection)} {summary.mode} ",
            state_text(summary.state),
            f" in {show_span(summary.seconds)}",
        )
    )
    numbers: dict[str, Any] = summary.jobs.model_dump()
    planned = numbers.pop("planned")
    jobs = ", ".join(f"{number:,} {state}" for state, number in numbers.items() if number)
    rows = ", ".join(f"{n:,} {outcome}" for outcome, n in summary.rows.model_dump().items())
    print_fields(
        [
            ("jobs", f"{planned:,} planned" + (f": {jobs}" if jobs else "")),
            ("rows", rows),
            ("batch", summary.batch_id),
            ("retries", summary.retries),
            ("workflow", summary.workflow_id),
            ("error", Text(summary.error, style="bold red") if summary.error else None),
        ]
    )
    if summary.jobs.skipped:
        skipped = count(summary.jobs.skipped, "job")
        say(f"{skipped} skipped: the same work was under way in another run", style="yellow")
    elif summary.state == "completed" and not summary.records:
        say(_nothing(summary))
    if summary.deleted:
        deleted = count(summary.deleted, "row")
        say(f"{deleted} deleted: the source no longer has their items")
    if summary.rows.rejected:
        rejected = count(summary.rows.rejected, "record")
        named = connection_option(summary.connection)
        say(f"{rejected} rejected: etl rejects list {summary.source}{named}", style="yellow")
    for noted in summary.notes:
        say(f"{noted.job}: {noted.note}", style="yellow")
    if summary.failures:
        table = make_table("failed job", "error", below=("error",))
        for failure in summary.failures:
            add_row(table, failure.job, failure.error)
        print_table(table)
        unnamed = summary.jobs.failed - len(summary.failures)
        if unnamed > 0:
            say(f"and {unnamed:,} more")


def _nothing(summary: BatchSummary) -> str:
    if summary.mode == "replay":
        what = label(summary.source, summary.connection)
        return f"nothing to replay: {what} has no rejects"
    windows = sorted({show_window(window) for window in summary.windows.values()})
    if len(windows) > 1:
        windows = [
            f"{stream}: {show_window(window)}" for stream, window in sorted(summary.windows.items())
        ]
    within = f" in the window {'; '.join(windows)}" if windows else ""
    return f"nothing to load: the source listed no records{within}"
