"""Session of a command: quiet logs, and the platform, from here or over its API."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Concatenate, override

from temporaletl.control.client.settings import ClientSettings, NotOverApiError
from temporaletl.control.operations.platform import Platform
from temporaletl.embedded.running import (
    StackInUseError,
    default_data_folder,
    elsewhere,
    has_cluster,
    publish,
    use_running,
    withdraw,
)
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.telemetry.logs import quiet_logs

if TYPE_CHECKING:
    from temporaletl.control.client.api import Api


class _Threads(ThreadPoolExecutor):
    """Threads that are not waited for at the end: a call that was given up may hang for minutes."""

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


class Session:
    """What a command calls operations through."""

    def __init__(self, reached: "Platform | Api") -> None:
        self._reached = reached

    async def call[**P, T](
        self,
        operation: Callable[Concatenate[Platform, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call an operation, here or over the API; raises as it does.

        Raises:
            NotOverApiError: the API has no such operation.
        """
        if isinstance(self._reached, Platform):
            return await operation(self._reached, *args, **kwargs)
        # It takes time to import, and most commands do without.
        from temporaletl.control.client.calls import remote

        return await remote(operation)(self._reached, *args, **kwargs)


def begin() -> ClientSettings:
    """Begin a command: keep logs off the terminal, and see whether it uses the API.

    Where it does not, it uses a stack that runs on this machine.
    """
    quiet_logs()
    settings = ClientSettings.load()
    if settings.url is None:
        use_running()
    return settings


def begin_here() -> None:
    """Begin a command that is no use over the API; raises as `refuse_api`."""
    begin()
    refuse_api()


def refuse_api() -> None:
    """Refuse to do here what whoever set ETL_API_URL may think is done over there.

    Raises:
        NotOverApiError: it is set.
    """
    if ClientSettings.load().url is not None:
        raise NotOverApiError


@contextmanager
def local_warehouse() -> Iterator[bool]:
    """Run the embedded PostgreSQL for this command, where no other is configured or runs.

    The value says whether it does; a running `etl up` is used, and what the settings name. Other
    commands use it, too, as long as this one runs.

    Raises: as `running_postgres`.
    """
    if begin().url is not None or WarehouseSettings.load().is_configured:
        yield False
        return
    # It takes time to import, and most commands do without.
    from temporaletl.embedded.postgres import running_postgres

    with running_postgres(folder := default_data_folder()) as url:
        os.environ.update(DATABASE_URL=url)
        publish(folder, {"DATABASE_URL": url})
        try:
            yield True
        finally:
            withdraw(folder)
            os.environ.pop("DATABASE_URL")


@contextmanager
def warehouse_left_here() -> Iterator[bool]:
    """As `local_warehouse`, where an earlier command has left one in the data folder.

    So what the local engine did is looked at with nothing running. While a command of another kind
    has the folder, it is left alone.
    """
    with ExitStack() as exits:
        own = False
        if begin().url is None and not elsewhere() and has_cluster(default_data_folder()):
            with suppress(StackInUseError):
                own = exits.enter_context(local_warehouse())
        yield own


def open_platform() -> Platform:
    """The platform that the environment names; raises ConfigurationError for a bad setting."""
    return Platform(TemporalSettings.load(), WarehouseSettings.load())


@asynccontextmanager
async def open_session() -> AsyncGenerator[Session]:
    """The session of a command; raises ConfigurationError for a bad setting."""
    settings = begin()
    asyncio.get_running_loop().set_default_executor(_Threads())
    async with open_platform() if settings.url is None else _open_api(settings) as reached:
        yield Session(reached)


def _open_api(settings: ClientSettings) -> "Api":
    from temporaletl.control.client.api import Api

    return Api(settings)


def call[**P, T](
    operation: Callable[Concatenate[Platform, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call the one operation of a command; raises as `Session.call`."""

    async def called() -> T:
        async with open_session() as session:
            return await session.call(operation, *args, **kwargs)

    return run_to_end(called)


def run_to_end[T](work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine as `asyncio.run` does, with the warehouse that is left here.

    Ctrl-C is held until there is a loop to be ended: a half-made one would print tracebacks.
    """
    with warehouse_left_here():
        return _run(work)


def _run[T](work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        runner = asyncio.Runner()
        runner.get_loop()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    with runner:
        return runner.run(work())
