"""The main part of scripts/quickstart: a made-up Jira is loaded by the whole platform."""

import argparse
import asyncio
import contextlib
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from temporaletl import names
from temporaletl.embedded.processes import StackError, StoppedError
from temporaletl.embedded.running import (
    StackInUseError,
    default_data_folder,
    folder_mode,
    take,
)
from temporaletl.embedded.stack import Address, Stack, StackOptions, stopping_on_signals
from temporaletl.embedded.temporal_command import TemporalCommandError
from temporaletl.errors import ETLError
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.temporal.connect import connect
from tests.fakes.jira.demo import demo_site
from tests.fakes.jira.expected_counts import expected_counts
from tests.fakes.jira.service import JiraService
from tests.fakes.server import FakeServer

SEED = 7
_LOOK_AGAIN = timedelta(milliseconds=250)
#: Where nobody watches a bar, a line this often says how far it is.
_TELL_AGAIN = timedelta(seconds=5)
#: Of fewer rows, a rate would only tell how long Temporal takes for a few steps.
_WORTH_A_RATE = 1_000
#: Columns of the longest bar: a line of a picture fits 80.
_BAR = 48
#: What the demonstration's data answer; each row is a name and the parts of its bar.
QUESTIONS = (
    (
        "How long does work take? Days until done, of these - in review, on average by project",
        """
        SELECT project, avg(worked), avg(reviewed) FROM (
            SELECT split_part(parent_item_id, '-', 1) AS project,
                extract(epoch FROM sum(until - since) FILTER (WHERE state = 'In Progress'))
                    / 86400 AS worked,
                extract(epoch FROM sum(until - since) FILTER (WHERE state = 'In Review'))
                    / 86400 AS reviewed
            FROM (
                SELECT parent_item_id, event_properties->>'to_string' AS state,
                    event_time_utc AS since,
                    lead(event_time_utc) OVER (
                        PARTITION BY parent_item_id ORDER BY event_time_utc) AS until
                FROM events WHERE event_type = 'status_changed'
            ) AS stages
            GROUP BY parent_item_id HAVING bool_or(state = 'Done')
        ) AS done
        GROUP BY project ORDER BY avg(worked) + avg(reviewed) DESC
        """,
    ),
    (
        "What lies around? Issues that are not done, by age",
        """
        SELECT CASE WHEN age < 7 THEN 'under a week' WHEN age < 30 THEN 'under a month'
                WHEN age < 90 THEN 'under 3 months' ELSE 'older' END,
            count(*)
        FROM (
            SELECT extract(day FROM now() - event_time_utc) AS age FROM events
            WHERE event_type = 'issue_created' AND event_properties->>'status' <> 'Done'
        ) AS open
        GROUP BY 1 ORDER BY min(age)
        """,
    ),
    (
        "Where does the time go? Hours logged in the last 4 weeks, by project",
        """
        SELECT split_part(parent_item_id, '-', 1),
            sum((metrics->>'time_spent_seconds')::numeric) / 3600
        FROM events
        WHERE event_type = 'worklog_created' AND event_time_utc > now() - interval '28 days'
        GROUP BY 1 ORDER BY 2 DESC
        """,
    ),
)
#: What would lead to real systems: the demonstration must not load from, or into, those.
_REAL = (
    *("TEMPORAL_", "WPE_DB_", "DATABASE_URL", "SOURCE_TEMPORAL_", "JIRA_", "TRINO_", "SF_"),
    *("SLACK_", "NOTIFY_", "ETL_"),
)


def main() -> int:
    options = _options()
    # A pipe or a file has no width: wide enough for whole lines.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for name in [name for name in os.environ if name.startswith(_REAL)]:
        del os.environ[name]
    try:
        with _folder() as (folder, stays):
            return Quickstart(console, folder, options, stays=stays).run()
    except StoppedError:
        console.print("Stopped; nothing is left running.")
        return 130
    except (StackError, TemporalCommandError, ETLError) as error:
        console.print(str(error), markup=False)
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/quickstart",
        description="Starts PostgreSQL, Temporal, the queuer and a worker on this machine, loads "
        "a made-up Jira and Temporal's own workflows, shows what came of it, and ends it all.",
    )
    parser.add_argument("--keep", action="store_true", help="stay up afterwards, until Ctrl-C")
    parser.add_argument(
        "--issues", type=int, default=500, metavar="N", help="how many issues Jira has (500)"
    )
    return parser.parse_args()


