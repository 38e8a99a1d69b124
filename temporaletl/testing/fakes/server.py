"""The HTTP server under every fake: threaded, HTTP/1.1 keep-alive, loopback only.

A fake is a `Service`; `FakeServer` serves it in threads, `command.run_alone` as a process.
"""

import contextlib
import gzip
import select
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterable
from datetime import timedelta
from email.utils import formatdate
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from temporaletl.testing.fakes.exchange import REASONS, Exchange, Request, Response, Traffic
from temporaletl.testing.fakes.faults import (
    ANSWERS,
    IN_BODY,
    TRANSPORT,
    Fault,
    Faults,
)

__all__ = ["Exchange", "FakeServer", "Request", "Response", "Service", "Traffic"]

_HEARD_BYTES = 65_536
_LARGEST_BODY = 64 * 1024 * 1024
#: How long a peer that stopped reading may hold a thread, in seconds.
_SEND_SECONDS = 60
_RETRY_AFTER = {
    "429-date": "date",
    "429-huge": "999999999",
    "429-9999": "Fri, 31 Dec 9999 23:59:59 GMT",
}
_SERVER_FAULTS = (*TRANSPORT, *ANSWERS)
_SESSIONLESS_FAULTS = tuple(kind for kind in _SERVER_FAULTS if kind != "expired-token")


class Service(Protocol):
    """The interface of a fake: how a service answers requests."""

    #: Its own faults by name, with a line of help; those of the transport are added.
    own_faults: dict[str, str]

    def bind(self, base_url: str, faults: Faults) -> None:
        """Take the address that it is served under, and the faults to inject."""

    def answer(self, request: Request) -> Response:
        """Answer one request; called from many threads at once."""

    def refuse(self, status: int) -> Response:
        """Return the answer 401 or 429 in the service's own words and headers."""


