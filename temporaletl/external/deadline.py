"""A deadline for a whole exchange over HTTP: time-outs of sockets only bound each silence.

A server that sends a byte a second never is silent for long, and could hold a thread for ever.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

#: How soon an exchange that is over time, or that nobody waits for any more, is ended.
_LOOK_EVERY_SECONDS = 0.25


class Deadline:
    """One exchange: ended from outside when its time is over, or when `stop` is set."""

    def __init__(self, within: timedelta, stop: threading.Event) -> None:
        self._until = time.monotonic() + within.total_seconds()
        self._stop = stop
        self._socket: socket.socket | None = None
        #: Its time was over before it ended by itself.
        self.passed = False
        #: Nobody waited for it any more.
        self.stopped = False

    def holds(self, connected: socket.socket | None) -> None:
        """Note over which socket the exchange goes."""
        self._socket = connected

    def look(self) -> None:
        """End the exchange where it is over time: whoever reads from its socket wakes up."""
        self.passed = self.passed or time.monotonic() >= self._until
        self.stopped = self.stopped or self._stop.is_set()
        connected = self._socket
        if (self.passed or self.stopped) and connected is not None:
            with contextlib.suppress(OSError):
                # Past TLS, whose own shutdown would wait for the other side.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


class _Watch:
    """Looks at all exchanges of the process, from one thread that lives while there are any."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._deadlines: set[Deadline] = set()
        self._watching = False

    def add(self, deadline: Deadline) -> None:
        with self._guard:
            self._deadlines.add(deadline)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._run, name="http-deadlines", daemon=True).start()

    def remove(self, deadline: Deadline) -> None:
        with self._guard:
            self._deadlines.discard(deadline)

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(_LOOK_EVERY_SECONDS)
            with self._guard:
                some = list(self._deadlines)
                idle = 0 if some else idle + 1
                # Starting a thread for each request would cost more than one that waits a while.
                if idle * _LOOK_EVERY_SECONDS > _IDLE_SECONDS:
                    self._watching = False
                    return
            for deadline in some:
                deadline.look()


_IDLE_SECONDS = 30.0
_watch = _Watch()
_present = threading.local()


@contextlib.contextmanager
def deadline(within: timedelta, stop: threading.Event) -> Iterator[Deadline]:
    """Bound the exchange that this thread begins within; see `Deadline`.

    Only for sessions whose connections `watch_connections` has seen to.
    """
    begun = Deadline(within, stop)
    _present.deadline = begun
    _watch.add(begun)
    try:
        yield begun
    finally:
        begun.holds(None)
        _watch.remove(begun)
        _present.deadline = None


def _note(connection: HTTPConnection) -> None:
    begun: Deadline | None = getattr(_present, "deadline", None)
    if begun is not None:
        begun.holds(connection.sock)


class _WatchedConnection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _note(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _note(self)  # one that is used again
        super().request(*args, **kwargs)


class _WatchedSecureConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _note(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _note(self)
        super().request(*args, **kwargs)


class _WatchedPool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _WatchedSecurePool(HTTPSConnectionPool):
    ConnectionCls = _WatchedSecureConnection


_POOLS = {"http": _WatchedPool, "https": _WatchedSecurePool}


def watch_connections(session: requests.Session) -> None:
    """Have the session's present adapters make connections that deadlines know.

    The session follows no redirect then, and does not read what one has.
    """
    # Else requests reads the body of every redirect, however large, to prepare for following.
    session.get_redirect_target = _follow_nowhere  # type: ignore[method-assign,assignment]
    for adapter in session.adapters.values():
        if isinstance(adapter, HTTPAdapter):
            adapter.poolmanager.pool_classes_by_scheme = _POOLS


def _follow_nowhere(_: requests.Response) -> None:
    return None
