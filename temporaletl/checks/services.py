"""The activity by which a service says what it sees of a source: settings, account, warehouse."""

import asyncio
import os
import socket
from functools import partial
from importlib.metadata import version

from temporalio import activity

from temporaletl import names
from temporaletl.accounts import account_views
from temporaletl.bound_connection import DEFAULT, bound
from temporaletl.checks.messages import Check, ServiceAnswer, ServiceCheckRequest
from temporaletl.checks.sources import (
    attempt,
    describe_warehouse,
    load_settings,
    read_account,
    unknown,
)
from temporaletl.connections.providers import find_connection, provided
from temporaletl.secrets import redacted
from temporaletl.strategies import import_sources, planners, queries
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.source_connections import StoredConnections, stored_connections


class ServiceChecks:
    """The activity of a service's process, and what it needs."""

    def __init__(self, service: str, warehouse: Warehouse) -> None:
        self._service = service
        self._warehouse = warehouse

    @activity.defn(name=names.CHECK_SERVICE)
    async def check_service(self, request: ServiceCheckRequest) -> ServiceAnswer:
        """Check what the connection needs, as this process has it; see `ServiceAnswer`."""
        of_source, warehouse = await asyncio.gather(
            self._check_source(request.source, request.connection),
            attempt("warehouse", partial(asyncio.to_thread, describe_warehouse, self._warehouse)),
        )
        return ServiceAnswer(
            service=self._service,
            version=version("temporaletl"),
            process=f"{os.getpid()}@{socket.gethostname()}",
            checks=tuple(
                check.model_copy(update={"detail": redacted(check.detail)})
                for check in (*of_source, warehouse)
            ),
        )

    async def _check_source(self, source: str, connection: str) -> list[Check]:
        checks = [await attempt("settings", partial(self._read_settings, source, connection))]
        checks += unknown(source)
        if checks[0].verdict != "ok" or source not in account_views:
            return checks
        return [*checks, await attempt("account", partial(self._read_account, source, connection))]

    async def _read_settings(self, source: str, connection: str) -> str:
        return await asyncio.to_thread(self._load_settings, source, connection)

    def _load_settings(self, source: str, connection: str) -> str:
        # A worker plans nothing, and needs what planning does: the settings are the same.
        import_sources("temporaletl.queuer.sources", source)
        (queries if self._service == "worker" else planners).get(source)
        planner = planners.get(source)
        with provided(self._stored(connection)):
            find_connection(source, connection)
            with bound(source, connection):
                return load_settings(source, planner)

    async def _read_account(self, source: str, connection: str) -> str:
        with provided(await asyncio.to_thread(self._stored, connection)), bound(source, connection):
            return await read_account(source)

    def _stored(self, connection: str) -> StoredConnections | None:
        return None if connection == DEFAULT else stored_connections(self._warehouse)
