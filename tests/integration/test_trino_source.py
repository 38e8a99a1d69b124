"""Source `trino` against a real Trino, from the streams file to events."""

import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from queuer.sources.trino.inputs import expand
from queuer.sources.trino.params import describe
from temporaletl import (
    ConfigurationError,
    CredentialsError,
    ETLInput,
    Event,
    Page,
    PageRequest,
    Plan,
    RecordError,
    Reject,
    RetryableError,
    SourceUnavailableError,
    TransformContext,
    Window,
)
from temporaletl.external import http
from temporaletl.external.trino import TrinoServer as Trino
from temporaletl.external.trino import TrinoSettings, close_servers, open_trino
from temporaletl.external.trino_access import Bearer
from temporaletl.messages import BatchMetadata, Mode
from tests.fakes.faults import TRANSPORT, Faults
from tests.fakes.server import FakeServer
from tests.integration.trino_relay import TrinoRelay, over_tls
from tests.integration.trino_server import ACCOUNT, TrinoServer, service_account_file
from tests.waiting import until
from worker.sources.trino.extract import extract
from worker.sources.trino.query import TrinoQuery
from worker.sources.trino.transform import transform

NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: The server takes long to start where the machine is busy.
pytestmark = pytest.mark.timeout(300)
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
class Setup:
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
def setup(
    trino_server: TrinoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Setup]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.01)
    for name in [n for n in os.environ if n.startswith(("TRINO_", "GCP_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    made = Setup(trino_server, tmp_path, monkeypatch)
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
    return list(expand(Plan(metadata), describe(Plan(metadata))))


@asynccontextmanager
async def pages_of(job: ETLInput, cursor: Any = None) -> AsyncIterator[Any]:
    request = PageRequest(job=job, query=TrinoQuery.from_dict(job.params), cursor=cursor)
    async with contextlib.aclosing(extract(request)) as pages:
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
        context = TransformContext(job=job, query=None)
        for record in page.records:
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


async def read(jobs: list[ETLInput]) -> Read:
    """Read jobs to their end, going on from the last cursor as the platform does."""
    found = Read()
    for job in jobs:
        cursor: Any = None
        while True:
            try:
                async with pages_of(job, cursor) as pages:
                    async for page in pages:
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


async def test_a_full_load_reads_every_row_as_an_event(setup: Setup) -> None:
    setup.orders(", ".join(order(n, placed=DAY + timedelta(minutes=n)) for n in range(1, 31)))
    found = await read(jobs_of(page_rows=7))
    assert found.numbers == set(range(1, 31))
    assert len(found.cursors) == 5
    event = found.events["orders:4"]
    assert event == Event(
        event_id="orders:4",
        event_type="order_placed",
        event_time_utc=DAY + timedelta(minutes=4),
        parent_item_id="N-4",
        relation_type="clerk",
        employee_id="c1",
        metrics={"amount": 1.5},
    )


async def test_people_are_resolved(setup: Setup) -> None:
    setup.orders(order(4))
    (job,) = jobs_of()
    context = TransformContext(job=job, query=None, identities={"c1": "E7"})
    async with pages_of(job) as pages:
        page = await anext(pages)
    (event,) = transform(page.records[0], context)
    assert event.employee_id == "E7"


async def test_a_window_has_its_start_and_not_its_end(setup: Setup) -> None:
    hours = {n: DAY + timedelta(hours=n) for n in range(5)}
    setup.orders(
        ", ".join(order(n, changed=changed) for n, changed in hours.items()),
        more="overlap_minutes = 0",
    )
    found = await read(jobs_of("incremental", start=hours[1], end=hours[3]))
    assert found.numbers == {1, 2}


async def test_an_incremental_window_reaches_back_by_the_streams_overlap(setup: Setup) -> None:
    setup.orders(
        ", ".join(order(n, changed=DAY + timedelta(minutes=10 * n)) for n in range(10)),
        more="overlap_minutes = 20",
    )
    found = await read(jobs_of("incremental", start=DAY + timedelta(minutes=60)))
    assert found.numbers == {4, 5, 6, 7, 8, 9}


async def test_a_backfill_goes_by_when_things_happened(setup: Setup) -> None:
    late = DAY + timedelta(days=90)
    setup.orders(
        ", ".join(order(n, placed=DAY + timedelta(days=n), changed=late) for n in range(10))
    )
    start, end = DAY + timedelta(days=2), DAY + timedelta(days=5)
    found = await read(jobs_of("backfill", start=start, end=end))
    assert found.numbers == {2, 3, 4}


async def test_a_window_is_cut_into_slices_that_overlap_nowhere(setup: Setup) -> None:
    setup.orders(
        ", ".join(order(n, changed=DAY + timedelta(hours=n)) for n in range(0, 72, 3)),
        more="slice_hours = 24",
    )
    jobs = jobs_of(end=DAY + timedelta(days=3))
    assert [job.window.start for job in jobs] == [None, *(DAY + timedelta(days=n) for n in (1, 2))]
    assert [job.window.end for job in jobs[:-1]] == [job.window.start for job in jobs[1:]]
    found = await read(jobs)
    assert found.numbers == set(range(0, 72, 3))
    assert found.records == 24


async def test_an_empty_window_is_no_job(setup: Setup) -> None:
    setup.orders(order(1))
    assert jobs_of("incremental", start=NOW, end=NOW) == []


@pytest.mark.parametrize("size", [1, 3, 10])
async def test_reading_goes_on_from_every_cursor_also_among_ties(setup: Setup, size: int) -> None:
    rows = [order(n, changed=DAY + timedelta(hours=n // 8)) for n in range(24)]
    nowhen = "(99, 'N-99', NULL, TIMESTAMP '2025-03-01 00:00:00 UTC', NULL, NULL)"
    twin = order(5)  # the same key and time
    table = setup.orders(", ".join([*rows, nowhen, twin]))
    # The query's own bounds would leave out what changed nobody knows when.
    setup.streams(
        ORDERS.replace("WHERE changed_at >= :start AND changed_at < :end", ""), table=table
    )
    (job,) = jobs_of(page_rows=size)
    whole = await read([job])
    assert whole.numbers == {*range(24), 99}
    assert whole.records == 26
    for position in range(len(whole.cursors)):
        first, rest = Read(), Read()
        async with pages_of(job) as pages:
            for _ in range(position + 1):
                first.add(job, await anext(pages))
        async with pages_of(job, first.cursors[-1]) as pages:
            async for page in pages:
                rest.add(job, page)
        assert first.events | rest.events == whole.events
        if size > 1:
            assert rest.records <= whole.records - first.records + 2


TYPED = """
[typed]
sql = "SELECT * FROM ({query}) t"
event_time = "at"
event_id = ["id", "part"]
event_type = { column = "kind" }
timezone = { column = "zone" }
metrics = ["big", "price", "ratio", "yes", "long"]
"""

VALUES = """
SELECT 7 AS id, 'a:b' AS part, 'thing_done' AS kind, 'Europe/Helsinki' AS zone,
  TIMESTAMP '2024-10-27 02:30:00.123456789 Europe/Berlin' AS at,
  BIGINT '9223372036854775807' AS big, DECIMAL '12.30' AS price, 0.25e0 AS ratio, true AS yes,
  CAST('12345678901234567.890' AS decimal(38,3)) AS long,
  TIMESTAMP '2024-05-01 10:00:00.123' AS local, TIMESTAMP '2024-05-01 10:00:00 +02:00' AS zoned,
  TIMESTAMP '2024-05-01 10:00:00 Europe/Berlin' AS named,
  DATE '2024-05-01' AS day, JSON '{"a": [1, null]}' AS document, ARRAY[DECIMAL '1.5', NULL] AS list,
  CAST(ROW(1, 'x', DATE '2024-05-01') AS row(n integer, t varchar, d date)) AS record,
  MAP(ARRAY['k'], ARRAY[JSON '[2]']) AS lookup,
  X'6162' AS data, NULL AS nothing, nan() AS no_number,
  UUID '12151fd2-7586-11e9-8f9e-2a86e4085a59' AS uuid, ROW(1, 2) AS unnamed
"""


async def test_every_type_of_value_is_kept(setup: Setup) -> None:
    setup.streams(TYPED.replace('"SELECT * FROM ({query}) t"', f"'''{VALUES}'''"))
    found = await read(jobs_of(stream="typed"))
    assert not found.rejects
    (event,) = found.events.values()
    assert event.event_id == "typed:7:a%3Ab"
    assert event.event_type == "thing_done"
    assert event.timezone == "Europe/Helsinki"
    # The first of the two half past two: Trino knows which.
    assert event.event_time_utc == datetime(2024, 10, 27, 0, 30, 0, 123456, tzinfo=UTC)
    assert event.metrics == {
        "big": 9223372036854775807,
        "price": 12.3,
        "ratio": 0.25,
        "yes": True,
        "long": 12345678901234567.89,
    }
    assert event.event_properties == {
        "local": "2024-05-01T10:00:00.123",
        "zoned": "2024-05-01T10:00:00+02:00",
        "named": "2024-05-01T10:00:00+02:00",
        "day": "2024-05-01",
        "document": {"a": [1, None]},
        "list": [1.5, None],
        "record": {"n": 1, "t": "x", "d": "2024-05-01"},
        "lookup": {"k": [2]},
        "data": "YWI=",
        "nothing": None,
        "no_number": "NaN",
        "uuid": "12151fd2-7586-11e9-8f9e-2a86e4085a59",
        "unnamed": [1, 2],
    }


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("DATE '2024-05-01'", datetime(2024, 5, 1, tzinfo=UTC)),
        ("TIMESTAMP '2024-05-01 10:00:00'", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("TIMESTAMP '2024-05-01 10:00:00 +05:30'", datetime(2024, 5, 1, 4, 30, tzinfo=UTC)),
    ],
)
async def test_a_time_without_a_zone_is_utc(setup: Setup, time: str, expected: datetime) -> None:
    setup.streams(SMALL, query=f"SELECT 1 AS id, {time} AS at")
    found = await read(jobs_of(stream="small"))
    assert found.events["small:1"].event_time_utc == expected


SMALL = """
[small]
sql = '''{query}'''
event_time = "at"
event_id = "id"
event_type = "seen"
"""
CHECKED = """
[small]
sql = '''{query}'''
event_time = "at"
event_id = "id"
event_type = { column = "kind" }
metrics = ["amount"]
timezone = { column = "zone" }
"""


async def test_a_row_that_cannot_be_an_event_is_rejected_with_the_column_at_fault(
    setup: Setup,
) -> None:
    at = "TIMESTAMP '2024-05-01 10:00:00'"
    setup.streams(
        CHECKED,
        query=f"""
        SELECT * FROM (VALUES
          ('1', {at}, 'seen', '1.5', 'UTC'), (NULL, {at}, 'seen', '1', 'UTC'),
          ('3', NULL, 'seen', '1', 'UTC'), ('4', {at}, NULL, '1', 'UTC'),
          ('5', {at}, 'seen', 'much', 'UTC'), ('6', {at}, 'seen', NULL, 'Mars/Base'),
          ('7', TIMESTAMP '15000-05-01 10:00:00', 'seen', '1', 'UTC')
        ) AS t (id, at, kind, amount, zone)
        """,
    )
    found = await read(jobs_of(stream="small", end=datetime(9999, 1, 1, tzinfo=UTC)))
    later = await read(jobs_of(stream="small"))
    assert set(found.events) == set(later.events) == {"small:1"}
    reasons = {reject.key: reject.reason for reject in found.rejects}
    assert reasons == {
        None: "column id is null, though events are known by it",
        "3": "column at is null, though it is the event's time",
        "4": "column kind is empty, though it is the event's type",
        "5": "column amount: 'much' is no number",
        "6": "column zone: 'Mars/Base' is no time zone",
    }
    (job,) = jobs_of(stream="small")
    context = TransformContext(job=job, query=None)
    for reject in found.rejects:
        payload = json.loads(json.dumps(reject.payload))
        with pytest.raises(RecordError, match=reject.reason):
            transform(payload, context)
    mended = {**next(r.payload for r in found.rejects if r.key == "5"), "amount": "2"}
    (event,) = transform(mended, context)
    assert event.metrics == {"amount": 2.0}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT 1 AS id, nosuch AS at FROM (VALUES 1) t", r"line 1 of its SQL: Column 'nosuch'"),
        ("SELECT 1 AS id,\nnosuch AS at FROM (VALUES 1) t", r"line 2 of its SQL: Column 'nosuch'"),
        ("SELECT 1 AS id, current_date AS t", r"read by column at: .*'at' cannot be resolved"),
        ("SELECT 1 AS no, current_date AS at", r"'id' cannot be resolved"),
        ("SELECT 1 AS id, 'x' AS at", r"read by column at: .*Cannot apply operator: varchar"),
        ("SELECT 1 AS id, 2 AS ID, current_date AS at", "'id' is ambiguous"),
        ("SELECT 1 AS id, current_date AS at FROM memory.no.such", "Schema 'no' does not exist"),
        ("SELEC 1", "line 1 of its SQL: mismatched input"),
        ("SELECT 1 AS id, current_date AS at, 1 AS x, 2 AS X", "two columns called x"),
    ],
)
async def test_a_query_that_is_wrong_is_a_mistake_in_its_file(
    setup: Setup, query: str, told: str
) -> None:
    setup.streams(SMALL, query=query)
    with pytest.raises(ConfigurationError, match=told) as refused:
        await read(jobs_of(stream="small"))
    assert f"stream 'small' of {setup.folder / 'streams.toml'}" in str(refused.value)


async def test_a_column_that_the_query_lacks_is_named_also_without_rows(setup: Setup) -> None:
    setup.streams(SMALL + 'person = "who"', query="SELECT 1 AS id, current_date AS at WHERE 1 = 0")
    with pytest.raises(ConfigurationError, match="no column who; it has id, at"):
        await read(jobs_of(stream="small"))


async def test_an_event_time_must_be_a_time(setup: Setup) -> None:
    text = SMALL.replace('event_time = "at"', 'event_time = "told"\ncursor = "at"')
    setup.streams(text, query="SELECT 1 AS id, current_date AS at, '2024-05-01' AS told")
    with pytest.raises(ConfigurationError, match=r"told is .* but is a varchar.*from_iso8601"):
        await read(jobs_of(stream="small"))


async def test_parameters_are_data_whatever_they_say(setup: Setup) -> None:
    table = setup.orders(order(1))
    nasty = f"x' OR 1=1; DROP TABLE {table} --"
    setup.streams(
        ORDERS.replace("WHERE", "WHERE number = :number AND").replace(
            "[orders]", '[orders]\nparameters = { number = "N-1" }'
        ),
        table=table,
    )
    assert (await read(jobs_of())).numbers == {1}
    assert (await read(jobs_of(parameters={"number": nasty}))).numbers == set()
    assert (await read(jobs_of())).numbers == {1}
    with pytest.raises(ConfigurationError, match="parameters: colour is none of this stream's"):
        jobs_of(parameters={"colour": "red"})


def secured(setup: Setup, **more: str) -> TrinoSettings:
    """Point the environment at the server's HTTPS side, with a token of our own."""
    if (own := setup.trino.secured) is None:
        pytest.skip("no Trino server: the one of TRINO_TEST_URL does not take our tokens")
    # Where they are set, they would win over what the library is told.
    setup.point_at(REQUESTS_CA_BUNDLE="/nowhere", CURL_CA_BUNDLE="/nowhere")
    variables = {
        "TRINO_PORT": str(own.port),
        "TRINO_HTTP_SCHEME": "https",
        "TRINO_CA_FILE": str(own.certificate),
        "GCP_CLIENT_EMAIL": ACCOUNT,
        "GCP_PRIVATE_KEY": own.private_key.replace("\n", "\\n"),
    }
    setup.point_at(**(variables | more))
    return TrinoSettings.load()


async def test_a_token_is_signed_with_the_accounts_key(setup: Setup) -> None:
    setup.orders(order(1))
    secured(setup)
    assert (await read(jobs_of())).numbers == {1}


async def test_a_key_file_does_as_well(setup: Setup) -> None:
    setup.orders(order(1))
    secured(setup)
    assert setup.trino.secured is not None
    for name in ("GCP_CLIENT_EMAIL", "GCP_PRIVATE_KEY"):
        setup.monkeypatch.delenv(name)
    file = service_account_file(setup.trino.secured, setup.folder)
    setup.point_at(GOOGLE_APPLICATION_CREDENTIALS=str(file))
    assert (await read(jobs_of())).numbers == {1}


async def test_a_token_that_trino_refuses_is_renewed(setup: Setup) -> None:
    """Where the clocks do not agree, Trino is the first to know that a token has expired."""
    setup.streams(SMALL, query="SELECT 1 AS id, current_date AS at")
    settings = secured(setup, TRINO_JWT_SECONDS="1")
    bearer = open_trino(settings)._session.auth
    assert isinstance(bearer, Bearer)
    setup.monkeypatch.setattr(bearer, "_remaining", lambda: timedelta(hours=1))
    tokens = set()
    for _ in range(2):
        await read(jobs_of(stream="small", end=datetime(9999, 1, 1, tzinfo=UTC)))
        tokens.add(bearer._credentials.token)
        expires = bearer._credentials.expiry.replace(tzinfo=UTC)
        # Whole seconds count, and the moment itself is still good.
        await until(lambda: datetime.now(UTC) > expires + timedelta(seconds=1.1))  # noqa: B023
    assert len(tokens) == 2


@pytest.mark.parametrize("gateway_is_ahead", [False, True])
async def test_a_query_outlives_its_token(setup: Setup, *, gateway_is_ahead: bool) -> None:
    """Tokens are renewed in time; and on refusal, in the middle of a query."""
    setup.streams(TPCH, query=WIDE)
    secured(setup)
    assert setup.trino.secured is not None
    folder = setup.trino.secured.certificate.parent
    gateway = TrinoRelay(
        f"https://127.0.0.1:{setup.trino.secured.port}",
        public_key=(folder / "public.pem").read_text(),
        authority=setup.trino.secured.certificate,
    )
    server = over_tls(FakeServer(gateway), folder)
    settings = secured(setup, TRINO_JWT_SECONDS="2", TRINO_PORT=str(server.port))
    bearer = open_trino(settings)._session.auth
    assert isinstance(bearer, Bearer)
    (job,) = jobs_of(stream="tpch", page_rows=1000)
    found = Read()
    with server:
        await outlive(setup, job, found, bearer, ahead=gateway_is_ahead)
        assert len(found.events) == 15_000
        assert bool(gateway.refused) is gateway_is_ahead


async def outlive(setup: Setup, job: ETLInput, found: Read, bearer: Bearer, *, ahead: bool) -> None:
    async with pages_of(job) as pages:
        found.add(job, await anext(pages))
        if ahead:
            setup.monkeypatch.setattr(bearer, "_remaining", lambda: timedelta(hours=1))
        expires = bearer._credentials.expiry.replace(tzinfo=UTC)
        # Whole seconds count, and the moment itself is still good.
        await until(lambda: datetime.now(UTC) > expires + timedelta(seconds=1.1))
        async for page in pages:
            found.add(job, page)


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


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"GCP_CLIENT_EMAIL": "x@example.com", "TRINO_USER": ACCOUNT}, "TRINO_USER"),
        (
            {"TRINO_JWT_AUDIENCE": "x", "TRINO_USER": "somebody"},
            "cannot impersonate.*check .*TRINO_USER",
        ),
    ],
)
async def test_a_refused_account_names_its_settings(
    setup: Setup, changed: dict[str, str], told: str
) -> None:
    setup.orders(order(1))
    settings = secured(setup, **changed)
    with pytest.raises(CredentialsError, match=told) as refused:
        await read(jobs_of())
    assert settings.private_key is not None
    assert settings.private_key.get_secret_value()[40:80] not in str(refused.value)


