"""Blocking calls of a source, in threads of its own."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, overload


def submit[T](threads: Executor, function: Callable[..., T], *args: Any) -> Future[T]:
    """Run a blocking function in one of the threads, in the caller's context; see `start`."""
    return threads.submit(contextvars.copy_context().run, function, *args)


def start[T](threads: Executor, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
    """Run a blocking function in one of the threads.

    As with `asyncio.to_thread`, in the caller's context: log lines keep the workflow's ids, and
    requests wait for their turn in the segment's budget.
    """
    call = partial(contextvars.copy_context().run, function, *args)
    return asyncio.get_running_loop().run_in_executor(threads, call)


class Begun[T]:
    """A blocking call that runs in one of the threads, beside its caller.

    Where no thread has taken it up when its result is requested, it runs in the caller's: so it may
    be begun in one of the threads themselves, also where all of them are busy.
    """

    def __init__(self, threads: Executor, function: Callable[..., T], *args: Any) -> None:
        self._call = partial(contextvars.copy_context().run, function, *args)
        self._future: Future[T] = threads.submit(self._call)

    def result(self) -> T:
        """Return the result, once. Blocks; raises what the function does."""
        return self._call() if self._future.cancel() else self._future.result()

    def abandon(self) -> None:
        """Want no result any more: what no thread has taken up does not run."""
        self._future.cancel()


async def abandon(futures: "Sequence[asyncio.Future[Any]]") -> None:
    """Wait for nothing any more; what runs in a thread ends there by itself."""
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)


@overload
async def gather_all[A, B](calls: tuple[Awaitable[A], Awaitable[B]]) -> tuple[A, B]: ...
@overload
async def gather_all[T](calls: Iterable[Awaitable[T]]) -> tuple[T, ...]: ...
async def gather_all(calls: Iterable[Awaitable[Any]]) -> tuple[Any, ...]:
    """Wait for all calls at once; the first that fails ends the waiting for the others.

    Raises: what the first failing call raises.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return (*await asyncio.gather(*tasks),)
    finally:
        await abandon(tasks)
