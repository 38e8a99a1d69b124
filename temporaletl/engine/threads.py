"""Blocking work in threads, which nothing can interrupt."""

import asyncio
import contextvars
from collections.abc import Callable
from functools import partial


async def in_thread[T](work: Callable[[], T]) -> T:
    """Call `work` in a thread; a cancellation is raised once it has returned.

    For what writes: otherwise it would go on writing behind whoever was told that all has ended.
    """
    loop = asyncio.get_running_loop()
    # No task, which the end of the loop would cancel while its thread goes on.
    running = loop.run_in_executor(None, partial(contextvars.copy_context().run, work))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()  # it is not raised, and nobody misses it
        raise cancelled
    return running.result()
