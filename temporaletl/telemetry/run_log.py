"""Run log: what the structured logger says of a run, kept beside where it is written otherwise.

Lines of records that name a batch are buffered and handed on by a thread of its own, about once a
second. Who logs waits for nothing and never fails by it: what is too much, or is not taken, is
dropped and counted.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Literal, NamedTuple

from temporaletl.errors import RetryableError

Level = Literal["info", "warning"]

#: In its place stands how many lines were dropped, as `count`.
DROPPED = "log_lines_dropped"
_EVERY = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=30)
_REPORTED_EVERY = timedelta(minutes=5)
_CLOSED_WITHIN = timedelta(seconds=2)
_BUFFERED = 5_000
#: Of the context: a line names its run in columns of its own.
_COLUMNS = ("batch_id", "job_id")
#: Of the context as well; a run's own log has them with the run.
_OF_RUN = ("source", "connection")


class Line(NamedTuple):
    """One line of a run's log."""

    batch_id: str
    job_id: str | None
    at: datetime
    level: str
    logger: str
    event: str
    fields: Mapping[str, Any]


@dataclass(slots=True)
class _Buffer:
    lines: list[Line] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


class RunLog:
    """Buffer of lines, and the thread that hands them to `write`, which may fail.

    `refused` hears of that once, and every few minutes while it goes on: why, and how many lines
    wait and were dropped. A line that is refused for good is dropped.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Line]], None],
        refused: Callable[[Exception, int, int], None] = lambda _error, _waiting, _dropped: None,
    ) -> None:
        self._write = write
        self._refused = refused
        self._reported_at: float | None = None
        self._buffer = _Buffer()
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, line: Line) -> None:
        """Take a line, or count it where there are too many. Waits for nothing."""
        with self._lock:
            if len(self._buffer.lines) >= _BUFFERED:
                self._buffer.dropped[line.batch_id] += 1
                return
            self._buffer.lines.append(line)
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="run-log", daemon=True)
                self._thread.start()
        self._filled.set()

    def close(self) -> None:
        """Hand on what is buffered, within two seconds."""
        self._closing.set()
        self._filled.set()
        if self._thread is not None:
            self._thread.join(_CLOSED_WITHIN.total_seconds())

    def _run(self) -> None:
        pause = _EVERY
        while True:
            self._filled.wait()
            last = self._closing.wait(pause.total_seconds())
            self._filled.clear()
            done = self._flush()
            pause = _EVERY if done else min(pause * 2, _LONGEST_PAUSE)
            if last:
                return

    def _flush(self) -> bool:
        with self._lock:
            taken, self._buffer = self._buffer, _Buffer()
        now = datetime.now(UTC)
        lines = taken.lines + [
            Line(batch_id, None, now, "warning", __name__, DROPPED, {"count": count})
            for batch_id, count in taken.dropped.items()
        ]
        try:
            if lines:
                self._write(lines)
        except Exception as error:  # noqa: BLE001 - a log must not end what it is about
            # What is refused for another reason would be refused again, with all behind it.
            self._put_back(taken, retried=isinstance(error, RetryableError | OSError))
            self._report(error)
            return False
        self._reported_at = None
        return True

    def _report(self, error: Exception) -> None:
        """Say why lines are not taken: once, and from time to time while that goes on."""
        now = monotonic()
        if self._reported_at is None or now - self._reported_at > _REPORTED_EVERY.total_seconds():
            self._reported_at = now
            with self._lock:
                waiting, dropped = len(self._buffer.lines), self._buffer.dropped.total()
            self._refused(error, waiting, dropped)

    def _put_back(self, taken: _Buffer, *, retried: bool) -> None:
        with self._lock:
            room = max(0, _BUFFERED - len(self._buffer.lines)) if retried else 0
            kept, lost = taken.lines[:room], taken.lines[room:]
            self._buffer.lines = kept + self._buffer.lines
            self._buffer.dropped.update(taken.dropped)
            self._buffer.dropped.update(line.batch_id for line in lost)
        self._filled.set()


_kept: ContextVar[RunLog | None] = ContextVar("run_log", default=None)


@contextmanager
def kept_in(log: RunLog) -> Iterator[None]:
    """Keep in a log what is logged of runs in this context, and in tasks that begin in it."""
    before = _kept.get()
    _kept.set(log)
    try:
        yield
    finally:
        _kept.set(before)
        log.close()


def note(level: Level, logger: str, event: str, values: Mapping[str, Any]) -> None:
    """Keep a record of the structured logger, where it is about a run and a log is kept."""
    log = _kept.get()
    if log is None:
        return
    # It takes time to import, and most commands do without.
    from structlog.contextvars import get_contextvars  # noqa: PLC0415

    fields = {**get_contextvars(), **values}
    batch_id, job_id, *_ = (fields.pop(name, None) for name in (*_COLUMNS, *_OF_RUN))
    if isinstance(batch_id, str):
        log.take(Line(batch_id, job_id, datetime.now(UTC), level, logger, event, fields))


def run_of(argument: object) -> dict[str, str]:
    """The batch, job, source and connection of a message, for the context of what is logged."""
    about = argument
    for part in ("job", "metadata", "input"):
        about = getattr(argument, part, None) or about
    found = {name: getattr(about, name, None) for name in (*_COLUMNS, *_OF_RUN)}
    return {name: value for name, value in found.items() if isinstance(value, str) and value}
