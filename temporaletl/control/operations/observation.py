"""Observations: answers that take Temporal or much of the ledger, shared by all who ask.

An answer is given at once as it was observed last, and renewed behind it; nobody waits for Temporal
but who asks first. Each says when it was observed.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

#: An answer is renewed when somebody asks for it and it is older than this.
FRESH = timedelta(seconds=1)
#: An older one is not given any more: who asks waits for a new one.
STALE = timedelta(seconds=5)
_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Observed[T]:
    """An answer, and when it was observed (UTC)."""

    value: T
    as_of: datetime


@dataclass(slots=True)
class _Entry:
    observed: Observed[Any] | None = None
    at: float = 0.0
    renewal: "asyncio.Task[Observed[Any]] | None" = None


class Observations:
    """Answers by key, each observed by one task at a time. For one event loop.

    runs = await observations.latest("runs", partial(open_runs, platform, limit=50))
    """

    def __init__(
        self, *, fresh: timedelta = FRESH, stale: timedelta = STALE, kept: int = _KEPT
    ) -> None:
        self._fresh = fresh.total_seconds()
        self._stale = stale.total_seconds()
        self._kept = kept
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    async def latest[T](self, key: str, observe: Callable[[], Awaitable[T]]) -> Observed[T]:
        """Return the latest observation, not older than `stale`; raises as `observe` does.

        What is renewed behind an answer and fails is observed again by the next who asks.
        """
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        self._forget_oldest()
        age = monotonic() - entry.at
        if entry.observed is not None and age < self._fresh:
            return entry.observed
        if entry.renewal is None or entry.renewal.done():
            entry.renewal = asyncio.create_task(self._renew(entry, observe))
            entry.renewal.add_done_callback(_retrieve)
        if entry.observed is not None and age < self._stale:
            return entry.observed
        # Shielded: one who goes away does not take the answer from the others.
        return await asyncio.shield(entry.renewal)

    def knows(self, key: str) -> bool:
        """Whether there is an observation of that key, however old."""
        entry = self._entries.get(key)
        return entry is not None and entry.observed is not None

    def forget(self) -> None:
        """Let the next answers be new ones, after something was changed from here."""
        self._entries.clear()

    async def _renew[T](self, entry: _Entry, observe: Callable[[], Awaitable[T]]) -> Observed[T]:
        as_of, at = datetime.now(UTC), monotonic()
        observed = Observed(await observe(), as_of)
        entry.observed, entry.at = observed, at
        return observed

    def _forget_oldest(self) -> None:
        while len(self._entries) > self._kept:
            self._entries.popitem(last=False)


def _retrieve(renewal: "asyncio.Task[Observed[Any]]") -> None:
    """Take notice of a failure that nobody waits for."""
    if not renewal.cancelled():
        renewal.exception()
