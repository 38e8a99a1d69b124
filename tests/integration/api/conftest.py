"""`etl serve` beside both services, and clients of it."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import requests

from tests.integration.api.in_process import served
from tests.integration.command_line import CommandLine, finished

__all__ = ["Api", "serve", "served"]

_WITHIN_SECONDS = 180


@dataclass(frozen=True)
class Api:
    """A client of the API: of whoever is on this machine."""

    etl: CommandLine
    address: str

    async def __call__(self, method: str, path: str, **more: Any) -> requests.Response:
        return await asyncio.to_thread(
            requests.request, method, f"{self.address}{path}", timeout=_WITHIN_SECONDS, **more
        )


@asynccontextmanager
async def serve(etl: CommandLine) -> AsyncGenerator[Api]:
    """Run `etl serve` until the block ends; it must have nothing to complain of."""
    process = await etl.start("serve", "--port", "0")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            line = (await process.stdout.readline()).decode()
        yield Api(etl, line.split()[-1])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        ended = await finished(process)
    # Its local engine logs there, as a service does.
    assert all(line.startswith("{") for line in ended.err.splitlines()), ended.err
