"""The application in this process, over real HTTP, beside both services; one for a module."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psycopg
import pytest_asyncio
import requests
import uvicorn
from fastapi import FastAPI
from psycopg import sql

from temporaletl.control.api.app import Front, create_app
from temporaletl.control.api.serving import listen, make_server
from temporaletl.control.api.settings import ApiSettings
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.tokens import create_token
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.warehouse.tokens import Scope
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

_WITHIN_SECONDS = 180
#: Not the loop's own threads, in which the application works.
_clients = ThreadPoolExecutor(max_workers=16)


@dataclass(frozen=True)
class Served:
    """A served application, and a client of it: of this machine, or of a token."""

    app: FastAPI
    server: uvicorn.Server
    task: asyncio.Task[None]
    platform: Platform
    address: str
    services: Services | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def both(self) -> Services:
        """The services beside it."""
        assert self.services is not None
        return self.services

    async def token_of(self, scope: Scope, name: str = "") -> "Served":
        """The client of a new token."""
        made = await create_token(self.platform, name or uuid.uuid4().hex, scope)
        text = made.text.get_secret_value()
        return replace(self, headers={"Authorization": f"Bearer {text}"})

    async def run(self, run: str) -> dict[str, Any]:
        """A run that has ended."""
        found: dict[str, Any] = {}

        async def has_ended() -> bool:
            answer = await self("GET", f"/api/v1/runs/{run}")
            found.update(answer.json().get("run") or {})
            return found.get("state") in ("completed", "failed", "cancelled")

        await until(has_ended, within_seconds=_WITHIN_SECONDS)
        return found

    async def __call__(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> requests.Response:
        return await asyncio.get_running_loop().run_in_executor(
            _clients,
            partial(
                requests.request,
                method,
                f"{self.address}{path}",
                headers={**self.headers, **(headers or {})},
                timeout=_WITHIN_SECONDS,
                **more,
            ),
        )


@asynccontextmanager
async def serving(
    platform: Platform,
    services: Services | None = None,
    *,
    fronts: Sequence[Front] = (),
    **settings: object,
) -> AsyncGenerator[Served]:
    """Serve an application over a platform until the block ends; `settings` are the API's."""
    known = ApiSettings.model_validate({"port": 0, **settings})
    listening = listen(known)
    app = create_app(platform, known, fronts=fronts)
    server = make_server(app, known)
    # The signals are the tests' own.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(server.serve([listening]))
    try:
        await until(lambda: server.started or task.done())
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield Served(app, server, task, platform, address, services)
    finally:
        server.should_exit = True
        async with asyncio.timeout(_WITHIN_SECONDS):
            await task


def platform_of(services: Services, url: str) -> Platform:
    """The platform whose services these are."""
    temporal = TemporalSettings.model_validate(
        {
            "address": services.client.service_client.config.target_host,
            "namespace": services.client.namespace,
            "queuer_queue": services.queue,
            "worker_queue": f"{services.queue}-etl",
        }
    )
    return Platform(temporal, warehouse_settings(url, services.warehouse.schema))


def warehouse_settings(url: str, schema: str) -> WarehouseSettings:
    return WarehouseSettings.model_validate({"database_url": url, "schema_name": schema})


@asynccontextmanager
async def schema_of(url: str) -> AsyncGenerator[Warehouse]:
    """An empty, migrated schema that goes with the block."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    with Warehouse(warehouse_settings(url, schema), max_connections=20) as opened:
        migrate(opened)
        yield opened
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(temporal_server: TemporalServer, postgres_url: str) -> AsyncGenerator[Served]:
    """The client of a token that may act."""
    async with (
        schema_of(postgres_url) as warehouse,
        running(temporal_server.client, warehouse, attempts=50, segment_seconds=1) as services,
        serving(platform_of(services, postgres_url), services) as one,
    ):
        yield await one.token_of("operate")
