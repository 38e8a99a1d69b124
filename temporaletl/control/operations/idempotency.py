"""Idempotency keys of requests: claimed, answered and released; see `warehouse.idempotency`."""

import asyncio

from temporaletl.control.operations.platform import Platform
from temporaletl.warehouse import idempotency
from temporaletl.warehouse.idempotency import Answer, RequestKey


async def claim(platform: Platform, key: RequestKey, request: bytes) -> Answer | None:
    """Claim a key for a request; the answer of the first time where there is one already.

    Raises:
        ReusedKeyError: the key was used for another request.
        RequestRunningError: the first request has no answer yet.
        ConfigurationError: the key is empty, too long, or not printable.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    return await asyncio.to_thread(idempotency.claim, warehouse, key, request)


async def store_answer(platform: Platform, key: RequestKey, answer: Answer) -> None:
    """Store the answer of a claimed key, without secrets; the first one stands.

    Safe to repeat. Raises: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    await asyncio.to_thread(idempotency.store_answer, warehouse, key, answer)


async def release(platform: Platform, key: RequestKey) -> None:
    """Give a claimed key back, because nothing was done.

    Safe to repeat. Raises: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    await asyncio.to_thread(idempotency.release, warehouse, key)
