"""Answers of Trino that are none, values that no one can decode, and texts with NULs."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from temporaletl import SourceProtocolError, SourceUnavailableError
from temporaletl.external import http
from temporaletl.external.trino.account import trino_account
from temporaletl.warehouse.connection import Warehouse
from tests.fakes.exchange import Request, Response
from tests.fakes.faults import TRANSPORT, Faults
from tests.fakes.server import FakeServer
from tests.integration.job_reading import Change, Read, pages_of, read
from tests.integration.loading.jobs import Job, fetch
from tests.integration.trino_reading import SMALL, Lake, add_all, jobs_of, order
from tests.integration.trino_relay import TrinoRelay


#: The server takes long to start where the machine is busy.
class CorruptingRelay(TrinoRelay):
    """A relay whose answers go through a function."""

    def __init__(self, target: str, corruption: Change) -> None:
        super().__init__(target)
        self._corruption = corruption

    def answer(self, request: Request) -> Response:
        answer = super().answer(request)
        return answer if request.method == "DELETE" else self._corruption(request, answer)


Behind = Callable[[Change], None]


@pytest.fixture
def behind(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behind]:
    """Read Trino from now on through a relay that corrupts its answers."""
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)
    with contextlib.ExitStack() as stack:

        def start(corruption: Change) -> None:
            service = CorruptingRelay(lake.trino.url, corruption)
            server = stack.enter_context(FakeServer(service, faults=Faults(known=TRANSPORT)))
            lake.point_at(TRINO_PORT=str(server.port))

        yield start


CORRUPTED = {
    "HTML": Response(200, b"<!DOCTYPE html><title>Log in</title>", "text/html"),
    "empty": Response(200, b""),
    "an object of nothing": Response(200, b"{}"),
    "an error": Response(200, b'{"message": "sorry"}'),
    "not UTF-8": Response(200, b"\xff\xfe"),
    "cut": Response(200, b'{"id": "2025", "data": [[1, "x"], [2,'),
}


@pytest.mark.parametrize("kind", CORRUPTED)
async def test_one_answer_that_is_none_is_asked_for_again(
    lake: Lake, behind: Behind, kind: str
) -> None:
    lake.orders(", ".join(order(n) for n in range(40)))
    seen: set[str] = set()

    def once(request: Request, answer: Response) -> Response:
        if request.path in seen:
            return answer
        seen.add(request.path)
        return CORRUPTED[kind]

    behind(once)
    found = await read(jobs_of(page_rows=7))
    assert found.numbers == set(range(40))
    assert not found.interruptions
    assert len(seen) > 2


@pytest.mark.parametrize("kind", CORRUPTED)
async def test_what_is_never_an_answer_is_no_end_of_the_rows(
    lake: Lake, behind: Behind, kind: str
) -> None:
    lake.orders(order(1))
    behind(lambda request, answer: answer if request.method == "POST" else CORRUPTED[kind])
    (job,) = jobs_of()
    found = Read()
    async with pages_of(job) as pages:
        with pytest.raises((SourceUnavailableError, SourceProtocolError)):
            await add_all(found, job, pages)
    assert not found.events


POISONS = {
    "not a number": b"NaN",
    "not UTF-8": b'"b\xfcrger"',
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "5,000 digits": b"9" * 5_000,
    "beyond a double": b"1e999",
}
POISONED = """
[small]
sql = "SELECT id, at, 'text' || CAST(id AS varchar) AS text, 1 AS unread FROM {table}"
event_time = "at"
event_id = "id"
event_type = "seen"
properties = ["text"]
"""


def poisoning(value: bytes, poison: bytes) -> Change:
    def put_in(request: Request, answer: Response) -> Response:
        del request
        return Response(answer.status, answer.body.replace(value, poison))

    return put_in


@pytest.mark.parametrize("kind", POISONS)
@pytest.mark.parametrize("rows", [1, 3, 100])
async def test_a_value_that_cannot_be_decoded_costs_its_row(
    lake: Lake, behind: Behind, kind: str, rows: int
) -> None:
    table = lake.table(
        "SELECT n AS id, TIMESTAMP '2025-03-01 00:00:00 UTC' AS at FROM UNNEST(sequence(10, 29))"
        " AS s (n)"
    )
    lake.streams(POISONED, table=table)
    behind(poisoning(b'"text14"', POISONS[kind]))
    found = await read(jobs_of(stream="small", page_rows=rows))
    assert found.numbers == {*range(10, 30)} - {14}
    behind(poisoning(b'"text14"', POISONS[kind]))
    (job,) = jobs_of(stream="small", page_rows=rows)
    async with pages_of(job) as pages:
        rejects = [reject async for page in pages for reject in page.rejects]
    (reject,) = rejects
    assert reject.key == "14"
    assert reject.reason.startswith("column text: ")
    assert reject.payload["text"] == POISONS[kind].decode("utf-8", "replace")


async def test_what_nobody_reads_may_be_undecodable(lake: Lake, behind: Behind) -> None:
    lake.streams(
        POISONED.replace("1 AS unread", "id + 770000 AS unread"), table="(VALUES (1, NULL))"
    )
    table = lake.table("SELECT 14 AS id, TIMESTAMP '2025-03-01 00:00:00 UTC' AS at")
    lake.streams(POISONED.replace("1 AS unread", "id + 770000 AS unread"), table=table)
    behind(poisoning(b"770014", b"9" * 5_000))
    found = await read(jobs_of(stream="small"))
    assert found.numbers == {14}
    assert not found.rejects


async def test_a_row_whose_place_is_undecodable_hides_no_other(lake: Lake, behind: Behind) -> None:
    table = lake.table(
        "SELECT n AS id, TIMESTAMP '2025-03-01 00:00:00 UTC' AS at FROM UNNEST(sequence(10, 29))"
        " AS s (n)"
    )
    lake.streams(POISONED, table=table)
    # The key within the position, which is text; and the id.
    behind(lambda r, a: poisoning(b',"10"]', b',"1\xff"]')(r, poisoning(b"[10,", b"[NaN,")(r, a)))
    for rows in (1, 100):
        (job,) = jobs_of(stream="small", page_rows=rows)
        found, rejects = Read(), 0
        async with pages_of(job) as pages:
            async for page in pages:
                found.add(job, page)
                rejects += len(page.rejects)
        assert (found.numbers, rejects) == ({*range(11, 30)}, 1)
        for cursor in found.cursors:
            async with pages_of(job, cursor) as pages:
                rest = [reject async for page in pages for reject in page.rejects]
                assert len(rest) <= 1


NULS = """
[nulkey]
sql = '''SELECT id, ts FROM (VALUES
  (CAST('a' AS varchar), TIMESTAMP '2024-01-01 00:00:00'),
  (CAST('b' || chr(0) || 'c' AS varchar), TIMESTAMP '2024-01-02 00:00:00'),
  (CAST('b' || chr(0) || 'd' AS varchar), TIMESTAMP '2024-01-02 00:00:00'),
  (CAST('e' AS varchar), TIMESTAMP '2024-01-02 00:00:00')) AS v (id, ts)'''
