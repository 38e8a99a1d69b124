"""A real Trino that goes away, forgets and is left: nothing is lost, nothing is left behind."""

import contextlib
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from temporaletl import (
    ConfigurationError,
    SourceUnavailableError,
)
from tests.fakes.faults import TRANSPORT, Faults
from tests.fakes.server import FakeServer
from tests.integration.job_reading import Read, pages_of, read
from tests.integration.trino_reading import SMALL, TPCH, WIDE, Lake, add_all, jobs_of, order
from tests.integration.trino_relay import TrinoRelay
from tests.waiting import until


#: The server takes long to start where the machine is busy.
async def test_no_trino_there_is_a_setting_to_correct(lake: Lake) -> None:
    lake.orders(order(1))
    with FakeServer(TrinoRelay("http://127.0.0.1:9", absent=True)) as elsewhere:
        lake.point_at(TRINO_PORT=str(elsewhere.port))
        with pytest.raises(ConfigurationError, match="there is no Trino at"):
            await read(jobs_of())


Relay = Callable[..., FakeServer]


@pytest.fixture
def relay(lake: Lake) -> Iterator[Relay]:
    """Puts something between us and Trino that can go wrong."""
    with contextlib.ExitStack() as stack:

        def start(*faults: str) -> FakeServer:
            service = TrinoRelay(lake.trino.url)
            injected = Faults(faults, known=TRANSPORT, seed=7, retry_after=timedelta(0))
            server = stack.enter_context(FakeServer(service, faults=injected))
            lake.point_at(TRINO_PORT=str(server.port), TRINO_READ_TIMEOUT_SECONDS="3")
            return server

        yield start


@pytest.mark.parametrize("kind", ["429", "503", "504", "reset"])
async def test_no_fault_of_the_transport_hides_a_row(lake: Lake, relay: Relay, kind: str) -> None:
    lake.streams(TPCH, query="SELECT * FROM tpch.tiny.orders WHERE orderkey < 12000")
    whole = await read(jobs_of(stream="tpch"))
    server = relay(f"{kind}:0.4")
    # Which requests fail depends on the query's id: now and then none does.
    for _ in range(10):
        found = await read(jobs_of(stream="tpch"))
        assert found.events == whole.events
        if server.faults.injected[kind]:
            return
    pytest.fail("no fault in ten queries")


async def test_a_trino_that_goes_away_is_asked_again_later(lake: Lake, relay: Relay) -> None:
    lake.streams(TPCH, query="SELECT * FROM tpch.tiny.orders")
    server = relay()
    (job,) = jobs_of(stream="tpch", page_rows=500)
    found = Read()
    async with pages_of(job) as pages:
        found.add(job, await anext(pages))
        server.close()
        with pytest.raises(SourceUnavailableError):
            await add_all(found, job, pages)
    assert 0 < len(found.events) < 15_000
    lake.point_at(TRINO_PORT=str(lake.trino.port))
    async with pages_of(job, found.cursors[-1]) as pages:
        async for page in pages:
            found.add(job, page)
    assert len(found.events) == 15_000


async def test_a_query_that_trino_forgot_is_asked_again_later(lake: Lake, relay: Relay) -> None:
    lake.streams(TPCH, query="SELECT * FROM tpch.tiny.orders")
    server = relay()
    (job,) = jobs_of(stream="tpch", page_rows=500)
    async with pages_of(job) as pages:
        await anext(pages)
        service = server.service
        assert isinstance(service, TrinoRelay)
        service.absent = True
        with pytest.raises(SourceUnavailableError, match="no longer knows the query"):
            await add_all(Read(), job, pages)


async def test_an_abandoned_query_is_cancelled(lake: Lake) -> None:
    mark = f"mark{uuid.uuid4().hex}"
    lake.streams(TPCH, query=WIDE.replace("'x'", f"'{mark}'"))
    (job,) = jobs_of(stream="tpch", page_rows=10)
    async with pages_of(job) as pages:
        await anext(pages)
    # In two parts, so that this question does not find itself.
    asked = (
        f"SELECT state, error_code FROM system.runtime.queries WHERE query LIKE '%{mark[:8]}' || "
        f"'{mark[8:]}%'"
    )
    await until(lambda: {row[0] for row in lake.trino.execute(asked)} <= {"FAILED"})
    assert lake.trino.execute(asked) == [["FAILED", "USER_CANCELED"]]


async def test_many_rows_stream_at_constant_memory(lake: Lake) -> None:
    lake.streams(
        SMALL + 'properties = "text"',
        query="""
        SELECT a * 1000 + b AS id, TIMESTAMP '2024-01-01 00:00:00' + INTERVAL '1' SECOND * a AS at,
          'some text' AS text
        FROM UNNEST(sequence(1, 100)) AS s (a), UNNEST(sequence(1, 1000)) AS t (b)
        """,
    )
    (job,) = jobs_of(stream="small")
    blocks: list[int] = []
    rows = 0
    async with pages_of(job) as pages:
        async for page in pages:
            rows += len(page.records)
            if rows % 20_000 == 0:
                blocks.append(sys.getallocatedblocks())
    assert rows == 100_000
    assert len(blocks) == 5
    # Each row is several blocks while it is kept.
    assert max(blocks) < blocks[0] + 100_000
