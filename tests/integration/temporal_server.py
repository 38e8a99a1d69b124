"""A real Temporal dev server for the test session, and a namespace of it for each module."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from temporaletl.embedded.temporal_command import find_temporal
from tests.far_times import assert_far
from tests.waiting import until

_STARTED_WITHIN = timedelta(minutes=2)


@dataclass(frozen=True)
class TemporalServer:
    address: str  # host:port
    client: Client  # of one namespace, for the session's event loop

    @property
    def settings(self) -> dict[str, str]:
        """The settings that lead to the namespace."""
        return {"address": self.address, "namespace": self.client.namespace}

    async def with_namespace(self) -> "TemporalServer":
        """The server with a new namespace, in which nobody else runs anything."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        request = RegisterNamespaceRequest(namespace=name)
        request.workflow_execution_retention_period.FromTimedelta(timedelta(days=1))
        await self.client.workflow_service.register_namespace(request)
        client = await Client.connect(
            self.address, namespace=name, data_converter=self.client.data_converter
        )

        async def is_known() -> bool:
            try:
                return (await client.count_workflows("")).count == 0
            except RPCError:  # the server's parts learn of it one after the other
                return False

        await until(is_known)
        return TemporalServer(self.address, client)


def require_temporal() -> Path:
    """The `temporal` command; where there is none the test is skipped, and in CI fails."""
    if binary := find_temporal():
        return binary
    reason = "no Temporal server: no `temporal` command on PATH, beside Python or in the cache"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_temporal() -> AsyncIterator[TemporalServer]:
    """A server in memory on a free port, stopped when the session ends; namespace "default"."""
    binary = require_temporal()
    async with asyncio.timeout(2 * _STARTED_WITHIN.total_seconds()):
        environment = await WorkflowEnvironment.start_local(
            dev_server_existing_path=str(binary),
            dev_server_log_level="error",
            dev_server_startup_timeout=_STARTED_WITHIN,
            data_converter=pydantic_data_converter,
        )
    async with environment:
        client = environment.client
        yield TemporalServer(client.service_client.config.target_host, client)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def temporal_server(shared_temporal: TemporalServer) -> AsyncIterator[TemporalServer]:
    """The session's server, with a namespace of the module's own."""
    server = await shared_temporal.with_namespace()
    yield server
    await assert_far(server.client)
