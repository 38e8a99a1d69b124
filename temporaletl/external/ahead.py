"""Reading ahead: a source's pages are fetched and completed while earlier ones are loaded."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from temporaletl.external.threads import abandon
from temporaletl.extraction import PageRequest


async def in_order[F, P](
    request: PageRequest[Any],
    fetch: Callable[[], Awaitable[F | None]],
    finish: Callable[[F], Awaitable[P]],
    *,
    most: int,
) -> AsyncGenerator[P]:
    """Yield what `finish` makes of each thing that `fetch` brings, in order, until that is None.

    One is fetched at a time, also while up to `most` others are finished at once or wait to be
    yielded. When the segment ends nothing more is fetched, and what is under way is yielded still.

    Raises: what the two raise, once everything before it was yielded.
    """
    room = asyncio.Semaphore(most)
    finishing: asyncio.Queue[asyncio.Future[P] | None] = asyncio.Queue()
    finished: asyncio.Future[P] | None = None
    ending = request.ending
    ending.is_heeded = True

    async def fetch_all() -> None:
        try:
            await room.acquire()
            while not ending.cuts_short() and (found := await fetch()) is not None:
                finishing.put_nowait(asyncio.ensure_future(finish(found)))
                await room.acquire()
        finally:
            finishing.put_nowait(None)

    fetching = asyncio.ensure_future(fetch_all())
    try:
        while (finished := await finishing.get()) is not None:
            page = await finished
            room.release()
            yield page
        await fetching
    finally:
        await abandon([fetching])
        under_way = [finished, *(finishing.get_nowait() for _ in range(finishing.qsize()))]
        await abandon([future for future in under_way if future is not None])
