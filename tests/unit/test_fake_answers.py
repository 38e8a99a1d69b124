"""Faults of what an answer holds, which every fake plays: what a client sees of each."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import requests

from temporaletl.testing.source_fixture import endpoint_of
from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.server import FakeServer


class Greeter:
    """Greets whoever asks."""

    own_faults: dict[str, str] = {}  # noqa: RUF012

    def bind(self, base_url: str, faults: Faults) -> None: ...

    def refuse(self, status: int) -> Response:
        return Response.of({"error": "no"}, status)

    def answer(self, request: Request) -> Response:
        return Response.of({"greeting": "grüezi", "to": request.path})


class Polite(Greeter):
    def complain(self, status: int, message: str) -> Response:
        return Response.of({"sorry": message}, status)


@contextmanager
def served(*faults: str, service: Greeter | None = None) -> Iterator[FakeServer]:
    injected = Faults(faults, drip=timedelta(milliseconds=20))
    with FakeServer(service or Greeter(), faults=injected) as server:
        yield server


def ask(server: FakeServer, path: str = "/a") -> requests.Response:
    return requests.get(server.url + path, timeout=60)


def test_a_success_may_tell_of_an_error_in_the_services_own_words() -> None:
    with served("error-200:1") as server:
        assert ask(server).status_code == 200
        assert ask(server).json().keys() == {"error"}
    with served("error-200:1", service=Polite()) as server:
        assert ask(server).json().keys() == {"sorry"}


def test_a_success_may_hold_something_else_or_nothing() -> None:
    for kind, body in (("empty-object", b"{}"), ("empty-body", b"")):
        with served(f"{kind}:1") as server:
            assert (ask(server).status_code, ask(server).content) == (200, body)
    with served("html:1") as server:
        assert "<title>Log in</title>" in ask(server).text


def test_a_body_may_end_in_the_middle_without_a_word() -> None:
    with served() as server:
        whole = ask(server).content
    with served("cut:1") as server:
        answer = ask(server)
        assert "Content-Length" not in answer.headers
        assert answer.content == whole[: len(whole) // 2]
    with served("cut-gzip:1") as server:
        answer = requests.get(server.url, timeout=60, stream=True)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.raw.read() != whole


def test_a_body_may_come_in_another_form() -> None:
    with served("bom:1") as server:
        assert ask(server).content.startswith(b"\xef\xbb\xbf{")
    with served("latin-1:1") as server:
        answer = ask(server)
        assert b"gr\xfcezi" in answer.content
        assert answer.json()["greeting"] == "grüezi"


def test_a_slow_body_never_comes_to_its_end() -> None:
    with served("slow:1") as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        began = time.monotonic()
        received = b""
        while some := client.recv(100):
            received += some
        assert time.monotonic() - began > 0.02 * 10
        assert b"greeting" in received
        assert not received.endswith(b"}")


def test_a_closing_server_waits_for_no_slow_body() -> None:
    with served("slow:1") as server:
        server.faults.drip = timedelta(seconds=30)
        client = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(10)
        began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 5


def test_a_wait_may_be_demanded_that_nobody_waits_for() -> None:
    with served("429-huge:1") as server:
        answer = ask(server)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "999999999")
    with served("429-9999:1") as server:
        assert ask(server).headers["Retry-After"].endswith("9999 23:59:59 GMT")


def test_a_fault_may_strike_each_request_once() -> None:
    with served("503:each") as server:
        assert [ask(server, path).status_code for path in ("/a", "/b", "/a", "/b", "/c")] == [
            503,
            503,
            200,
            200,
            503,
        ]


def test_a_fault_that_strikes_each_request_may_strike_its_repeats_by_a_rate() -> None:
    with served("503:each:0.5") as server:
        codes = [ask(server, f"/{path}").status_code for path in range(8) for _ in range(9)]
    assert codes[::9] == [503] * 8
    assert {*codes[1::9]} == {200, 503}


def test_a_fault_may_strike_one_endpoint_alone() -> None:
    with served("empty-object:1") as server:
        server.faults.only = lambda request: endpoint_of(request) == "GET /v1/things/*"
        assert ask(server, "/v1/things").json() != {}
        assert ask(server, "/v1/things/17").json() == {}
        server.faults.clear()
        assert ask(server, "/v1/things/17").json() != {}


def test_what_is_served_may_be_written_over_or_withheld() -> None:
    with served() as server:
        server.rewrites.append((b'"to":', b'"poison":1e999,"to":'))
        server.unservable.add(b'"/bad"')
        assert b'"poison":1e999,"to":"/good"' in ask(server, "/good").content
        assert ask(server, "/bad").status_code == 500
