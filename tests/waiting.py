"""Waiting for a condition, bounded."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

_BETWEEN_LOOKS_SECONDS = 0.05
#: Between two looks passes so many times what one took: to wait shall cost little.
_PAUSE_PER_LOOK = 4


async def until(
    condition: Callable[[], bool | Awaitable[bool]], *, within_seconds: float = 120
) -> None:
    """Return once the condition holds; raise TimeoutError when it does not in time."""
    async with asyncio.timeout(within_seconds):
        while True:
            began = time.monotonic()
            holds = condition()
            if inspect.isawaitable(holds):
                holds = await holds
            if holds:
                return
            took = time.monotonic() - began
            await asyncio.sleep(max(_BETWEEN_LOOKS_SECONDS, min(took * _PAUSE_PER_LOOK, 1)))


def this_month() -> datetime:
    """The present, once it is not the last minute of a month: what follows is of one month."""

    def goes_on() -> bool:
        now = datetime.now(UTC)
        return (now + timedelta(minutes=1)).month == now.month

    asyncio.run(until(goes_on))
    return datetime.now(UTC)