@runtime_checkable
class Complaining(Protocol):
    """A service with a shape of its own for errors; another's are `{"error": MESSAGE}`."""

    def complain(self, status: int, message: str) -> Response:
        """Return an error as the service words it; the status may be 200."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 512

    def __init__(self, port: int, fake: "FakeServer") -> None:
        self.fake = fake
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # The inherited bind asks the resolver for the host's name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def keep(self, connection: socket.socket) -> None:
        with self._guard:
            self._connections.add(connection)

    def drop(self, connection: socket.socket) -> None:
        with self._guard:
            self._connections.discard(connection)

    def hang_up(self) -> None:
        """End every open connection, so that threads waiting on idle clients return."""
        with self._guard:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Server
    request: socket.socket

    def setup(self) -> None:
        super().setup()
        self.server.keep(self.request)

    def finish(self) -> None:
        self.server.drop(self.request)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        # A client that goes away is the client's affair.
        with contextlib.suppress(OSError):
            while not self.server.fake.closing.is_set() and self._serve_one():
                pass

    def _serve_one(self) -> bool:
        """Answer one request; return whether the connection stays open."""
        line = self.rfile.readline(65_537)
        if not line.strip():
            return False
        try:
            method, target, version = line.decode("latin-1").split()
        except ValueError:
            return self._send(Response(400, b"", "text/plain"), keep=False)
        headers: dict[str, str] = {}
        while (line := self.rfile.readline(65_537)) not in {b"\r\n", b"\n", b""}:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if "transfer-encoding" in headers:
            return self._send(Response(411, b"", "text/plain"), keep=False)
        length = int(headers.get("content-length") or 0)
        if length > _LARGEST_BODY:
            return self._send(Response(413, b"", "text/plain"), keep=False)
        body = self.rfile.read(length) if length else b""
        keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return self._respond(Request(method, target, headers, body), keep=keep)

    def _respond(self, request: Request, *, keep: bool) -> bool:
        fake = self.server.fake
        started = fake.traffic.begin()
        fault: str | None = None
        status = sent = 0
        try:
            if fake.latency_seconds:
                time.sleep(fake.latency_seconds)
            fault, response = fake.decide(request)
            if response is None:
                self._hang()
            elif fault != "reset":
                status, sent = response.status, len(response.body)
        finally:
            # Noted before it is sent, so that a client which has its answer finds it noted.
            fake.traffic.end(started, request, status=status, fault=fault, sent=sent)
            if fake.log:
                print(request.method, request.target, status, fault or "", file=sys.stderr)  # noqa: T201
        if response is None:
            return False
        if fault == "reset":
            return self._reset(response)
        if fault in {"cut", "slow"}:
            return self._send_part(response, slowly=fault == "slow")
        return self._send(response, keep=keep, head_only=request.method == "HEAD")

    def _send(self, response: Response, *, keep: bool, head_only: bool = False) -> bool:
        if not keep:
            response.headers = {**response.headers, "Connection": "close"}
        self.request.settimeout(_SEND_SECONDS)
        self.request.sendall(response.head() + (b"" if head_only else response.body))
        self.request.settimeout(None)
        return keep

    def _send_part(self, response: Response, *, slowly: bool) -> Literal[False]:
        """Send the head without a length, and half of the body or single bytes of it; hang up."""
        response.headers = {**response.headers, "Connection": "close"}
        self.request.settimeout(_SEND_SECONDS)
        self.request.sendall(response.head(with_length=False))
        if not slowly:
            self.request.sendall(response.body[: len(response.body) // 2])
            return False
        faults, closing = self.server.fake.faults, self.server.fake.closing
        pause = faults.drip.total_seconds()
        # The last byte is never sent: a client that takes the body for complete is wrong.
        for number in range(min(len(response.body) - 1, int(faults.hang.total_seconds() / pause))):
            if closing.wait(pause):
                break
            self.request.sendall(response.body[number : number + 1])
        return False

    def _hang(self) -> None:
        """Stay silent until the client leaves, the fake closes, or the time is up."""
        fake = self.server.fake
        ends = time.monotonic() + fake.faults.hang.total_seconds()
        self.request.settimeout(0)
        while not fake.closing.is_set() and time.monotonic() < ends:
            readable, _, _ = select.select([self.request], [], [], 0.02)
            # What else it says is not heard; of TLS, half a record may have come.
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                if readable and not self.request.recv(_HEARD_BYTES):
                    return

    def _reset(self, response: Response) -> Literal[False]:
        """Send the whole head and half of the body, then a TCP reset; the connection is gone."""
        self.request.sendall(response.head() + response.body[: len(response.body) // 2])
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.drop(self.request)
        # The reset goes out when the last reference is closed, and before any orderly FIN.
        self.wfile.close()
        self.rfile.close()
        self.request.close()
        return False


class FakeServer:
    """HTTP server of one fake on loopback: a context manager, or open until `close`.

    The port is taken when the object is made (0 lets the system choose), answers begin with
    `start`. Closing ends open connections and hanging requests, and joins every thread.
    """

    def __init__(
        self,
        service: Service,
        *,
        port: int = 0,
        faults: Iterable[str | Fault] | Faults = (),
        seed: int = 0,
        latency: timedelta = timedelta(0),
        requests_per_second: float | None = None,
        log: bool = False,
    ) -> None:
        known = {**TRANSPORT, **service.own_faults}
        self.service = service
        self.faults = (
            faults if isinstance(faults, Faults) else Faults(faults, known=known, seed=seed)
        )
        self.traffic = Traffic()
        self.latency_seconds = latency.total_seconds()
        self.log = log
        #: Byte strings and their replacements in each success: how records are corrupted.
        self.rewrites: list[tuple[bytes, bytes]] = []
        #: An answer that would hold one of these is a 500 instead.
        self.unservable: set[bytes] = set()
        self.closing = threading.Event()
        self._bucket = _Bucket(requests_per_second) if requests_per_second else None
        self._answered = False
        self._http = _Server(port, self)
        self._thread: threading.Thread | None = None
        self.port: int = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        service.bind(self.url, self.faults)

    def start(self) -> Self:
        """Start answering, in a thread of its own."""
        self._thread = threading.Thread(target=self._serve, name="fake")
        self._thread.start()
        return self

    def _serve(self) -> None:
        # `serve_forever` would poll for its end; this waits for `close` to knock.
        while not self.closing.is_set():
            self._http.handle_request()

    def close(self) -> None:
        """Stop answering and give the port back; harmless when repeated."""
        self.closing.set()
        if self._thread is not None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            self._thread.join()
            self._thread = None
        self._http.hang_up()
        self._http.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def decide(self, request: Request) -> tuple[str | None, Response | None]:
        """Return the fault to inject, if any, and the answer; None means silence."""
        if self._bucket is not None and not self._bucket.take():
            return None, self._too_many()
        # Before anything was answered there is no session in whose middle a token could expire.
        kinds = _SERVER_FAULTS if self._answered else _SESSIONLESS_FAULTS
        fault = self.faults.first_of(kinds, request)
        if fault is None or fault in IN_BODY:
            response = self._answer(request)
            self._answered = self._answered or response.status < HTTPStatus.BAD_REQUEST
            return fault, response if fault is None else _in_other_form(fault, request, response)
        return fault, None if fault == "hang" else self._in_place(fault)

    def _answer(self, request: Request) -> Response:
        response = self.service.answer(request)
        if response.status >= HTTPStatus.BAD_REQUEST:
            return response
        if any(mark in response.body for mark in self.unservable):
            return self._complaint(500)
        for old, new in self.rewrites:
            response.body = response.body.replace(old, new)
        return response

    def _complaint(self, status: int) -> Response:
        message = "Something went wrong on our side."
        if isinstance(self.service, Complaining):
            return self.service.complain(status, message)
        return Response.of({"error": message}, status)

    def _in_place(self, fault: str) -> Response:
        """Return the answer that a fault puts in place of the service's."""
        match fault:
            case "expired-token":
                return self.service.refuse(401)
            case "429" | "429-date" | "429-huge" | "429-9999":
                return self._too_many(_RETRY_AFTER.get(fault))
            case "error-200":
                return self._complaint(200)
            case "empty-object" | "empty-body":
                return Response(200, b"{}" if fault == "empty-object" else b"")
            case "html":
                return _page(200, "Log in")
            case _:
                return _page(int(fault), f"{fault} {REASONS[int(fault)]}")

    def _too_many(self, retry_after: str | None = None) -> Response:
        seconds = self.faults.retry_after.total_seconds()
        response = self.service.refuse(429)
        if retry_after == "date":
            # Dates have whole seconds; rounding up keeps the promise that waiting is enough.
            retry_after = formatdate(int(time.time() + seconds) + 1, usegmt=True)
        response.headers = {**response.headers, "Retry-After": retry_after or f"{seconds:.0f}"}
        self.traffic.pause(seconds)
        return response


class _Bucket:
    """Token bucket: `rate` requests a second, with bursts of one second's worth."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = rate
        self._filled = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._rate, self._tokens + (now - self._filled) * self._rate)
            self._filled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


def _in_other_form(fault: str, request: Request, response: Response) -> Response:
    """Return the answer in another form: byte-order mark, Latin-1, or gzip cut in half."""
    match fault:
        case "bom":
            response.body = b"\xef\xbb\xbf" + response.body
        case "latin-1":
            kind = response.content_type.partition(";")[0]
            with contextlib.suppress(UnicodeError):
                response.body = response.body.decode().encode("latin-1")
                response.content_type = f"{kind}; charset=ISO-8859-1"
        case "cut-gzip":
            packed = gzip.compress(response.body)
            response.body = packed[: len(packed) // 2]
            if "gzip" in request.headers.get("accept-encoding", ""):
                response.headers = {**response.headers, "Content-Encoding": "gzip"}
    return response


def _page(status: int, title: str) -> Response:
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Response(status, page.encode(), "text/html")
