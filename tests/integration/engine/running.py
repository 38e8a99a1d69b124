"""Batches of the source of numbers, run by the engine."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import tests.integration.flows.numbers  # noqa: F401 - registers the source
from temporaletl.engine import EngineLimits, Listener, run_batch
from temporaletl.messages import BatchSummary, ETLInput, JobProgress, RunPolicy
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.state import read_states
from temporaletl.worker.segment import SegmentLimits

#: When the first run of a test is scheduled.
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
HEARTBEAT = timedelta(seconds=1)
LIMITS = EngineLimits(
    policy=RunPolicy(
        heartbeat_timeout=HEARTBEAT, initial_interval=timedelta(milliseconds=1), max_attempts=3
    ),
    segment=SegmentLimits(rows_per_page=1),
)


async def run(warehouse: Warehouse, *, limits: EngineLimits = LIMITS, **asked: Any) -> BatchSummary:
    """Run a full batch of numbers; whatever is not an argument of `run_batch` is a parameter."""
    known = (
        "connection",
        "mode",
        "scheduled",
        "cancel",
        "listener",
        "date_start",
        "date_end",
        "streams",
    )
    given = {name: asked.pop(name) for name in known if name in asked}
    given = {"mode": "full", "scheduled": FIRST, **given}
    async with asyncio.timeout(120):
        return await run_batch(warehouse, "numbers", params=asked, limits=limits, **given)


@dataclass
class Heard(Listener):
    """What a batch told; `on_page` hears of each page as well."""

    on_page: Callable[[ETLInput, JobProgress], None] = lambda _job, _progress: None
    jobs: int | None = None
    pages: int = 0
    failed: list[tuple[Exception, timedelta]] = field(default_factory=list)
    ended: list[tuple[int, str, Exception | None]] = field(default_factory=list)

    def planned(self, metadata: Any, jobs: int) -> None:  # noqa: ARG002
        self.jobs = jobs

    def page_loaded(self, job: ETLInput, progress: JobProgress) -> None:
        self.pages += 1
        self.on_page(job, progress)

    def attempt_failed(
        self,
        job: ETLInput | None,  # noqa: ARG002
        error: Exception,
        pause: timedelta,
    ) -> None:
        self.failed.append((error, pause))

    def job_ended(self, job: ETLInput, progress: JobProgress, error: Exception | None) -> None:
        self.ended.append((job.seq, progress.state, error))


def select(warehouse: Warehouse, statement: str, *values: Any) -> Sequence[Any]:
    with warehouse.connection() as connection:
        return connection.execute(statement.encode(), list(values)).fetchall()


def keys(warehouse: Warehouse) -> set[str]:
    found = select(warehouse, "SELECT event_id FROM events WHERE source_kind_id = 'numbers'")
    return {key for (key,) in found}


def watermark(warehouse: Warehouse) -> datetime | None:
    (state,) = read_states(warehouse, "numbers")
    return state.watermark
