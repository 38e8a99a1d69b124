"""Both services, and outages of the source of numbers."""

import uuid
from collections.abc import AsyncGenerator, Iterator

import pytest
import pytest_asyncio

from temporaletl.warehouse.connection import Warehouse
from tests.integration.flows.numbers import outages
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer


@pytest_asyncio.fixture
async def services(
    request: pytest.FixtureRequest, temporal_server: TemporalServer, warehouse: Warehouse
) -> AsyncGenerator[Services]:
    """Both services; a module's `SERVICES` are the options of `running`."""
    options = getattr(request.module, "SERVICES", {})
    async with running(temporal_server.client, warehouse, **options) as both:
        yield both


@pytest.fixture
def outage() -> Iterator[str]:
    """The name of an outage that has begun."""
    name = uuid.uuid4().hex
    outages.add(name)
    yield name
    outages.discard(name)
