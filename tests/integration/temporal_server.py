"""A real Temporal dev server for the test session."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment


@dataclass(frozen=True)
class TemporalServer:
    address: str  # host:port
    client: Client  # of namespace "default", for the session's event loop


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
