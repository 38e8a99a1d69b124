"""The dashboard that all modules here share, and a Temporal without runs of others."""

import pytest_asyncio

from tests.integration.temporal_server import TemporalServer, end_workflows
from tests.integration.web.stack import dashboard

__all__ = ["dashboard"]


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def no_runs_of_others(temporal_server: TemporalServer) -> None:
    """The server is shared by all modules: what they left open is not to be listed here."""
    await end_workflows(temporal_server.client)
