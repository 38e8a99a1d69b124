"""Requests that fail and are sent again: what a segment, a check or a preview waits for.

A client that tries again by itself reports here what was refused, so that whoever waits for it is
told before it gives up. `HttpClient` does; a source with another client may.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from temporaletl.secrets import redacted
from temporaletl.telemetry.metrics import note_retry

_TRIED_AGAIN = "; it is tried again"


class Troubles:
    """The failures of some work's requests. Safe to use from many threads.

    `notify` gets a notice of each failure that differs from the one before, from the thread that
    met it.
    """

    def __init__(self, notify: Callable[[str], None] = lambda _: None) -> None:
        self._notify = notify
        self._guard = threading.Lock()
        self._open: dict[object, str] = {}
        self._since: float | None = None
        #: The last failure, which nothing has answered since; None where all goes well.
        self.now: str | None = None
        self._told: str | None = None

    @property
    def notice(self) -> str | None:
        """The last failure, in words for whoever waits."""
        return None if (now := self.now) is None else f"{now}{_TRIED_AGAIN}"

    @property
    def seconds(self) -> float:
        """For how long nothing but failures has come."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def add(self, request: object, error: BaseException | None) -> None:
        """Note that a request failed and is sent again."""
        text = redacted(str(error))
        with self._guard:
            self._open[request] = self.now = text
            self._since = self._since or time.monotonic()
            is_new, self._told = text != self._told, text
        if is_new:
            self._notify(f"{text}{_TRIED_AGAIN}")

    def end(self, request: object, *, answered: bool) -> None:
        """Note that a request was answered, or given up: others may still fail."""
        with self._guard:
            self._open.pop(request, None)
            if answered:
                self._since = None
                self.now = next(reversed(self._open.values()), None)


_troubles: ContextVar[Troubles | None] = ContextVar("troubles", default=None)


@contextmanager
def observed(troubles: Troubles) -> Iterator[Troubles]:
    """Collect the failures of this context's requests; tasks and threads belong to it."""
    token = _troubles.set(troubles)
    try:
        yield troubles
    finally:
        _troubles.reset(token)


@contextmanager
def one_request() -> Iterator[Callable[[BaseException | None], None]]:
    """Report the failures of one request, of which it is tried again, by calling what is yielded.

    with one_request() as failed:
        for _ in range(3):
            try:
                return shop.orders()
            except SourceUnavailableError as error:
                failed(error)
    """
    troubles, request = _troubles.get(), object()
    answered = False

    def failed(error: BaseException | None) -> None:
        note_retry()
        if troubles is not None:
            troubles.add(request, error)

    try:
        yield failed
        answered = True
    finally:
        if troubles is not None:
            troubles.end(request, answered=answered)
