"""The retrying call, against a local server that answers from a script."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import cycle
from typing import Any

import pytest
import requests

from temporaletl import (
    ConfigurationError,
    CredentialsError,
    RateLimitedError,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.external import http
from temporaletl.external.http import HttpClient
from temporaletl.retry_after import retry_after
from temporaletl.troubles import Troubles, observed
from tests.fakes.faults import Faults
from tests.fakes.server import FakeServer, Request, Response

OK = Response.of({"fine": True})
Ask = Callable[..., requests.Response]


class Script:
    """Answers with the given responses in turn, the last one for ever."""

    def __init__(self, *answers: Response) -> None:
        self.own_faults: dict[str, str] = {}
        self.answers = iter([*answers[:-1]])
        self.rest = cycle(answers[-1:])

    def bind(self, base_url: str, faults: Faults) -> None:
        pass

    def refuse(self, status: int) -> Response:
        return Response.of({"message": "no"}, status)

    def answer(self, _request: Request, /) -> Response:
        return next(self.answers, None) or next(self.rest)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def served() -> Iterator[Callable[..., tuple[FakeServer, HttpClient]]]:
    closing: list[Any] = []

    def start(
        *answers: Response, faults: tuple[str, ...] = (), **options: Any
    ) -> tuple[FakeServer, HttpClient]:
        server = FakeServer(Script(*answers or (OK,)), faults=faults)
        session = requests.Session()
        closing.extend((session, server))
        server.start()
        client = HttpClient(session, source="shop", credentials="SHOP_TOKEN", **options)
        return server, client

    yield start
    for each in closing:
        each.close()


Served = Callable[..., tuple[FakeServer, HttpClient]]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_trouble_is_sat_out(served: Served, status: int) -> None:
    server, client = served(Response.of({}, status), OK)
    assert client.request("GET", f"{server.url}/a").json() == {"fine": True}
    assert server.traffic.requests == 2


def test_a_reset_in_the_middle_of_the_body_is_asked_again(served: Served) -> None:
    server, client = served(Response.of({"fine": "x" * 100_000}), faults=("reset:1:2",))
    answer = client.request("GET", f"{server.url}/a")
    assert len(answer.json()["fine"]) == 100_000
    assert server.traffic.requests == 3


def test_a_hanging_server_is_given_up_in_time(served: Served) -> None:
    server, client = served(faults=("hang:1",), read_timeout=timedelta(seconds=0.05), attempts=2)
    with pytest.raises(SourceUnavailableError, match=r"no answer within 0\.05 s"):
        client.request("GET", f"{server.url}/a")
    assert server.traffic.requests == 2


def test_a_closed_port_is_named_without_the_query() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a/b?token=secret"
        with requests.Session() as session:
            client = HttpClient(session, source="shop", credentials="SHOP_TOKEN", attempts=2)
            with pytest.raises(SourceUnavailableError, match="refused") as raised:
                client.request("GET", url, params={"key": "secret"})
    assert "/a/b" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_retry_after_in_seconds_is_obeyed_to_its_end(served: Served) -> None:
    limited = Response.of({}, 429)
    limited.headers = {"Retry-After": "1"}
    server, client = served(limited, OK)
    began = time.monotonic()
    client.request("GET", f"{server.url}/a")
    assert time.monotonic() - began >= 1


def test_retry_after_as_a_date_is_obeyed_to_its_end(served: Served) -> None:
    until = (datetime.now(UTC) + timedelta(seconds=1)).replace(microsecond=0)
    limited = Response.of({}, 503)
    limited.headers = {"Retry-After": format_datetime(until, usegmt=True)}
    server, client = served(limited, OK)
    client.request("GET", f"{server.url}/a")
    assert datetime.now(UTC) >= until


def test_nobody_asks_while_the_source_wants_quiet(served: Served) -> None:
    limited = Response.of({}, 429)
    limited.headers = {"Retry-After": "1"}
    server, client = served(limited, OK, attempts=1)
    with pytest.raises(RateLimitedError):
        client.request("GET", f"{server.url}/a")
    threads = [
        threading.Thread(target=client.request, args=("GET", f"{server.url}/{n}")) for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    refused, *served_ones = server.traffic.exchanges
    assert len(served_ones) == 3
    assert min(each.started for each in served_ones) - refused.started >= 1


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimitedError), (503, SourceUnavailableError)]
)
def test_a_long_wait_is_left_to_the_platform(
    served: Served, status: int, kind: type[RateLimitedError]
) -> None:
    limited = Response.of({}, status)
    limited.headers = {"Retry-After": "3600"}
    server, client = served(limited)
    with pytest.raises(kind) as raised:
        client.request("GET", f"{server.url}/a")
    assert raised.value.delay == timedelta(hours=1)
    with pytest.raises(kind) as again:
        client.request("GET", f"{server.url}/b")
    assert again.value.delay is not None
    assert again.value.delay > timedelta(minutes=59)
    assert server.traffic.requests == 1


def test_the_servers_clock_counts_where_it_shows_it() -> None:
    answer = requests.Response()
    answer.headers["Date"] = "Wed, 21 Oct 2015 07:28:00 GMT"
    answer.headers["Retry-After"] = "Wed, 21 Oct 2015 07:29:30 GMT"
    assert retry_after(answer.headers) == timedelta(seconds=90)
    answer.headers["Retry-After"] = "Wed, 21 Oct 2015 07:27:00 GMT"
    assert retry_after(answer.headers) == timedelta(0)
    answer.headers["Retry-After"] = "soon"
    assert retry_after(answer.headers) is None
    del answer.headers["Retry-After"]
    assert retry_after(answer.headers) is None


def test_attempts_are_bounded(served: Served) -> None:
    server, client = served(Response.of({"message": "back soon"}, 503), attempts=3)
    with pytest.raises(SourceUnavailableError, match="503 Service Unavailable: back soon"):
        client.request("GET", f"{server.url}/a")
    assert server.traffic.requests == 3


def test_stopping_ends_the_retries(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    server, client = served(Response.of({}, 503))
    stop, answer = threading.Event(), server.service.answer
    heard: list[str] = []

    def stopping(request: Request) -> Response:
        heard.append(request.path)
        stop.set()
        return answer(request)

    monkeypatch.setattr(server.service, "answer", stopping)
    with pytest.raises(SourceUnavailableError):
        client.request("GET", f"{server.url}/a", stop=stop)
    assert heard == ["/a"]


def test_a_401_names_the_settings_to_correct(served: Served) -> None:
    server, client = served(Response.of({"message": "who"}, 401))
    with pytest.raises(CredentialsError, match="401 Unauthorized: who; check SHOP_TOKEN"):
        client.request("GET", f"{server.url}/a")
    assert server.traffic.requests == 1


def test_an_expired_session_is_renewed_once(served: Served) -> None:
    renewals: list[int] = []
    server, client = served(Response.of({}, 401), OK, renew=lambda: renewals.append(1))
    assert client.request("GET", f"{server.url}/a").ok
    assert renewals == [1]


def test_credentials_that_stay_refused_are_not_tried_for_ever(served: Served) -> None:
    renewals: list[int] = []
    server, client = served(Response.of({}, 401), renew=lambda: renewals.append(1))
    with pytest.raises(CredentialsError):
        client.request("GET", f"{server.url}/a")
    assert renewals == [1]
    assert server.traffic.requests == 2


def test_a_403_names_the_path(served: Served) -> None:
    server, client = served(Response.of({}, 403))
    with pytest.raises(CredentialsError, match="may not read /orders/7") as raised:
        client.request("GET", f"{server.url}/orders/7", params={"key": "secret"})
    assert "secret" not in str(raised.value)


def test_another_refusal_tells_the_servers_words(served: Served) -> None:
    body = {"errorMessages": ["no such field"], "errors": {"size": "too large"}}
    server, client = served(Response.of(body, 400))
    with pytest.raises(SourceProtocolError, match="400 Bad Request: no such field; size: too la"):
        client.request("POST", f"{server.url}/a", json={"x": 1})
    assert server.traffic.requests == 1


def test_a_status_that_is_accepted_comes_back(served: Served) -> None:
    server, client = served(Response.of({}, 404))
    assert client.request("GET", f"{server.url}/a", accept={404}).status_code == 404


def test_a_redirect_is_a_wrong_address(served: Served) -> None:
    moved = Response(302, b"", "text/html", {"Location": "https://login.example/sso?next=secret"})
    server, client = served(moved)
    with pytest.raises(ConfigurationError, match=r"redirect to login\.example/sso") as raised:
        client.request("GET", f"{server.url}/a")
    assert "secret" not in str(raised.value)


def test_json_is_sent_with_its_type(served: Served) -> None:
    server, client = served()
    client.request("POST", f"{server.url}/a", json={"x": 1})
    sent = server.traffic.exchanges[0].request
    assert (sent.json(), sent.headers["content-type"]) == ({"x": 1}, "application/json")


def test_what_is_sent_again_is_told_while_it_is(served: Callable[..., Any]) -> None:
    server, client = served(Response.of({}, 503), Response.of({}, 503), OK)
    told: list[str] = []
    with observed(Troubles(told.append)) as troubles:
        assert client.request("GET", f"{server.url}/orders").json() == {"fine": True}
    assert [text.partition(" answered ")[2] for text in told] == [
        "503 Service Unavailable; it is tried again"
    ]
    assert troubles.now is None


def test_a_server_that_is_away_is_told_at_once(served: Callable[..., Any]) -> None:
    _, client = served(attempts=2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told: list[str] = []
    with observed(Troubles(told.append)), pytest.raises(SourceUnavailableError):
        client.request("GET", f"http://127.0.0.1:{port}/orders")
    [text] = told
    assert text.endswith("/orders: the connection failed (Connection refused); it is tried again")
