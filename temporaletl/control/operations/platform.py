"""The platform that operations drive: its Temporal, its warehouse, and their settings.

A front opens one and hands it in; what an operation needs of it is connected on first use.

    async with Platform(TemporalSettings.load(), WarehouseSettings.load()) as platform:
        run = await start_run(platform, QueuerInput(source="jira"))
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from temporaletl.bound_connection import DEFAULT
from temporaletl.errors import (
    ConfigurationError,
    ConflictError,
    CredentialsError,
    ETLError,
    NotFoundError,
    TemporalUnavailableError,
)
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.temporal import sdk
from temporaletl.temporal.endpoint import CONNECT_TIMEOUT
from temporaletl.temporal.pollers import pollers
from temporaletl.warehouse.clock import warehouse_now
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import has_ledger, migrate, missing_migrations
from temporaletl.warehouse.payload_keys import enter_keys
from temporaletl.warehouse.source_connections import StoredConnections, stored_connections

if TYPE_CHECKING:
    from temporalio.client import Client

#: How long one question to Temporal may take.
PATIENCE = timedelta(seconds=5)
#: Who starts a run waits no longer to learn whether Temporal is there.
_ANSWERS_WITHIN = timedelta(seconds=2)

#: The list filter for workflows that are open. A newer server's `Paused` is open, and the name of
#: it is one that an older server refuses.
OPEN_WORKFLOWS = (
    "ExecutionStatus NOT IN "
    "('Completed', 'Failed', 'Canceled', 'Terminated', 'ContinuedAsNew', 'TimedOut')"
)


class NoLedgerError(ConfigurationError):
    """The warehouse holds none of the platform's tables."""


class OldLedgerError(ConfigurationError):
    """The warehouse's tables are those of an earlier version."""


class LocalEngine(Protocol):
    """A local engine that this program keeps."""

    def wake(self) -> None:
        """Say that a run has been requested."""

    def leave(self) -> None:
        """Have it leave its runs to others, and end."""


