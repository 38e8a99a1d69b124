"""`etl serve` beside both services, and clients of it."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest_asyncio
import requests

from temporaletl.warehouse.connection import Warehouse
from tests.integration.api.in_process import served
from tests.integration.command_line import CommandLine, finished, publish_numbers
from tests.integration.flows.services import running
from tests.integration.temporal_server import TemporalServer

__all__ = ["Api", "api", "served"]

_WITHIN_SECONDS = 60


@dataclass(frozen=True)
class Api:
    """A client of the API: of whoever is on this machine, or of a token."""

    etl: CommandLine
    address: str
    token: str | None = None

    async def token_of(self, scope: str, name: str = "") -> "Api":
        """The client of a new token."""
        made = await self.etl("token", "create", name or scope, "--scope", scope, "--json")
        return replace(self, token=made.document["token"])

    async def __call__(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> requests.Response:
        own = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return await asyncio.to_thread(
            requests.request,
            method,
            f"{self.address}{path}",
            headers={**own, **(headers or {})},
            timeout=_WITHIN_SECONDS,
            **more,
        )


@pytest_asyncio.fixture
async def api(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str, tmp_path: Path
) -> AsyncGenerator[Api]:
    publish_numbers(tmp_path)
    async with (
        running(temporal_server.client, warehouse, attempts=50, segment_seconds=1) as services,
        serve(CommandLine(services, tmp_path, postgres_url)) as served,
    ):
        yield served


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