event_time = "ts"
event_id = "id"
event_type = "t"
"""


async def test_reading_goes_on_from_an_id_with_a_nul(lake: Lake) -> None:
    lake.streams(NULS)
    (job,) = jobs_of(stream="nulkey", page_rows=1)
    whole = await read([job])
    assert set(whole.events) == {"nulkey:a", "nulkey:b\ufffdc", "nulkey:b\ufffdd", "nulkey:e"}
    assert whole.cursors[1]["keys"] == ["b\0c"]
    for number, cursor in enumerate(whole.cursors, start=1):
        rest = await read([job], cursor=cursor, patience=0)
        assert list(rest.events) == list(whole.events)[number:]


MONEY = """
[money]
sql = '''SELECT 1 AS id, TIMESTAMP '2024-01-01 00:00:00' AS ts,
  DECIMAL '90071992547409.93' AS paid, DECIMAL '1234567890123456789012345678.0123456789' AS big,
  DECIMAL '90071992547409.93' AS kept, nan() AS share'''
event_time = "ts"
event_id = "id"
event_type = "t"
metrics = ["paid", "big", "share"]
"""


async def test_amounts_keep_all_their_digits(lake: Lake, warehouse: Warehouse) -> None:
    lake.streams(MONEY)
    found = await read(jobs_of(stream="money"))
    Job(warehouse, source="trino", stream="money").load(*found.events.values())
    (row,) = fetch(
        warehouse, "SELECT metrics::text AS metrics, event_properties AS kept FROM events"
    )
    numbers = dict(re.findall(r'"(\w+)": ([^,}]+)', row["metrics"]))
    assert Decimal(numbers["paid"]) == Decimal("90071992547409.93")
    assert Decimal(numbers["big"]) == Decimal("1234567890123456789012345678.0123456789")
    assert numbers["share"] == '"NaN"'
    assert row["kept"] == {"kept": "90071992547409.93"}


async def test_an_id_longer_than_an_index_takes_is_refused_with_words(lake: Lake) -> None:
    query = """
        SELECT rpad('', n, 'ä') AS id, TIMESTAMP '2024-01-01 00:00:00' AS at
        FROM UNNEST(sequence(1200, 1400, 50)) AS s (n)"""
    lake.streams(SMALL, query=query)
    found = await read(jobs_of(stream="small"))
    assert len(found.events) == 2
    assert len(found.rejects) == 3
    assert "more than the 2,600 that the warehouse's index takes" in found.rejects[0].reason
    assert "event_id" in found.rejects[0].reason


async def test_the_account_is_the_user_and_the_tables_that_the_streams_read(lake: Lake) -> None:
    table = lake.orders(
        order(1),
        more='[other]\nsql = "SELECT * FROM tpch.tiny.region"\n'
        'event_time = "x"\nevent_id = "x"\nevent_type = "x"\n'
        '[gone]\nsql = "SELECT * FROM memory.test.nowhere"\n'
        'event_time = "x"\nevent_id = "x"\nevent_type = "x"\n',
    )
    lake.point_at(TRINO_USER="jane")
    view = trino_account()
    assert view.account == "jane"
    assert view.containers == {table, "tpch.tiny.region"}


def test_tables_are_requested_as_soon_as_trino_lets_the_user_in(lake: Lake, behind: Behind) -> None:
    lake.orders(order(1))
    explained = threading.Event()

    def hold(request: Request, answer: Response) -> Response:
        """Hold what is left of the query for the user's name until the tables are requested."""
        if b"EXPLAIN" in request.body:
            explained.set()
        assert request.method == "POST" or explained.wait(timeout=120)
        return answer

    behind(hold)
    assert trino_account().containers
