"""Waiting for a condition, bounded."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

_BETWEEN_LOOKS_SECONDS = 0.05


async def until(
    condition: Callable[[], bool | Awaitable[bool]], *, within_seconds: float = 20
) -> None:
    """Return once the condition holds; raise TimeoutError when it does not in time."""
    async with asyncio.timeout(within_seconds):
        while True:
            holds = condition()
            if inspect.isawaitable(holds):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
