"""The local engine as a child process: niced, started when it is needed, ended with its parent."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Self

from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.engine")

#: A run that nobody drives is seen within so long, also where another process requested it.
_LOOK_EVERY = timedelta(seconds=2)
#: How long an engine that has nothing to do stays.
_IDLE = timedelta(seconds=60)
#: How long runs may take to their next page once the parent ends; then their leases run out.
_PATIENCE = timedelta(seconds=15)
#: After an engine that failed to start, or died.
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=1), timedelta(minutes=1)


async def start_engine(*arguments: str) -> asyncio.subprocess.Process:
    """Start an engine, which ends when `end_engine` is called or this process dies.

    What it logs goes where this process logs.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "temporaletl.engine", "--attached", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        # A terminal's Ctrl-C is the parent's to answer.
        start_new_session=True,
    )


async def end_engine(engine: asyncio.subprocess.Process) -> None:
    """Let an engine's runs come to their next page, and end it; kill it after 15 seconds."""
    if engine.stdin is not None:
        engine.stdin.close()
    try:
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            await engine.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            engine.send_signal(signal.SIGKILL)
        await engine.wait()


class EngineProcess:
    """Keeper of an engine: there is one while runs wait or go on, and none while there are none.

    `waits` says whether a run waits for an owner; what it raises is logged. Use as a context.
    """

    def __init__(self, waits: Callable[[], Awaitable[bool]]) -> None:
        self._waits = waits
        self._woken = asyncio.Event()
        self._engine: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Look at once: a run has just been requested."""
        self._woken.set()

    def leave(self) -> None:
        """Have the engine end, and start no other; for who does not wait for it yet."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._engine is not None and self._engine.stdin is not None:
            self._engine.stdin.close()

    async def __aenter__(self) -> Self:
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()
        if self._keeping is not None:
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._engine is not None:
            await end_engine(self._engine)

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            if await self._is_needed():
                reason = await self._until_ended()
                if reason is None:
                    pause = _FIRST_PAUSE
                else:
                    log.warning(
                        "engine_died", reason=reason, retry_in_seconds=pause.total_seconds()
                    )
                    await asyncio.sleep(pause.total_seconds())
                    pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY.total_seconds()):
                    await self._woken.wait()

    async def _until_ended(self) -> str | None:
        """Start an engine and wait for its end; return what it died of, None where it did not."""
        try:
            self._engine = await start_engine("--idle", f"{_IDLE.total_seconds():g}")
        except OSError as error:  # no memory, no process: there may be later
            return f"it could not be started: {error.strerror}"
        status = await self._engine.wait()
        return None if status == 0 else f"exit status {status}"

    async def _is_needed(self) -> bool:
        try:
            return await self._waits()
        except Exception as error:  # noqa: BLE001 - the next time may be better
            log.warning("waiting_runs_unknown", reason=str(error))
            return False