class Platform:
    """Connections to one platform: Temporal and warehouse.

    Safe to use from many tasks of one event loop.
    """

    def __init__(
        self,
        temporal: TemporalSettings,
        warehouse: WarehouseSettings,
        *,
        warehouse_connections: int = 2,
        engine: LocalEngine | None = None,
    ) -> None:
        """`warehouse_connections` are opened at most.

        With an `engine` at hand, it executes what is started while Temporal does not answer.
        """
        self.engine = engine
        self.settings = temporal
        self.warehouse_settings = warehouse
        self._connections = warehouse_connections
        self._client: Client | None = None
        self._warehouse: Warehouse | None = None
        self._is_current = False
        self._first: str | None = None
        self._is_entered = False
        self._connecting = asyncio.Lock()
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the warehouse's connections."""
        if self._warehouse is not None:
            await asyncio.to_thread(self._warehouse.close)
            self._warehouse = None

    @property
    def has_warehouse(self) -> bool:
        """Whether a warehouse is configured; whether it answers is another question."""
        return self.warehouse_settings.is_configured

    async def client(self) -> Client:
        """The connection to Temporal.

        Raises:
            TemporalDisabledError, TemporalUnavailableError, ConfigurationError, CredentialsError:
                as `temporaletl.temporal.connect.connect`, and `enter_keys`.
        """
        return await self._connected(CONNECT_TIMEOUT)

    async def _connected(self, within: timedelta) -> Client:
        async with self._connecting:
            await self._enter_keys()
            if self._client is None:
                # It takes time to import, and many operations do without.
                from temporaletl.temporal.connect import connect
                from temporaletl.temporal.telemetry import tracing_interceptors

                self._client = await connect(
                    self.settings, within=within, interceptors=tracing_interceptors()
                )
            return self._client

    async def _enter_keys(self) -> None:
        """See that what goes to Temporal is encrypted as the services do, where that is known."""
        if self._client is not None and self._warehouse is None:
            return  # it was not there when Temporal was first reached, and is not waited for again
        warehouse = await self.warehouse_if_any()
        if warehouse is None:
            return
        keys = warehouse.payload_keys
        if self._is_entered and keys.first == self._first and not keys.unentered:
            return
        self._first = keys.first
        await asyncio.to_thread(enter_keys, warehouse)
        self._is_entered = True

    async def answering_client(self) -> Client:
        """The connection to Temporal, which has just answered.

        Where a local engine is at hand, within two seconds.

        Raises: as `client`.
        """
        within = CONNECT_TIMEOUT if self.engine is None else _ANSWERS_WITHIN
        client = await self._connected(within)
        fault = "it says that it is not serving"
        try:
            async with asyncio.timeout(within.total_seconds()):
                if await client.service_client.check_health(timeout=within):
                    return client
        except (sdk.RPCError, TimeoutError) as error:
            fault = str(error) or f"no answer within {within.total_seconds():g} s"
        raise TemporalUnavailableError(f"Temporal does not answer: {fault}")

    async def warehouse(self) -> Warehouse:
        """The warehouse, with its ledger there.

        Raises:
            NoLedgerError: no service has ever prepared it.
            ConfigurationError, CredentialsError, WarehouseUnavailableError: as `Warehouse.check`.
        """
        async with self._opening:
            if self._warehouse is None:
                self._warehouse = await asyncio.to_thread(self._open_warehouse)
            return self._warehouse

    async def current_warehouse(self) -> Warehouse:
        """The warehouse, with its tables as this version has them.

        Raises:
            OldLedgerError: no service of this version has been started yet.
            ETLError: as `warehouse`.
        """
        warehouse = await self.warehouse()
        if not self._is_current:
            missing = await asyncio.to_thread(missing_migrations, warehouse)
            if missing:
                raise OldLedgerError(
                    f"the warehouse's tables in schema {warehouse.schema!r} are of an earlier "
                    f"version ({missing[0]} is missing): a service of this version brings them up "
                    "to date when it starts"
                )
            self._is_current = True
        return warehouse

    async def prepared_warehouse(self) -> Warehouse:
        """The warehouse, its tables created or brought up to date where that is needed.

        Raises:
            ConfigurationError, CredentialsError, WarehouseUnavailableError: as `Warehouse.check`.
        """
        if not self._is_current:
            await asyncio.to_thread(self._migrate)
        return await self.current_warehouse()

    def _migrate(self) -> None:
        with Warehouse(self.warehouse_settings, max_connections=1) as warehouse:
            warehouse.check()
            migrate(warehouse)

    async def warehouse_if_any(self) -> Warehouse | None:
        """The warehouse; None where none is configured, or it does not answer as it should."""
        if not self.has_warehouse:
            return None
        try:
            return await self.warehouse()
        except ETLError:
            return None

    async def stored_connections(self, connection: str | None = None) -> StoredConnections | None:
        """The connections of the warehouse, to be provided to what looks one up.

        None where no warehouse is configured, and for `default`, which is not looked up. Where the
        warehouse cannot be read, the result has none, and says why where one is missed.
        """
        if connection == DEFAULT or not self.has_warehouse:
            return None
        try:
            return await asyncio.to_thread(stored_connections, await self.warehouse())
        except NoLedgerError:
            return None
        except ETLError as error:
            return StoredConnections(fault=str(error))

    async def now(self) -> datetime:
        """The time by the warehouse's clock, or by this machine's where no warehouse answers."""
        if self.has_warehouse:
            try:
                return await asyncio.to_thread(self._warehouse_time)
            except ETLError:
                pass
        return datetime.now(UTC)

    def measure(self) -> None:
        """Bring the metrics of the warehouse's pool up to date, once there is one."""
        if self._warehouse is not None:
            self._warehouse.measure()

    def _open_warehouse(self) -> Warehouse:
        warehouse = Warehouse(self.warehouse_settings, max_connections=self._connections)
        warehouse.check()
        warehouse.open()
        try:
            prepared = has_ledger(warehouse)
        except BaseException:
            warehouse.close()
            raise
        if prepared:
            return warehouse
        warehouse.close()
        raise NoLedgerError(
            f"the warehouse has no tables of the platform in schema {warehouse.schema!r} yet: "
            f"`etl up`, `etl serve` and `etl run SOURCE --engine local --wait` make them; or "
            f"WPE_DB_SCHEMA is wrong"
        )

    def _warehouse_time(self) -> datetime:
        # A warehouse without a ledger has a clock, too.
        with Warehouse(self.warehouse_settings, max_connections=1) as warehouse:
            warehouse.check()
            return warehouse_now(warehouse).astimezone(UTC)


#: Errors by status of gRPC.
_UNAVAILABLE = frozenset(
    {
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "CANCELLED",
        "ABORTED",
        "UNKNOWN",
        "INTERNAL",
        "DATA_LOSS",
    }
)
_REFUSED = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED"})
_CONFLICTS = frozenset({"ALREADY_EXISTS", "FAILED_PRECONDITION"})


@contextmanager
def translated_errors(*, absent: str | None = None) -> Iterator[None]:
    """Translate refusals of Temporal to the platform's errors.

    `absent` is the message where Temporal does not have the requested object.

    Raises:
        NotFoundError, ConflictError, CredentialsError, ConfigurationError,
        TemporalUnavailableError: by the status that Temporal answered.
    """
    try:
        yield
    except sdk.RPCError as error:
        if error.status == sdk.RPCStatusCode.NOT_FOUND and absent is not None:
            raise NotFoundError(absent) from None
        status = error.status.name.replace("_", " ").lower()
        message = f"Temporal answered {status}: {error.message}"
        if error.status.name in _UNAVAILABLE:
            raise TemporalUnavailableError(
                f"{message}; it may be restarting: try again, and check that the server at "
                "TEMPORAL_ADDRESS runs"
            ) from None
        if error.status.name in _REFUSED:
            raise CredentialsError(message) from None
        if error.status.name in _CONFLICTS:
            raise ConflictError(message) from None
        if error.status == sdk.RPCStatusCode.NOT_FOUND:
            raise NotFoundError(message) from None
        raise ConfigurationError(message) from None


async def is_polled(client: Client, queue: str, *, for_segments: bool = False) -> bool:
    """Whether a service polls a task queue; True where Temporal does not say.

    `for_segments` checks a source's own queue, which has no workflows.
    """
    try:
        return bool(await pollers(client, queue, for_activities=for_segments))
    except TemporalUnavailableError:
        return True
