"""Batches as the two services run them, without Temporal: settle, plan, run segments, finish."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from temporaletl.errors import RetryableError
from temporaletl.messages import (
    BatchMetadata,
    BatchSummary,
    ETLInput,
    JobProgress,
    MetadataRequest,
    QueuerInput,
    RowCounts,
    RunPolicy,
    SegmentResult,
)
from temporaletl.queuer import planning
from temporaletl.rows import Row
from temporaletl.strategies import planners, resolve
from temporaletl.warehouse import ledger, state
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.columns import layout_of
from temporaletl.worker.segment import SegmentLimits, run_segment

#: Each extracted page is a page of the ledger, too.
_LIMITS = SegmentLimits(duration=timedelta(seconds=30), rows_per_page=1)
#: A source that asks to be left alone for longer is no source for a test.
_LONGEST_WAIT = timedelta(seconds=3)
_MOST_FAILURES = 40
_BATCH_WITHIN = timedelta(seconds=60)
_MOST_JOBS = 10_000

_numbers = count(1)

#: One row's columns without the lineage.
Content = Mapping[str, Any]


@dataclass
class Batch:
    """What one batch planned and did."""

    metadata: BatchMetadata
    jobs: list[ETLInput] = field(default_factory=list)
    segments: list[SegmentResult] = field(default_factory=list)
    #: Errors after which the same was tried again.
    retried: list[RetryableError] = field(default_factory=list)
    summary: BatchSummary | None = None
    most_failures: int = _MOST_FAILURES

    @property
    def rows(self) -> RowCounts:
        assert self.summary is not None  # noqa: S101 - it has ended
        return self.summary.rows

    @property
    def told(self) -> str:
        """All that would have gone through workflow history."""
        parts = [self.metadata, *self.jobs, *self.segments, *filter(None, [self.summary])]
        return "\n".join([*(part.model_dump_json() for part in parts), *map(str, self.retried)])


class _Listener:
    """Hears of a segment's pages, and asks it to stop behind so many of them."""

    def __init__(self, stop_behind: int | None) -> None:
        self.stopping = asyncio.Event()
        self._left = stop_behind

    def report(self, progress: JobProgress) -> None:  # noqa: ARG002 - of the protocol
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.stopping.set()


async def run_batch(
    warehouse: Warehouse,
    request: QueuerInput,
    *,
    nominal: datetime,
    stop_behind: int | None = None,
    most_failures: int = _MOST_FAILURES,
) -> Batch:
    """Run a batch to its end, in the very functions of both services.

    With `stop_behind`, every segment stops behind so many pages; the next one begins, as after a
    kill, with nothing but the ledger's cursor. `most_failures` is how often something is tried
    again that may succeed later.

    Raises: what the services would report of a job or a plan that fails for good.
    """
    async with asyncio.timeout(_BATCH_WITHIN.total_seconds()):
        batch = await plan_batch(warehouse, request, nominal=nominal, most_failures=most_failures)
        for job in batch.jobs:
            await _run_job(warehouse, job, batch, stop_behind)
        batch.summary = await asyncio.to_thread(
            ledger.finish_batch,
            warehouse,
            batch.metadata,
            workflow_id="suite",
            cancelled=False,
            error=None,
        )
        await asyncio.to_thread(state.advance, warehouse, batch.metadata, batch.summary)
    return batch


async def plan_batch(
    warehouse: Warehouse,
    request: QueuerInput,
    *,
    nominal: datetime,
    most_failures: int = _MOST_FAILURES,
) -> Batch:
    """Settle a batch and write its jobs to the ledger, as the queuer does."""
    asked = MetadataRequest(
        input=request, nominal=nominal, workflow_id="suite", run_id=f"run-{next(_numbers)}"
    )
    metadata = await asyncio.to_thread(
        planning.settle, warehouse, asked, policy=RunPolicy(), worker_queue="suite"
    )
    batch = Batch(metadata, most_failures=most_failures)
    while True:
        try:
            await planning.expand(warehouse, metadata, report=lambda _: None)
            break
        except RetryableError as error:
            await _sit_out(error, batch)
    first = 0
    while first < _MOST_JOBS:
        some, first = await asyncio.to_thread(
            ledger.unended_jobs, warehouse, metadata.batch_id, first=first, end=_MOST_JOBS
        )
        batch.jobs += some
    return batch


