"""Reading source `trino` as the platform does, from streams that a test makes."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from temporaletl import (
    ETLInput,
    Page,
)
from temporaletl.external import http
from temporaletl.external.trino.server import close_servers
from temporaletl.messages import Mode
from temporaletl.queuer.scans import scan_jobs
from temporaletl.queuer.sources.trino.inputs import expand
from temporaletl.queuer.sources.trino.params import describe
from temporaletl.worker.sources.trino import deletions, extract, transform
from tests.integration.job_reading import Read, plan_of
from tests.integration.trino_server import TrinoServer

#: Importing them registers the strategies.
REGISTERED = (deletions, extract, transform)
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
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)
    for name in [n for n in os.environ if n.startswith(("TRINO_", "GCP_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    made = Lake(trino_server, tmp_path, monkeypatch)
    made.point_at(TRINO_HOST=trino_server.host, TRINO_PORT=str(trino_server.port))
    yield made
    close_servers()


def jobs_of(mode: Mode = "full", *, stream: str = "orders", **more: Any) -> list[ETLInput]:
    plan = plan_of("trino", [stream], mode, **more)
    backlog = describe(plan)
    return [*expand(plan, backlog), *scan_jobs(plan, backlog)]


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
