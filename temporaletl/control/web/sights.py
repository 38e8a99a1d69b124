"""Sights: observations that outlive an outage, each with what failed since, and since when."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from temporaletl.control.operations.observation import Observations, Observed
from temporaletl.errors import ETLError, RetryableError

#: A page is given with what was seen last, rather than after a longer wait.
PATIENCE = timedelta(seconds=2)
#: The same, of what did not answer the last time, and was seen before: it is observed on behind the
#: page.
SHORT_PATIENCE = timedelta(milliseconds=200)
_KEPT = 500


@dataclass(frozen=True, slots=True)
class Sight[T]:
    """What was seen last, and the outage that keeps it from being seen now.

    `since` is when this process first noticed that.
    """

    value: T
    as_of: datetime
    fault: str | None = None
    since: datetime | None = None


@dataclass(slots=True)
class _Known:
    observed: Observed[Any] | None = None
    failing_since: datetime | None = None


class Sights:
    """The latest observations of an application's pages. For one event loop."""

    def __init__(self, observations: Observations) -> None:
        self._observations = observations
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def see[T](self, key: str, observe: Callable[[], Awaitable[T]]) -> Sight[T]:
        """Observe, or return what was observed last, where that fails or takes too long.

        Raises:
            ETLError: it fails, and was never observed, or waiting does not mend it.
            TimeoutError: it takes too long, and was never observed.
        """
        return await self.of(key, lambda: self._observations.latest(key, observe))

    async def of[T](self, key: str, look: Callable[[], Awaitable[Observed[T]]]) -> Sight[T]:
        """The same of an observation that others share; raises as `see`."""
        known = self._known.setdefault(key, _Known())
        self._known.move_to_end(key)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        shown = known.observed is not None and known.failing_since is not None
        patience = SHORT_PATIENCE if shown else PATIENCE
        looking = asyncio.ensure_future(look())
        try:
            async with asyncio.timeout(patience.total_seconds()):
                observed = await asyncio.shield(looking)
        except (RetryableError, TimeoutError) as error:
            looking.add_done_callback(partial(_take_late, known))
            known.failing_since = known.failing_since or datetime.now(UTC)
            if known.observed is None:
                raise
            fault = str(error) or "it does not answer in time"
            return Sight(known.observed.value, known.observed.as_of, fault, known.failing_since)
        except ETLError:
            self._known.pop(key, None)
            raise
        known.observed, known.failing_since = observed, None
        return Sight(observed.value, observed.as_of)


def _take_late(known: _Known, looked: asyncio.Future[Observed[Any]]) -> None:
    """Take what was seen behind a page: it was slow, not away, and the next page waits for it."""
    if not looked.cancelled() and looked.exception() is None:
        known.observed, known.failing_since = looked.result(), None


class Outages:
    """Since when each part of the platform does not answer, as far as this process noticed."""

    def __init__(self) -> None:
        self._since: dict[str, datetime] = {}

    def since(self, part: str, *, failing: bool) -> datetime | None:
        """Note how a part stands now; return since when it fails, None where it does not."""
        if not failing:
            self._since.pop(part, None)
            return None
        return self._since.setdefault(part, datetime.now(UTC))
