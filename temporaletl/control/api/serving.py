"""The server of the HTTP API: listens until it is told to end."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta

import uvicorn
from fastapi import FastAPI

from temporaletl.control.api.app import Front, create_app
from temporaletl.control.api.context import Context
from temporaletl.control.api.settings import ApiSettings
from temporaletl.control.api.transport import MOST_HEAD, BoundedProtocol
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.tokens import has_tokens
from temporaletl.errors import ConfigurationError
from temporaletl.notifications.destinations import check_destinations
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.settings import TemporalSettings, WarehouseSettings, is_loopback
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate

#: Connections to the warehouse: one for each request that reads at once.
_WAREHOUSE_CONNECTIONS = 8
#: How long an answer that is under way may take once the server is told to end.
_GRACE = timedelta(seconds=2)


def serve(
    settings: ApiSettings, report: Callable[[str], None], *, fronts: Sequence[Front] = ()
) -> None:
    """Serve until SIGTERM or SIGINT; `report` gets the address once it listens.

    The warehouse is brought up to date first.

    Raises:
        ConfigurationError: the address cannot be listened at; or it is one that others reach, and
            there is no token by which to tell who they are; or a destination of notifications is
            none.
        ETLError: as `Platform.warehouse`.
    """
    warehouse, notification = WarehouseSettings.load(), NotificationSettings.load()
    check_destinations(notification)
    _prepare(warehouse)
    asyncio.run(_check_reach(settings, warehouse))
    platform = Platform(
        TemporalSettings.load(), warehouse, warehouse_connections=_WAREHOUSE_CONNECTIONS
    )
    listening = listen(settings)
    host, port = listening.getsockname()[:2]
    server = make_server(create_app(platform, settings, notification, fronts=fronts), settings)
    report(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    server.run(sockets=[listening])


class Server(uvicorn.Server):
    """Ends the streams before it waits for the connections: of themselves, they never would."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._context.streams.close()
        await super().shutdown(sockets)


def make_server(app: FastAPI, settings: ApiSettings) -> Server:
    """The server of an application, whatever sockets it is to listen at."""

    class Protocol(BoundedProtocol):
        head_within = timedelta(seconds=settings.request_seconds)

    return Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            h11_max_incomplete_event_size=MOST_HEAD,
            log_config=None,
            access_log=False,
            server_header=False,
            # An open stream would keep it from ending for ever.
            timeout_graceful_shutdown=int(_GRACE.total_seconds()),
        ),
        app.state.context,
    )


def _prepare(settings: WarehouseSettings) -> None:
    with Warehouse(settings, max_connections=1) as warehouse:
        warehouse.check()
        migrate(warehouse)


async def _check_reach(settings: ApiSettings, warehouse: WarehouseSettings) -> None:
    """Check that an address that others reach is guarded by a token."""
    async with Platform(TemporalSettings.load(), warehouse) as platform:
        guarded = is_loopback(settings.host) or await has_tokens(platform)
    if not guarded:
        raise ConfigurationError(
            f"ETL_API_HOST={settings.host} is an address that others reach: create a token first "
            "(`etl token create NAME --scope operate`)"
        )


def listen(settings: ApiSettings) -> socket.socket:
    """Listen at the address of the settings.

    Raises:
        ConfigurationError: it cannot be listened at.
    """
    try:
        return socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
            backlog=512,
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen at {settings.host}, port {settings.port}: {error.strerror}"
        ) from None
