"""What a query's end means, whatever Trino calls it; and where our credentials go."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from temporaletl import (
    ConfigurationError,
    CredentialsError,
    RateLimitedError,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.external import deadline, http
from temporaletl.external.trino import server as module, transport
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.external.trino.order import Ordered, Position
from temporaletl.external.trino.server import Statement, close_servers, open_trino
from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.server import FakeServer

Json = dict[str, Any]
ANSWER = {"id": "q1", "infoUri": "http://x/", "stats": {}}


class OneAnswer:
    """Says the same to every question."""

    own_faults: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, answer: Response) -> None:
        self.given = answer
        self.requests: list[Request] = []

    def bind(self, base_url: str, faults: Faults) -> None: ...

    def answer(self, request: Request) -> Response:
        self.requests.append(request)
        return self.given

    def refuse(self, status: int) -> Response:
        return Response(status)


Ask = Callable[[Response], OneAnswer]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ask]:
    """Query a server that answers so; returns the requests that it received."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)

    def ask(answer: Response, **variables: str) -> OneAnswer:
        service = OneAnswer(answer)
        with FakeServer(service) as server:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("TRINO_HOST", "127.0.0.1")
            monkeypatch.setenv("TRINO_PORT", str(server.port))
            trino = open_trino(TrinoSettings.load())
            Statement(trino, "SELECT 1", name="the query of x").fetch(10)
        return service

    yield ask
    close_servers()


def failed(kind: str, name: str, message: str = "line 1:8: it is wrong") -> Response:
    error = {"message": message, "errorCode": 1, "errorName": name, "errorType": kind}
    return Response.of({**ANSWER, "error": error})


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        ("USER_ERROR", "COLUMN_NOT_FOUND", ConfigurationError),
        ("USER_ERROR", "DIVISION_BY_ZERO", ConfigurationError),
        ("USER_ERROR", "PERMISSION_DENIED", CredentialsError),
        ("USER_ERROR", "ABANDONED_QUERY", SourceUnavailableError),
        ("INSUFFICIENT_RESOURCES", "EXCEEDED_CLUSTER_MEMORY", SourceUnavailableError),
        ("INTERNAL_ERROR", "SERVER_SHUTTING_DOWN", SourceUnavailableError),
        ("EXTERNAL", "HIVE_METASTORE_ERROR", SourceUnavailableError),
    ],
)
def test_an_error_of_a_query_says_whose_it_is(
    ask: Ask, kind: str, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=rf"the query of x: line 1 of its SQL: it is wrong \({name},"):
        ask(failed(kind, name))


def test_an_endless_message_is_cut(ask: Ask) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ask(failed("USER_ERROR", "SYNTAX_ERROR", "x" * 10_000))
    assert len(str(refused.value)) < 700


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (Response(404, b"none", "text/plain"), ConfigurationError, "no Trino at .*TRINO_HOST"),
        (Response(401, b"no", "text/plain"), CredentialsError, "no credentials are set"),
        (Response(403, b"no", "text/plain"), CredentialsError, "TRINO_USER"),
        (
            Response(200, b"<html><title>Log in</title>", "text/html"),
            SourceUnavailableError,
            r'page of HTML \("Log in"\).*check TRINO_HOST and TRINO_USER',
        ),
        (Response.of({"id": "q1"}), SourceProtocolError, "infoUri"),
        (Response.of({}), SourceProtocolError, "`id`"),
        (Response.of({"message": "sorry"}), SourceProtocolError, "an error: sorry"),
        (Response(200, b""), SourceUnavailableError, "an empty body"),
        (Response(200, b'{"id": "q1", "infoUri'), SourceUnavailableError, "no JSON"),
        (Response(503, b""), SourceUnavailableError, "503"),
    ],
)
def test_an_answer_that_is_none_says_what_to_do(
    ask: Ask, answer: Response, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        ask(answer)


def test_a_long_delay_is_left_to_the_platform(ask: Ask) -> None:
    with pytest.raises(RateLimitedError) as limited:
        ask(Response(429, b"", "text/plain", {"Retry-After": "300"}))
    assert limited.value.delay is not None
    assert limited.value.delay.total_seconds() > 290


def test_a_query_says_who_asks_and_takes_results_as_they_come(ask: Ask) -> None:
    column = {
        "name": "x",
        "type": "integer",
        "typeSignature": {"rawType": "integer", "arguments": []},
    }
    service = ask(Response.of({**ANSWER, "columns": [column], "data": [[1]]}))
    (request,) = service.requests
    assert request.headers["x-trino-user"] == "temporaletl"
    assert request.headers["x-trino-time-zone"] == "UTC"
    assert "x-trino-query-data-encoding" not in request.headers


def test_credentials_are_sent_to_no_other_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRINO_HOST", "trino.example")
    monkeypatch.setenv("TRINO_USER", "u")
    monkeypatch.setenv("TRINO_PASSWORD", "s3cret")
    trino = open_trino(TrinoSettings.load())
    statement = Statement(trino, "SELECT 1", name="x")
    relay = statement._cursor._connection._http_session
    for url in ("http://trino.example/v1/statement/1", "https://trino.example.org/v1/x"):
        with pytest.raises(ConfigurationError, match="our credentials are not sent"):
            relay.get(url)
    close_servers()


class Endless(OneAnswer):
    """Leads on from each answer to another, none with a row."""

    def __init__(self) -> None:
        super().__init__(Response(204))
        self.address = ""
        self.requested = threading.Event()

    def bind(self, base_url: str, faults: Faults) -> None:
        del faults
        self.address = base_url

    def answer(self, request: Request) -> Response:
        self.requests.append(request)
        self.requested.set()
        if request.method == "DELETE":
            return Response(204)
        number = len(self.requests)
        following = f"{self.address}/v1/statement/executing/q1/s/{number}"
        # It ends after all, where nobody gives it up.
        more = {"nextUri": following} if number < 3_000 else {}
        return Response.of({**ANSWER, **more})


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Endless]:
    monkeypatch.chdir(tmp_path)
    service = Endless()
    with FakeServer(service) as fake:
        monkeypatch.setenv("TRINO_HOST", "127.0.0.1")
        monkeypatch.setenv("TRINO_PORT", str(fake.port))
        yield service
        close_servers()