async def test_a_token_of_another_key_is_refused(setup: Setup, other_key: str) -> None:
    setup.orders(order(1))
    secured(setup, GCP_PRIVATE_KEY=other_key)
    with pytest.raises(CredentialsError, match=r"401 .*check GCP_CLIENT_EMAIL and GCP_PRIVATE_KEY"):
        await read(jobs_of())


async def test_an_unknown_authority_is_a_setting_to_correct(setup: Setup) -> None:
    setup.orders(order(1))
    secured(setup)
    for name in ("TRINO_CA_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        setup.monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match=r"certificate cannot be verified.*TRINO_CA_FILE"):
        await read(jobs_of())


async def test_no_trino_there_is_a_setting_to_correct(setup: Setup) -> None:
    setup.orders(order(1))
    with FakeServer(TrinoRelay("http://127.0.0.1:9", absent=True)) as elsewhere:
        setup.point_at(TRINO_PORT=str(elsewhere.port))
        with pytest.raises(ConfigurationError, match="there is no Trino at"):
            await read(jobs_of())


Relay = Callable[..., FakeServer]


@pytest.fixture
def relay(setup: Setup) -> Iterator[Relay]:
    """Puts something between us and Trino that can go wrong."""
    with contextlib.ExitStack() as stack:

        def start(*faults: str) -> FakeServer:
            service = TrinoRelay(setup.trino.url)
            injected = Faults(faults, known=TRANSPORT, seed=7, retry_after=timedelta(0))
            server = stack.enter_context(FakeServer(service, faults=injected))
            setup.point_at(TRINO_PORT=str(server.port), TRINO_READ_TIMEOUT_SECONDS="3")
            return server

        yield start


@pytest.mark.parametrize("kind", ["429", "503", "504", "reset"])
async def test_no_fault_of_the_transport_hides_a_row(setup: Setup, relay: Relay, kind: str) -> None:
    setup.streams(TPCH, query="SELECT * FROM tpch.tiny.orders WHERE orderkey < 12000")
    whole = await read(jobs_of(stream="tpch"))
    server = relay(f"{kind}:0.4")
    # Where faults strike depends on the query's id: now and then there is none.
    for _ in range(10):
        found = await read(jobs_of(stream="tpch"))
        assert found.events == whole.events
        if server.faults.injected[kind]:
            return
    pytest.fail("no fault in ten queries")


async def test_a_trino_that_goes_away_is_asked_again_later(setup: Setup, relay: Relay) -> None:
    setup.streams(TPCH, query="SELECT * FROM tpch.tiny.orders")
    server = relay()
    (job,) = jobs_of(stream="tpch", page_rows=500)
    found = Read()
    async with pages_of(job) as pages:
        found.add(job, await anext(pages))
        server.close()
        with pytest.raises(SourceUnavailableError):
            await add_all(found, job, pages)
    assert 0 < len(found.events) < 15_000
    setup.point_at(TRINO_PORT=str(setup.trino.port))
    async with pages_of(job, found.cursors[-1]) as pages:
        async for page in pages:
            found.add(job, page)
    assert len(found.events) == 15_000


async def test_a_query_that_trino_forgot_is_asked_again_later(setup: Setup, relay: Relay) -> None:
    setup.streams(TPCH, query="SELECT * FROM tpch.tiny.orders")
    server = relay()
    (job,) = jobs_of(stream="tpch", page_rows=500)
    async with pages_of(job) as pages:
        await anext(pages)
        service = server.service
        assert isinstance(service, TrinoRelay)
        service.absent = True
        with pytest.raises(SourceUnavailableError, match="no longer knows the query"):
            await add_all(Read(), job, pages)


async def test_an_abandoned_query_is_cancelled(setup: Setup) -> None:
    mark = f"mark{uuid.uuid4().hex}"
    setup.streams(
        TPCH, query=f"SELECT *, '{mark}' AS mark FROM tpch.sf1.orders WHERE custkey < 100000"
    )
    (job,) = jobs_of(stream="tpch", page_rows=10)
    async with pages_of(job) as pages:
        await anext(pages)
    # In two parts, so that this question does not find itself.
    asked = (
        f"SELECT state, error_code FROM system.runtime.queries WHERE query LIKE '%{mark[:8]}' || "
        f"'{mark[8:]}%'"
    )
    await until(lambda: {row[0] for row in setup.trino.execute(asked)} <= {"FAILED"})
    assert setup.trino.execute(asked) == [["FAILED", "USER_CANCELED"]]


async def test_many_rows_stream_at_constant_memory(setup: Setup) -> None:
    import tracemalloc  # noqa: PLC0415 - slows down what runs under it

    setup.streams(TPCH, query="SELECT * FROM tpch.sf1.orders WHERE orderkey <= 400000")
    (job,) = jobs_of(stream="tpch")
    peaks: list[int] = []
    rows = 0
    tracemalloc.start()
    try:
        async with pages_of(job) as pages:
            async for page in pages:
                rows += len(page.records)
                if rows % 20_000 == 0:
                    peaks.append(tracemalloc.get_traced_memory()[1])
                    tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    assert rows == 100_000
    assert len(peaks) == 5
    assert max(peaks) < 64 * 1024 * 1024
    assert peaks[-1] < 2 * peaks[0]


async def test_what_changed_between_two_loads_is_what_a_full_load_finds(setup: Setup) -> None:
    rows = {n: DAY + timedelta(minutes=n) for n in range(40)}
    table = setup.orders(", ".join(order(n, placed=at) for n, at in rows.items()))
    upto = DAY + timedelta(minutes=30)
    first = await read(jobs_of(end=upto))
    changed = upto + timedelta(minutes=5)
    tied = ", ".join(order(n, placed=rows[n], changed=changed) for n in (3, 4, 5))
    late = order(100, placed=DAY, changed=upto - timedelta(minutes=2))
    fresh = order(101, placed=changed, changed=changed)
    state = (
        f"SELECT * FROM {table} WHERE order_id NOT IN (3, 4, 5) UNION ALL "
        f"SELECT * FROM (VALUES {tied}, {late}, {fresh}) t ({COLUMNS})"
    )
    setup.streams(ORDERS, table=setup.table(state))
    second = await read(jobs_of("incremental", start=upto))
    whole = await read(jobs_of())
    assert first.events | second.events == whole.events
    assert len(whole.events) == 42
    assert second.records < whole.records + 1


def test_settings_of_a_server_are_one_server(setup: Setup) -> None:
    setup.orders(order(1))
    assert isinstance(open_trino(TrinoSettings.load()), Trino)
    assert open_trino(TrinoSettings.load()) is open_trino(TrinoSettings.load())


@pytest.fixture(scope="session")
def other_key() -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    return (
        rsa.generate_private_key(65_537, 2048)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )
