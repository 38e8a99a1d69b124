"""The retrying call, where answers are slow, large, cut, of something else, or ask for ages."""

import gzip
import socketserver
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import chain, repeat
from typing import Any

import msgspec
import pytest
import requests

from temporaletl import ConfigurationError, RateLimitedError, SourceUnavailableError
from temporaletl.errors import ExcessiveWaitError
from temporaletl.external import http
from temporaletl.external.answers import MisfitAnswerError, reading
from temporaletl.external.exchange import AnswerTooLargeError, keep_connections
from temporaletl.external.http import HttpClient
from temporaletl.retry_after import retry_after
from temporaletl.temporal.interceptor import as_application_error

HOUR = timedelta(hours=1)
Answer = Callable[["_Handler"], None]


class Shelf(msgspec.Struct):
    books: list[msgspec.Raw]


class _Server(socketserver.ThreadingTCPServer):
    """Answers with what it is given in turn, the last one for ever; one request a connection."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = chain(answers[:-1], repeat(answers[-1]))
        self.closing = threading.Event()
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/books"


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.server.requests += 1
        try:
            next(self.server.answers)(self)
        except OSError:
            return


def whole(
    body: bytes, *more: bytes, status: bytes = b"200 OK", length: int | None = None
) -> Answer:
    def answer(handler: _Handler) -> None:
        head = [b"HTTP/1.1 " + status, b"Connection: close", *more]
        if length != -1:
            head.append(b"Content-Length: %d" % (len(body) if length is None else length))
        handler.wfile.write(b"\r\n".join([*head, b"", body]))

    return answer


def dribbling(what: bytes) -> Answer:
    """A byte every 20 ms, for as long as somebody reads."""

    def answer(handler: _Handler) -> None:
        for byte in chain(what, repeat(ord(" "))):
            handler.wfile.write(bytes([byte]))
            if handler.server.closing.wait(0.02):
                return

    return answer


BOOKS = b'{"books": [{"id": 1}]}'
FINE = whole(BOOKS)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def served() -> Iterator[Callable[..., tuple[_Server, HttpClient]]]:
    closing: list[Callable[[], object]] = []

    def start(*answers: Answer, **options: Any) -> tuple[_Server, HttpClient]:
        server, session = _Server(*answers), requests.Session()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        closing.extend((server.closing.set, server.shutdown, server.server_close, session.close))
        client = HttpClient(
            session, source="shop", address="SHOP_URL", credentials="SHOP_TOKEN", **options
        )
        return server, client

    yield start
    for close in closing:
        close()


Served = Callable[..., tuple[_Server, HttpClient]]
read = reading(Shelf, source="shop")
CUT = gzip.compress(BOOKS * 100)[:-30]


@pytest.mark.parametrize(
    "blip",
    [
        whole(b"<html><title>Maintenance</title></html>"),
        whole(b""),
        whole(BOOKS[:10], length=-1),
        whole(CUT, b"Content-Encoding: gzip"),
        whole(b"{}"),
        whole(b'{"errorMessages": ["Internal error"]}'),
        whole(b'{"books": null}'),
    ],
)
def test_an_answer_that_is_none_is_asked_for_again(served: Served, blip: Answer) -> None:
    server, client = served(blip, FINE)
    shelf = client.request("GET", server.url, read=read)
    assert len(shelf.books) == 1
    assert server.requests == 2


def test_a_page_that_stays_in_place_of_the_api_names_the_settings(served: Served) -> None:
    server, client = served(whole(b"<!doctype html><title>Log in - Example</title>"), attempts=2)
    with pytest.raises(SourceUnavailableError) as told:
        client.request("GET", server.url, read=read)
    assert 'page of HTML ("Log in - Example")' in str(told.value)
    assert "check SHOP_URL and SHOP_TOKEN" in str(told.value)


def test_an_answer_that_stays_without_its_list_is_an_error_and_no_empty_list(
    served: Served,
) -> None:
    server, client = served(whole(b'{"errorMessages": ["Out of order"]}'), attempts=3)
    with pytest.raises(MisfitAnswerError, match="an error: Out of order"):
        client.request("GET", server.url, read=read)
    assert server.requests == 3


@pytest.mark.parametrize(
    "begin",
    [b"", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"],
)
def test_a_server_that_is_never_silent_and_never_done_is_given_up(
    served: Served, begin: bytes
) -> None:
    server, client = served(
        dribbling(begin), attempts=1, answer_timeout=timedelta(seconds=1), read_timeout=HOUR
    )
    began = time.monotonic()
    with pytest.raises(SourceUnavailableError, match="no whole answer within 1 s"):
        client.request("GET", server.url)
    assert time.monotonic() - began < 20


def test_what_nobody_waits_for_any_more_is_ended(served: Served) -> None:
    stop = threading.Event()
    server, client = served(dribbling(b"HTTP/1.1 200 OK\r\n"), read_timeout=HOUR)
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(SourceUnavailableError, match="nobody waits"):
        client.request("GET", server.url, stop=stop)
    assert server.requests == 1


@pytest.mark.parametrize("more", [(), (b"Content-Encoding: gzip",)])
def test_an_answer_beyond_the_limit_is_read_no_further(
    served: Served, more: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_ANSWER_LIMIT_MEGABYTES", "1")
    body = b" " * 1_500_000
    server, client = served(whole(gzip.compress(body) if more else body, *more))
    with pytest.raises(AnswerTooLargeError, match=r"more than 1 MB.*ETL_ANSWER_LIMIT_MEGABYTES"):
        client.request("GET", server.url)
    assert server.requests == 1


def test_a_redirect_beyond_the_limit_is_read_no_further(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_ANSWER_LIMIT_MEGABYTES", "1")
    packed = gzip.compress(b" " * 30_000_000)
    moved = whole(packed, b"Content-Encoding: gzip", b"Location: /elsewhere", status=b"302 Found")
    server, client = served(moved)
    tracemalloc.start()
    try:
        with pytest.raises(AnswerTooLargeError, match="more than 1 MB"):
            client.request("GET", server.url)
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


def test_a_redirect_to_what_is_no_address_is_an_error_of_the_platform(served: Served) -> None:
    server, client = served(whole(b"", b"Location: http://[bad", status=b"302 Found"))
    with pytest.raises(ConfigurationError, match="a redirect to what is no address"):
        client.request("GET", server.url)


NOW = datetime.now(UTC)
AGES = [
    "999999999",
    "1e300",
    "inf",
    pytest.param(str(int((NOW + timedelta(days=30)).timestamp())), id="a time since 1970"),
    format_datetime(datetime(9999, 12, 31, 23, 59, tzinfo=UTC), usegmt=True),
    "9" * 400,
]


@pytest.mark.parametrize("value", AGES)
@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"503 Service Unavailable"])
def test_no_wait_is_longer_than_the_longest(served: Served, value: str, status: bytes) -> None:
    refusing = whole(b"{}", b"Retry-After: " + value.encode(), status=status)
    server, client = served(refusing)
    with pytest.raises(ExcessiveWaitError, match="ETL_LONGEST_WAIT_MINUTES=60") as told:
        client.request("GET", server.url)
    assert told.value.delay == HOUR
    assert server.requests == 1
    # Whoever asks meanwhile waits as long, and no longer.
    with pytest.raises((RateLimitedError, SourceUnavailableError)) as again:
        client.request("GET", server.url)
    assert again.value.delay is not None
    assert again.value.delay <= HOUR


def test_a_time_since_1970_is_waited_for_as_a_time() -> None:
    answer = requests.Response()
    answer.headers["Date"] = format_datetime(NOW, usegmt=True)
    answer.headers["Retry-After"] = str(int(NOW.timestamp()) + 90)
    assert retry_after(answer.headers) == pytest.approx(
        timedelta(seconds=90), abs=timedelta(seconds=1)
    )


@pytest.mark.parametrize("value", ["nan", "soon", "-5", "Fri, 99 Foo 2026 00:00:00 GMT"])
def test_nonsense_asks_for_no_wait(value: str) -> None:
    answer = requests.Response()
    answer.headers["Retry-After"] = value
    assert not retry_after(answer.headers)


def test_a_source_that_asks_for_ages_again_fails_its_job() -> None:
    error = ExcessiveWaitError("shop: wait for ever", delay=HOUR)
    first, second = (as_application_error(error, attempt=attempt) for attempt in (1, 2))
    assert (first.non_retryable, first.next_retry_delay) == (False, HOUR)
    assert second.non_retryable


def test_callers_beside_a_sources_own_threads_lose_no_connection(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    all_at_once = threading.Barrier(4, timeout=120)

    def meet(handler: _Handler) -> None:
        all_at_once.wait()
        FINE(handler)

    server, _ = served(meet)
    with requests.Session() as session, ThreadPoolExecutor(4) as threads:
        keep_connections(session, 1)
        client = HttpClient(session, source="shop", credentials="SHOP_TOKEN")
        asked = [threads.submit(client.request, "GET", server.url, read=read) for _ in range(4)]
        assert [len(each.result().books) for each in asked] == [1] * 4
    assert "pool is full" not in caplog.text
