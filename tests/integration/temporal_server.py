"""A real Temporal dev server for the test session."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from tests.waiting import until


@dataclass(frozen=True)
class TemporalServer:
    address: str  # host:port
    client: Client  # of namespace "default", for the session's event loop


async def end_workflows(client: Client) -> None:
    """Terminate what other tests left open, which lists of runs would show."""
    async for one in client.list_workflows("ExecutionStatus = 'Running'"):
        with contextlib.suppress(RPCError):  # it has ended meanwhile
            await client.get_workflow_handle(one.id, run_id=one.run_id).terminate()

    async def none_is_open() -> bool:
        return (await client.count_workflows("ExecutionStatus = 'Running'")).count == 0

    await until(none_is_open, within_seconds=30)


def temporal_binary() -> Path | None:
    """The `temporal` command: on PATH, or where the project's scripts keep it."""
    if found := shutil.which("temporal"):
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cached = cache / "temporaletl" / "bin" / "temporal"
    return cached if os.access(cached, os.X_OK) else None


def require_temporal() -> Path:
    """The `temporal` command; where there is none the test is skipped, and in CI fails."""
    if binary := temporal_binary():
        return binary
    reason = "no Temporal server: no `temporal` command on PATH or in the project's cache"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def temporal_server() -> AsyncIterator[TemporalServer]:
    """A server in memory on a free port, stopped when the session ends."""
    binary = require_temporal()
    async with asyncio.timeout(60):
        environment = await WorkflowEnvironment.start_local(
            dev_server_existing_path=str(binary),
            dev_server_log_level="error",
            data_converter=pydantic_data_converter,
        )
    async with environment:
        client = environment.client
        yield TemporalServer(client.service_client.config.target_host, client)