async def _run_job(
    warehouse: Warehouse, job: ETLInput, batch: Batch, stop_behind: int | None
) -> None:
    run_id = f"run-{next(_numbers)}"
    while True:
        try:
            result = await run_segment(
                job,
                warehouse=warehouse,
                workflow_id=f"job/{job.job_id}",
                run_id=run_id,
                limits=_LIMITS,
                progress=_Listener(stop_behind),
            )
        except RetryableError as error:
            await _sit_out(error, batch)
            continue
        batch.segments.append(result)
        if result.done:
            return
        if result.wait is not None:
            interruption = RetryableError(result.progress.error or "interrupted", delay=result.wait)
            await _sit_out(interruption, batch)


async def _sit_out(error: RetryableError, batch: Batch) -> None:
    batch.retried.append(error)
    delay = error.delay or timedelta(0)
    if len(batch.retried) > batch.most_failures or delay > _LONGEST_WAIT:
        raise error
    await asyncio.sleep(delay.total_seconds())


def tables_of(source: str) -> dict[str, type[Row]]:
    """The row classes that the streams of a source load, by table."""
    return {
        row.table: row
        for stream in planners.get(source).streams
        for row in resolve(source, stream).rows
    }


def key_of(row: type[Row], content: Mapping[str, Any]) -> str:
    """The row's key without the source: an event's id, else the key columns joined by "/"."""
    return "/".join(str(content[name]) for name in row.key if name != "source_kind_id")


@dataclass(frozen=True)
class Stored:
    """One row as the warehouse holds it: what it says, and what the platform knows of it."""

    content: Content
    #: Versions and lineage under their usual names, however the table calls them.
    own: Content


def read_rows(warehouse: Warehouse, source: str) -> dict[str, dict[str, Stored]]:
    """Every row of the source's tables, by table and key."""
    found: dict[str, dict[str, Stored]] = {}
    for table, kind in tables_of(source).items():
        ours = layout_of(kind).ours
        names = set(ours.values())
        found[table] = {
            key_of(kind, row): Stored(
                {name: value for name, value in row.items() if name not in names},
                {usual: row[name] for usual, name in ours.items()},
            )
            for row in _select(warehouse, "*", table)
        }
    return found


def read_content(warehouse: Warehouse, source: str) -> dict[str, dict[str, Content]]:
    """What the rows say, by table and key."""
    return {
        table: {key: row.content for key, row in rows.items()}
        for table, rows in read_rows(warehouse, source).items()
    }


def read_places(warehouse: Warehouse, source: str) -> dict[str, set[tuple[str, str, str]]]:
    """Where each table's row versions lie; a row that is written again lies elsewhere."""
    columns = "tableoid::text AS part, ctid::text AS place, xmin::text AS writer"
    return {
        table: {(r["part"], r["place"], r["writer"]) for r in _select(warehouse, columns, table)}
        for table in tables_of(source)
    }


def read_rejects(warehouse: Warehouse) -> list[dict[str, Any]]:
    return _select(warehouse, "*", "etl_rejects")


def read_as_text(warehouse: Warehouse) -> str:
    """Everything that the warehouse holds, data and ledger, as text."""
    with warehouse.connection() as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", [warehouse.schema]
        ).fetchall()
    rows: Sequence[Any] = [
        row for (table,) in tables for row in _select(warehouse, "t::text", f"{table}")
    ]
    return "\n".join(str(row) for row in rows)


def _select(warehouse: Warehouse, columns: str, table: str) -> list[dict[str, Any]]:
    statement = sql.SQL("SELECT {} FROM {} AS t").format(
        sql.SQL(columns),
        sql.Identifier(table),
    )
    with warehouse.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        set_json_loads(_loads, cursor)
        return cursor.execute(statement).fetchall()


def _loads(text: str | bytes) -> Any:
    return json.loads(text, parse_int=_number)


def _number(digits: str) -> int | str:
    """A number; as a text where it is longer than Python makes one of."""
    return int(digits) if len(digits) < sys.int_info.default_max_str_digits else digits
