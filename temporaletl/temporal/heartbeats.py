"""Heartbeats of activities that write to the ledger: a service that died in one is noticed soon."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from temporalio import activity

#: A first attempt that answers sooner sends no heartbeat: the server writes each of them.
FIRST_BEAT_AFTER = timedelta(seconds=1)


async def to_its_end[T](work: Coroutine[Any, Any, T]) -> T:
    """Do an activity's work with heartbeats meanwhile, and answer also where it is cancelled.

    A cancellation comes with the answer to a heartbeat. What is written then is written all the
    same, and the workflow must learn of it.

    Raises:
        asyncio.CancelledError: the worker shuts down; another attempt does it again.
    """
    working, beating = asyncio.ensure_future(work), asyncio.create_task(_beat())
    try:
        while True:
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                details = activity.cancellation_details()
                if details is None or details.worker_shutdown:
                    raise
    finally:
        working.cancel()  # nothing, once it is done
        beating.cancel()


async def _beat() -> None:
    """Heartbeat until cancelled; at once behind other attempts, whose counts it carries on."""
    info = activity.info()
    timeout = info.heartbeat_timeout
    if timeout is None:
        return  # a queuer of an earlier version asked for it
    interval = timeout / 5
    if info.attempt == 1:
        await asyncio.sleep(min(FIRST_BEAT_AFTER, interval).total_seconds())
    while True:
        activity.heartbeat()
        await asyncio.sleep(interval.total_seconds())
