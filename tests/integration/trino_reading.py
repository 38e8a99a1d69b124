"""Reading source `trino` as the platform does, from streams that a test makes."""

import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from temporaletl import (
    CompleteSet,
    ETLInput,
    Event,
    Page,
    PageRequest,
    Plan,
    RecordError,
    Reject,
    RetryableError,
    TransformContext,
    Window,
)
from temporaletl.external import http
from temporaletl.external.trino.server import close_servers
from temporaletl.messages import BatchMetadata, Mode
from temporaletl.queuer.scans import scan_jobs
from temporaletl.queuer.sources.trino.inputs import expand
from temporaletl.queuer.sources.trino.params import describe
from temporaletl.rows import ScanItems
from temporaletl.testing.scans import MemoryScan
from temporaletl.worker.scanning import scanned_pages
from temporaletl.worker.sources.trino.deletions import scan_rows
from temporaletl.worker.sources.trino.extract import extract
from temporaletl.worker.sources.trino.query import TrinoQuery
from temporaletl.worker.sources.trino.transform import transform
from tests.integration.trino_server import TrinoServer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = datetime(2025, 3, 1, tzinfo=UTC)

ORDERS = """
[orders]
sql = '''
SELECT * FROM {table}
WHERE changed_at >= :start AND changed_at < :end -- the window's
'''
cursor = "changed_at"
event_time = "placed_at"
event_id = "order_id"
event_type = "order_placed"
item = "number"
person = "clerk"
relation_type = "clerk"
metrics = ["amount"]
"""


@dataclass
class Lake:
    """A streams file of the test's own, and a server that it is read from."""

    trino: TrinoServer
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def streams(self, text: str, **names: str) -> None:
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", value)
        file = self.folder / "streams.toml"
        file.write_text(text)
        self.monkeypatch.setenv("TRINO_STREAMS_FILE", str(file))

    def orders(self, rows: str, *, more: str = "") -> str:
        """A stream `orders` over a table of these rows: see `COLUMNS`."""
        table = self.table(f"SELECT * FROM (VALUES {rows}) AS t ({COLUMNS})")
        self.streams(ORDERS + more, table=table)
        return table

    def table(self, query: str) -> str:
        table = f"memory.test.t{uuid.uuid4().hex[:12]}"
        self.trino.execute(f"CREATE TABLE {table} AS {query}")
        return table

    def point_at(self, **variables: str) -> None:
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)


COLUMNS = "order_id, number, clerk, placed_at, changed_at, amount"


def order(number: int, *, placed: datetime = DAY, changed: datetime | None = None) -> str:
    times = [f"TIMESTAMP '{each:%Y-%m-%d %H:%M:%S.%f} UTC'" for each in (placed, changed or placed)]
    return f"({number}, 'N-{number}', 'c{number % 3}', {', '.join(times)}, DECIMAL '1.50')"


@pytest.fixture
def lake(
    trino_server: TrinoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Lake]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.01)
    for name in [n for n in os.environ if n.startswith(("TRINO_", "GCP_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    made = Lake(trino_server, tmp_path, monkeypatch)
    made.point_at(TRINO_HOST=trino_server.host, TRINO_PORT=str(trino_server.port))
    yield made
    close_servers()


def jobs_of(
    mode: Mode = "full",
    *,
    start: datetime | None = None,
    end: datetime = NOW,
    stream: str = "orders",
    **params: Any,
) -> list[ETLInput]:
    metadata = BatchMetadata(
        batch_id="b",
        source="trino",
        mode=mode,
        connection="default",
        windows={stream: Window(start=start, end=end)},
        params=params,
        worker_queue="q",
        started=NOW,
    )
    plan = Plan(metadata)
    backlog = describe(plan)
    return [*expand(plan, backlog), *scan_jobs(plan, backlog)]


@asynccontextmanager
async def pages_of(
    job: ETLInput, cursor: Any = None, scan: MemoryScan | None = None
) -> AsyncIterator[Any]:
    """The pages of a job."""
    request = PageRequest(
        job=job,
        query=TrinoQuery.from_dict(job.params),
        cursor=cursor,
    )
    found = extract(request) if scan is None else scanned_pages(scan_rows, scan, request)
    async with contextlib.aclosing(found) as pages:
        yield pages


@dataclass
class Read:
    """What came of reading: events by id, rejects, and a cursor for each page."""

    events: dict[str, Event] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    cursors: list[Any] = field(default_factory=list)
    records: int = 0
    interruptions: int = 0

    def add(self, job: ETLInput, page: Page) -> None:
        context = TransformContext(job=job, query=TrinoQuery())
        for record in page.records:
            if isinstance(record, ScanItems):
                continue
            if isinstance(record, CompleteSet):
                assert record.exact
                del self.events[record.prefix]
                continue
            self.records += 1
            try:
                self.events |= {event.event_id: event for event in transform(record, context)}
            except RecordError as error:
                reject = Reject(
                    stage="transform", reason=str(error), key=record.key, payload=record.raw
                )
                self.rejects.append(reject)
        self.cursors.append(json.loads(json.dumps(page.cursor)))

    @property
    def numbers(self) -> set[int]:
        return {int(event_id.rpartition(":")[2]) for event_id in self.events}


async def read(jobs: list[ETLInput], into: Read | None = None) -> Read:
    """Read jobs to their end, going on from the last cursor as the platform does.

    `into` is what came of reading before.
    """
    found = Read() if into is None else into
    for job in jobs:
        cursor: Any = None
        scan = MemoryScan(found.events.keys) if job.scan else None
        while True:
            try:
                async with pages_of(job, cursor, scan) as pages:
                    async for page in pages:
                        if scan is not None:
                            scan.take(page)
                        found.add(job, page)
                        cursor = found.cursors[-1]
                break
            except RetryableError:
                found.interruptions += 1
                assert found.interruptions < 60
    return found


async def add_all(found: Read, job: ETLInput, pages: AsyncIterator[Page]) -> None:
    async for page in pages:
        found.add(job, page)


SMALL = """
[small]
sql = '''{query}'''
event_time = "at"
event_id = "id"
event_type = "seen"
"""


#: So wide that not much of it fits into one answer.
WIDE = "SELECT *, rpad('', 4000, 'x') AS padding FROM tpch.tiny.orders"
TPCH = """
[tpch]
sql = "{query}"
event_time = "orderdate"
event_id = "orderkey"
event_type = "order_placed"
metrics = "totalprice"
properties = ["orderpriority"]
"""
