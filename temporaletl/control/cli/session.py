"""Session of a command: quiet logs, the stack of this machine, and a platform."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import override

from temporaletl.control.operations.platform import Platform
from temporaletl.embedded.running import use_running
from temporaletl.logs import configure_logs
from temporaletl.settings import TemporalSettings, WarehouseSettings


class _Threads(ThreadPoolExecutor):
    """Threads that are not waited for at the end: a call that was given up may hang for minutes."""

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


def begin() -> None:
    """Use a stack that runs on this machine, and keep logs off the terminal."""
    configure_logs(level=logging.ERROR)
    use_running()


def open_platform() -> Platform:
    """The platform that the environment names; raises ConfigurationError for a bad setting."""
    return Platform(TemporalSettings.load(), WarehouseSettings.load())


def with_platform[T](work: Callable[[Platform], Awaitable[T]]) -> T:
    """Begin a command, and call an operation; raises as it does."""
    begin()

    async def opened() -> T:
        asyncio.get_running_loop().set_default_executor(_Threads())
        async with open_platform() as platform:
            return await work(platform)

    return asyncio.run(opened())
