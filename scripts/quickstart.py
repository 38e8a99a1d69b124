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
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from temporaletl import names
from temporaletl.connect import connect
from temporaletl.embedded.postgres import programs
from temporaletl.embedded.processes import StackError, StoppedError
from temporaletl.embedded.running import StackInUseError, take
from temporaletl.embedded.stack import Stack, StackOptions, stopping_on_signals
from temporaletl.embedded.temporal_command import TemporalCommandError, cache_folder
from temporaletl.errors import ETLError
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.settings import TemporalSettings, WarehouseSettings
from tests.fakes.jira.expected_counts import expected_counts
from tests.fakes.jira.generate import generate
from tests.fakes.jira.service import JiraService
from tests.fakes.server import FakeServer

SEED = 7
_LOOK_AGAIN = timedelta(milliseconds=250)
#: Where nobody watches a bar, a line this often says how far it is.
_TELL_AGAIN = timedelta(seconds=5)
#: Of fewer rows, a rate would only tell how long Temporal takes for a few steps.
_WORTH_A_RATE = 1_000
#: Columns of a terminal that takes every column of the sample.
_WIDE = 120
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
    folder = cache_folder() / "quickstart"
    only_now = None
    try:
        take(folder).close()
    except StackInUseError:
        # Another quick start stays up on it.
        folder = only_now = Path(tempfile.mkdtemp(prefix="quickstart-", dir=cache_folder()))
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
        site = generate(self._options.issues, seed=SEED)
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
                StackOptions(data=self._folder, fresh=True, environment=environment),
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
        self._say("\n[bold]5. What is there now[/]")
        with self._connection() as connection:
            self._show_types(connection)
            self._show_sample(connection)
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

    def _show_types(self, connection: psycopg.Connection) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("event type")
        table.add_column("events", justify="right")
        table.add_column("people", justify="right")
        for kind, events, people in connection.execute(
            "SELECT event_type, count(*), count(DISTINCT employee_id) FROM events "
            "GROUP BY event_type ORDER BY count(*) DESC, event_type"
        ):
            table.add_row(str(kind), f"{events:,}", f"{people:,}")
        self._print(table)
        workflows = connection.execute("SELECT count(*) FROM temporal_workflows").fetchone()
        self._say(f"   and {workflows[0] if workflows else 0} rows in temporal_workflows\n")

    def _show_sample(self, connection: psycopg.Connection) -> None:
        wide = self._console.width >= _WIDE
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in ("time (UTC)", "item", "event", *(["person"] if wide else []), "from", "to"):
            table.add_column(name, no_wrap=True)
        for row in connection.execute(
            "SELECT to_char(event_time_utc AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), "
            "parent_item_id, event_type, relation_properties->>'display_name', "
            "event_properties->>'from_string', event_properties->>'to_string' "
            "FROM (SELECT DISTINCT ON (event_type) * FROM events "
            "WHERE event_properties->>'from_string' <> '' "
            "AND event_properties->>'to_string' <> '' "
            "ORDER BY event_type, event_time_utc DESC) AS latest "
            "ORDER BY event_time_utc DESC LIMIT 6"
        ):
            texts = row[3:] if wide else row[4:]
            table.add_row(*row[:3], *(_short(text, 24 if wide else 12) for text in texts))
        self._print(table)

    def _suggest(self, stack: Stack) -> None:
        root = Path(__file__).resolve().parents[1]
        url = shlex.quote(stack.environment["DATABASE_URL"])
        psql = shlex.quote(shutil.which("psql") or str(programs() / "psql"))
        schema = WarehouseSettings.load().schema_name
        query = f"SELECT * FROM {schema}.events LIMIT 5"  # noqa: S608 - only shown
        look = f"{psql} {url} -c {shlex.quote(query)}"
        self._say("[bold]6. What to try next[/]")
        for line in suggestions(
            root, self._folder, look, keep=self._options.keep, stays=self._stays
        ):
            self._console.print(f"   {line}", markup=False, soft_wrap=True)

    def _print(self, table: Table) -> None:
        self._console.print(Padding(table, (0, 0, 1, 3), expand=False))

    def _say(self, text: str) -> None:
        self._console.print(text)


def suggestions(root: Path, folder: Path, look: str, *, keep: bool, stays: bool) -> list[str]:
    """What to try next: of what stays up where `keep`, else of the data where that `stays`."""
    etl, data = (shlex.quote(str(path)) for path in (root / ".venv" / "bin" / "etl", folder))
    if keep:
        return [
            "In another terminal:",
            f"  export ETL_DATA_DIR={data}",
            f"  {etl} run jira --mode full --wait    # again: every row is unchanged",
            f"  {etl} preview jira --limit 5         # what a load would write",
            f"  {etl} status",
            f"  {etl} serve                          # the dashboard and the HTTP API",
            f"  {look}",
        ]
    again = [
        "The same again, and it stays up for you to look around:",
        f"  {shlex.quote(str(root / 'scripts' / 'quickstart'))} --keep",
    ]
    if not stays:
        return again
    return [
        *again,
        "Or, on what is loaded now, but without Jira:",
        f"  {etl} up --data {data}",
        f"  {look}    # in another terminal",
    ]


def _schema() -> sql.Identifier:
    return sql.Identifier(WarehouseSettings.load().schema_name)


def _short(cell: object, longest: int) -> str:
    text = "" if cell is None else str(cell)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


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
