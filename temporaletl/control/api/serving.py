"""The server of the HTTP API: listens until it is told to end."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from types import FrameType

import uvicorn
from fastapi import FastAPI

from temporaletl.control.api.app import Front, create_app
from temporaletl.control.api.context import Context
from temporaletl.control.api.settings import ApiSettings
from temporaletl.control.api.transport import MOST_HEAD, BoundedProtocol
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.tokens import has_tokens
from temporaletl.embedded.processes import Watchdog
from temporaletl.embedded.services import Service, Supervised, both_services
from temporaletl.errors import ConfigurationError
from temporaletl.notifications.destinations import check_destinations
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.settings.addresses import is_loopback
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.warehouse.payload_keys import enter_keys

#: Connections to the warehouse: one for each request that reads at once.
_WAREHOUSE_CONNECTIONS = 8
#: Ports that are tried, from the one that is wanted on.
_PORTS_TRIED = 100
_LAST_PORT = 65_535
#: How long an answer that is under way may take once the server is told to end.
_GRACE = timedelta(seconds=2)


def serve(
    settings: ApiSettings,
    report: Callable[[str], None],
    *,
    fronts: Sequence[Front] = (),
    next_port: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT; `report` gets a line with the address once it listens.

    The warehouse is brought up to date first. Others than this machine are refused until there is
    a token. With START_TEMPORAL_WORKER, the services run beside it: they are started again when
    they die, and end after it, with the page that they are at. `next_port` takes the next free
    port where the one of the settings is in use.

    Raises:
        ConfigurationError: the address cannot be listened at; or a destination of notifications is
            none; or a payload key that is in use is missing.
        ETLError: as `Platform.warehouse`.
    """
    warehouse, notification = WarehouseSettings.load(), NotificationSettings.load()
    check_destinations(notification)
    _prepare(warehouse)
    temporal = TemporalSettings.load()
    platform = Platform(temporal, warehouse, warehouse_connections=_WAREHOUSE_CONNECTIONS)
    # Without Temporal, the local engine does what they do.
    services = _services(report) if settings.start_services and temporal.enabled else None
    listening = listen(settings, tries=_PORTS_TRIED if next_port else 1)
    host, port = listening.getsockname()[:2]
    app = create_app(platform, settings, notification, fronts=fronts)
    if services is not None:
        app.state.context.services = services.states
    server = make_server(app, settings)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    report(f"The dashboard and the HTTP API are at {address}")
    if not is_loopback(settings.host) and not asyncio.run(_has_tokens(temporal, warehouse)):
        report(
            "Others than this machine are refused until there is a token: "
            "`etl token create NAME --scope operate`"
        )
    if services is None:
        with _stopping(server, signal.SIGTERM):
            server.run(sockets=[listening])
        return
    with _stopping(server, signal.SIGINT, signal.SIGTERM), services:
        server.run(sockets=[listening])
        # It answers no more; nobody waits for a page to be loaded but this process.
        report("Ending: the queuer and the worker finish the page that they are at ...")


@contextlib.contextmanager
def _stopping(server: uvicorn.Server, *signals: signal.Signals) -> Iterator[None]:
    """Have signals stop the server alone, which raises them again when it ends."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _services(report: Callable[[str], None]) -> Supervised:
    """The queuer and a worker as child processes."""

    def processes(watchdog: Watchdog) -> Sequence[Service]:
        return both_services(watchdog=watchdog, environment=os.environ)

    return Supervised(processes, report=report)


class Server(uvicorn.Server):
    """Ends the streams before it waits for the connections: of themselves, they never would."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._context.streams.close()
        if self._context.platform.engine is not None:
            self._context.platform.engine.leave()
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
        enter_keys(warehouse)


async def _has_tokens(temporal: TemporalSettings, warehouse: WarehouseSettings) -> bool:
    async with Platform(temporal, warehouse) as platform:
        return await has_tokens(platform)


def listen(settings: ApiSettings, *, tries: int = 1) -> socket.socket:
    """Listen at the address of the settings, or at the next free one of `tries` ports.

    Raises:
        ConfigurationError: it cannot be listened at.
    """
    port, last = settings.port, min(settings.port + tries - 1, _LAST_PORT)
    while True:
        try:
            return socket.create_server(
                (settings.host, port),
                family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
                backlog=512,
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port >= last:
                raise ConfigurationError(
                    f"cannot listen at {settings.host}, port {port}: {error.strerror}"
                ) from None
            port += 1
