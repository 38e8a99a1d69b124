"""Requests to a fake, its responses, and the recorded traffic."""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from temporaletl.testing.former_names import alias_of

REASONS: dict[int, str] = {
    200: "OK",
    201: "Created",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    413: "Content Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass(slots=True)
class Request:
    """One request as it arrived; header names are lower case, the path is decoded."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    path: str = field(init=False)
    query: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        path, _, query = self.target.partition("?")
        self.path = unquote(path) if "%" in path else path
        self.query = parse_qs(query, keep_blank_values=True) if query else {}

    def first(self, name: str, default: str = "") -> str:
        """Return the first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default

    def json(self) -> Any:
        """Return the decoded body; an empty one is an empty object.

        Raises:
            msgspec.DecodeError: the body is not JSON.
        """
        return msgspec.json.decode(self.body) if self.body.strip() else {}

    def form(self) -> dict[str, str]:
        """Return the fields of a urlencoded body, the first value of every name."""
        parsed = parse_qs(self.body.decode(), keep_blank_values=True)
        return {name: values[0] for name, values in parsed.items()}


@dataclass(slots=True)
class Response:
    """One answer; the server adds its length header."""

    status: int
    body: bytes = b""
    content_type: str = "application/json;charset=UTF-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: object, status: int = 200) -> "Response":
        """Answer with a value as JSON."""
        return cls(status, msgspec.json.encode(value))

    def head(self, *, with_length: bool = True) -> bytes:
        """Render the status line and headers, the blank line included."""
        reason = REASONS.get(self.status, "")
        lines = [f"HTTP/1.1 {self.status} {reason}", f"Content-Type: {self.content_type}"]
        lines.extend(f"{name}: {value}" for name, value in self.headers.items())
        if with_length:
            lines.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its outcome; a status of 0 means that no complete answer was sent."""

    request: Request
    status: int
    fault: str | None
    started: float
    seconds: float
    bytes_sent: int


class Traffic:
    """The recorded traffic of one server. Safe to read while it serves.

    The counters cover the server's whole life; `exchanges` keeps only the latest `keep`.
    """

    def __init__(self, *, keep: int = 20_000) -> None:
        self._lock = threading.Lock()
        self.exchanges: deque[Exchange] = deque(maxlen=keep)
        self.requests = 0
        self.bytes_sent = 0
        self.statuses: Counter[int] = Counter()
        self.in_flight = 0
        #: The most requests that were ever being answered at once.
        self.most_in_flight = 0
        #: Requests that came before the pause demanded by the latest 429 or 503 was over.
        self.during_pause = 0
        self._pause_ends = 0.0

    def begin(self) -> float:
        """Record that a request arrived; return the timestamp for `end`."""
        now = time.monotonic()
        with self._lock:
            self.requests += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            if now < self._pause_ends:
                self.during_pause += 1
        return now

    def end(
        self, started: float, request: Request, *, status: int, fault: str | None, sent: int
    ) -> None:
        """Record how a request ended."""
        done = Exchange(request, status, fault, started, time.monotonic() - started, sent)
        with self._lock:
            self.in_flight -= 1
            self.statuses[status] += 1
            self.bytes_sent += sent
            self.exchanges.append(done)

    def pause(self, seconds: float) -> None:
        """Record that a client has to wait; sooner requests count as `during_pause`."""
        with self._lock:
            self._pause_ends = max(self._pause_ends, time.monotonic() + seconds)

    def requested(
        self, path: str = "", *, method: str | None = None, status: int | None = None
    ) -> list[Exchange]:
        """Return the kept exchanges whose path contains `path`, oldest first."""
        with self._lock:
            kept = list(self.exchanges)
        return [
            exchange
            for exchange in kept
            if path in exchange.request.path
            and (method is None or exchange.request.method == method)
            and (status is None or exchange.status == status)
        ]

    asked = alias_of(requested, "asked")

    def count(self, path: str = "", *, method: str | None = None, status: int | None = None) -> int:
        """Return how many of the kept exchanges match; see `requested`."""
        return len(self.requested(path, method=method, status=status))

    def clear(self) -> None:
        """Clear the record, except for requests still in flight."""
        with self._lock:
            self.exchanges.clear()
            self.statuses.clear()
            self.requests = self.bytes_sent = self.during_pause = 0
            self.most_in_flight = self.in_flight
            self._pause_ends = 0.0