@contextlib.contextmanager
def _folder() -> Iterator[tuple[Path, bool]]:
    """Where the data goes, and whether it stays; no `.env` is there, and services start in it."""
    folder = default_data_folder().with_name("temporaletl-quickstart")
    only_now = None
    try:
        take(folder).close()
    except StackInUseError:
        # Another quick start stays up on it.
        folder = only_now = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
        folder.chmod(folder_mode())
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder, only_now is None
    finally:
        os.chdir(before)
        if only_now is not None:
            shutil.rmtree(only_now)


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a run is: rows by any outcome, and its jobs."""

    rows: int = 0
    jobs: int = 0
    ended: int = 0


class Quickstart:
    def __init__(
        self, console: Console, folder: Path, options: argparse.Namespace, *, stays: bool
    ) -> None:
        self._console = console
        self._folder = folder
        self._options = options
        self._stays = stays

    def run(self) -> int:
        self._say("[bold]1. A made-up Jira[/]")
        now = time.time_ns() // 1_000_000
        site = demo_site(self._options.issues, now=now, seed=SEED)
        expected = expected_counts(site).events
        with FakeServer(JiraService(site)) as jira:
            self._say(f"   {self._options.issues} issues with {expected:,} events, at {jira.url}\n")
            self._say("[bold]2. PostgreSQL, Temporal, the queuer and a worker[/]")
            environment = {
                "JIRA_URL": jira.url,
                "JIRA_EMAIL": "you@example.com",
                "JIRA_API_TOKEN": "made-up",
                # This server lists an execution as soon as it closes.
                "SOURCE_TEMPORAL_LAG_SECONDS": "0",
            }
            stack = Stack(
                StackOptions(
                    data=self._folder,
                    fresh=True,
                    environment=environment,
                    api=Address("127.0.0.1", 8080) if self._options.keep else None,
                ),
                report=lambda line: self._console.print(f"   {line}", markup=False, soft_wrap=True),
            )
            with stopping_on_signals(stack), stack:
                os.environ.update(stack.environment)
                return self._demonstrate(stack, expected)

    def _demonstrate(self, stack: Stack, expected: int) -> int:
        self._say("\n[bold]3. Jira into the warehouse[/]")
        jira = asyncio.run(self._load(stack, "jira", expected))
        self._say("\n[bold]4. What Temporal did for it, into the warehouse too[/]")
        temporal = asyncio.run(self._load(stack, "temporal", None))
        self._say("\n[bold]5. What the warehouse answers now[/]")
        with self._connection() as connection:
            self._show_answers(connection)
        self._suggest(stack)
        if self._options.keep:
            self._say("\nEverything stays up until Ctrl-C.")
            stack.wait()
            self._say("Ending ...")
        return 0 if jira and temporal else 1

    async def _load(self, stack: Stack, source: str, expected: int | None) -> bool:
        settings = TemporalSettings.load()
        client: Client = await connect(settings)
        handle = await client.start_workflow(
            names.QUEUER_FLOW,
            QueuerInput(source=source, mode="full"),
            id=names.run_workflow_id(source, "full", datetime.now(UTC)),
            task_queue=settings.queuer_queue,
            result_type=BatchSummary,
        )
        self._say(f"   workflow {handle.id}")
        began = time.monotonic()
        result = asyncio.ensure_future(handle.result())
        await self._follow(stack, handle, result, expected)
        try:
            summary = result.result()
        except WorkflowFailureError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            self._console.print(f"   failed: {cause}", markup=False)
            return False
        self._tell(summary, time.monotonic() - began)
        return summary.state == "completed" and not summary.jobs.failed

    async def _follow(
        self,
        stack: Stack,
        handle: "WorkflowHandle[object, BatchSummary]",
        result: "asyncio.Future[BatchSummary]",
        expected: int | None,
    ) -> None:
        """Show how far the run is, until it has ended."""
        told = time.monotonic()
        with (
            self._connection() as connection,
            Progress(
                TextColumn("  "),
                SpinnerColumn(),
                BarColumn(bar_width=40),
                TextColumn("{task.completed:,} rows, {task.fields[jobs]}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
                disable=not self._console.is_terminal,
            ) as bar,
        ):
            task = bar.add_task("", total=expected, jobs="planning")
            while not result.done():
                if stack.wait(timedelta(0)):
                    raise StoppedError
                await asyncio.wait([result], timeout=_LOOK_AGAIN.total_seconds())
                now = _progress(connection, handle.id)
                jobs = f"{now.ended} of {now.jobs} jobs" if now.jobs else "planning"
                bar.update(task, completed=now.rows, jobs=jobs)
                due = time.monotonic() - told > _TELL_AGAIN.total_seconds()
                if due and not self._console.is_terminal:
                    told = time.monotonic()
                    self._say(f"   {now.rows:,} rows so far, {jobs}")

    def _tell(self, summary: BatchSummary, seconds: float) -> None:
        rows = summary.rows
        total = rows.inserted + rows.updated + rows.unchanged
        self._say(
            f"   {summary.state}: {total:,} rows from {summary.jobs.completed} of "
            f"{summary.jobs.planned} jobs in {seconds:.1f} s"
            + (f", {total / seconds:,.0f} rows/s" if total > _WORTH_A_RATE else "")
            + (f"; {rows.rejected} records rejected" if rows.rejected else "")
        )
        for failure in summary.failures[:5]:
            self._console.print(f"   {failure.job}: {failure.error}", markup=False)

    def _connection(self) -> psycopg.Connection:
        settings = WarehouseSettings.load()
        connection = psycopg.connect(settings.conninfo().get_secret_value(), autocommit=True)
        connection.execute(sql.SQL("SET search_path TO {}").format(_schema()))
        return connection

    def _show_answers(self, connection: psycopg.Connection) -> None:
        for question, query in QUESTIONS:
            self._say(f"\n   {question}")
            rows = [(str(name), [*map(float, parts)]) for name, *parts in connection.execute(query)]
            for line in bars(rows, block=_block(sys.stdout.encoding)):
                self._console.print(f"   {line}", markup=False)
        found = connection.execute(
            "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM temporal_workflows)"
        ).fetchone()
        events, workflows = found or (0, 0)
        self._say(f"\n   from {events:,} rows of events; temporal_workflows has {workflows:,}\n")

    def _suggest(self, stack: Stack) -> None:
        root = Path(__file__).resolve().parents[1]
        self._say("[bold]6. What to try next[/]")
        page = None if stack.api is None else f"http://{stack.api}"
        for line in suggestions(root, self._folder, page=page, stays=self._stays):
            self._console.print(f"   {line}", markup=False, soft_wrap=True)

    def _say(self, text: str) -> None:
        self._console.print(text)


def suggestions(root: Path, folder: Path, *, page: str | None, stays: bool) -> list[str]:
    """What to try next: of what stays up with a `page`, else of the data where that `stays`."""
    etl, data = (shlex.quote(str(path)) for path in (root / ".venv" / "bin" / "etl", folder))
    schema = WarehouseSettings.load().schema_name
    query = f"SELECT * FROM {schema}.events LIMIT 5"  # noqa: S608 - only shown
    if page is not None:
        return [
            f"The dashboard: {page}; and in another terminal:",
            f"  export ETL_DATA_DIR={data}",
            f"  {etl} run jira --mode full --wait    # again: every row is unchanged",
            f"  {etl} preview jira --limit 5         # what a load would write",
            f"  {etl} status",
            f"  {etl} psql -c '{query}'",
        ]
    again = [
        "The same again, and it stays up for you to look around:",
        f"  {shlex.quote(str(root / 'scripts' / 'quickstart'))} --keep",
    ]
    if not stays:
        return again
    return [*again, "Or look at the rows:", f"  ETL_DATA_DIR={data} {etl} psql -c '{query}'"]


def bars(rows: Sequence[tuple[str, Sequence[float]]], *, block: str) -> Iterator[str]:
    """Lines of a bar chart: a name, a bar of one or two parts, and their sum."""
    longest = max((sum(parts) for _, parts in rows), default=0) or 1
    names = max((len(name) for name, _ in rows), default=0)
    for name, parts in rows:
        marks = (block, "-")
        bar = "".join(
            mark * round(part / longest * _BAR) for mark, part in zip(marks, parts, strict=False)
        )
        total = sum(parts)
        shown = f"{total:,.0f}" if total.is_integer() else f"{total:,.1f}"
        yield f"{name:<{names}}  {bar:<{_BAR + 1}} {shown:>6}"


def _block(encoding: str | None) -> str:
    """What a bar is made of, where the terminal can show it."""
    try:
        "█".encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return "#"
    return "█"


def _schema() -> sql.Identifier:
    return sql.Identifier(WarehouseSettings.load().schema_name)


def _progress(connection: psycopg.Connection, workflow_id: str) -> Progressed:
    found = connection.execute(
        "SELECT coalesce(sum(inserted + updated + unchanged + rejected), 0), count(*), "
        "count(*) FILTER (WHERE etl_jobs.ended_at IS NOT NULL) "
        "FROM etl_jobs JOIN etl_batches USING (batch_id) WHERE etl_batches.workflow_id = %s",
        [workflow_id],
    ).fetchone()
    return Progressed(*(int(number) for number in found)) if found else Progressed()


if __name__ == "__main__":
    sys.exit(main())