class Impatient(deadline.Deadline):
    """Ends what nobody waits for before it is sent, as a look at the worst moment does."""

    def holds(self, connected: socket.socket | None) -> None:
        super().holds(connected)
        self.look()


@pytest.mark.parametrize("minutes", ["0.002", None])
def test_a_query_that_leads_on_without_end_is_cancelled(
    endless: Endless, monkeypatch: pytest.MonkeyPatch, minutes: str | None
) -> None:
    if minutes is None:
        monkeypatch.setattr(module, "_LONGEST_QUERY", timedelta(milliseconds=100))
    else:
        monkeypatch.setenv("TRINO_QUERY_MINUTES", minutes)
    # Each request is sent 10 ms after the one before, however long it takes here.
    clock = SimpleNamespace(monotonic=count(step=0.01).__next__)
    monkeypatch.setattr(transport, "time", clock)
    monkeypatch.setattr(deadline, "Deadline", Impatient)
    with pytest.raises(SourceUnavailableError, match="and is cancelled; TRINO_QUERY_MINUTES"):
        open_trino(TrinoSettings.load()).ask("SELECT 1", name="x")
    assert [each.method for each in endless.requests[-2:]] == ["GET", "DELETE"]


async def test_queries_that_are_abandoned_end_though_they_hold_every_thread(
    endless: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRINO_CONCURRENCY", "1")
    trino = open_trino(TrinoSettings.load())
    statement = Statement(trino, "SELECT 1", name="x")
    fetching = trino.start(statement.fetch, 10)
    await asyncio.to_thread(endless.requested.wait, 10)
    trino.abandon(statement)
    with pytest.raises(SourceUnavailableError, match=r"abandoned|nobody waits any more"):
        await fetching


class Recorded:
    """Stands for a server that receives no request."""

    def connect(self, _stop: Any, _answered: Any) -> Any:
        return self

    def cursor(self) -> None: ...

    settings = type("S", (), {"credentials": ""})


def sql_of(ordered: Ordered, after: Position | None) -> tuple[str, list[Any]]:
    statement = ordered.statement(Recorded(), after, name="x")  # type: ignore[arg-type]
    return statement._sql, statement._parameters


def test_names_are_quoted_and_values_bound_however_they_look() -> None:
    ordered = Ordered(sql="SELECT 1 -- :)", parameters=["p"], time='t"; --', keys=("k'",))
    text, values = sql_of(ordered, Position("2024-01-01 00:00:00 UTC", ("'; DROP TABLE x",)))
    assert '"t""; --" >= CAST(? AS timestamp(12) with time zone)' in text
    assert "\nSELECT 1 -- :)\n)" in text
    assert "DROP" not in text
    assert values == [
        "p",
        "2024-01-01 00:00:00 UTC",
        "2024-01-01 00:00:00 UTC",
        "'; DROP TABLE x",
    ]
    assert text.count("?") == len(values) - 1


def test_a_cursor_of_other_keys_is_refused() -> None:
    ordered = Ordered(sql="SELECT 1", parameters=[], time="t", keys=("a", "b"))
    with pytest.raises(ConfigurationError, match="other keys"):
        sql_of(ordered, Position(None, ("1",)))
    with pytest.raises(ConfigurationError, match="no cursor of rows"):
        Position.of({"page": 3})
