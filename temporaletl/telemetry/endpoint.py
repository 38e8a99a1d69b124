"""The endpoint of a process for Prometheus and for probes: `/metrics`, `/health`, `/ready`.

A probe asks one process of a group: its `/ready` is the whole group's. The endpoint is of the
process's event loop: that it answers is what `/health` says. The metrics of Temporal's SDK, which
has an exporter of its own, are passed through behind ours.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from importlib.metadata import version
from time import monotonic
from typing import Protocol

from pydantic import Field

from temporaletl.errors import ConfigurationError
from temporaletl.settings.environment import Settings
from temporaletl.telemetry import metrics
from temporaletl.telemetry.instruments import CONTENT_TYPE
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.telemetry.metrics")

#: The processes of one machine share their settings: each takes the next free port. A group tries
#: one more for each of its processes.
_PORTS_TRIED = 20
#: Where this machine reaches what listens everywhere.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened at
_LAST_PORT = 65_535
_MOST_HEAD_BYTES = 16 * 1024
_REQUEST_WITHIN = timedelta(seconds=5)
#: However often it is asked, readiness is looked at no more often than this.
_READY_EVERY = timedelta(seconds=3)
_READY_WITHIN = timedelta(seconds=4)
_REFRESH_WITHIN = timedelta(seconds=8)
_TEXT = "text/plain; charset=utf-8"
_NOT_READY = "not ready: "

#: Why a process is not ready; None where it is. It may raise, which is why as well.
Ready = Callable[[], Awaitable[str | None]]


class MetricsSettings(Settings):
    """Where each process serves its metrics and its health."""

    host: str = Field(
        "127.0.0.1",
        validation_alias="ETL_METRICS_HOST",
        description="where metrics are served: to whoever reaches it, without a token",
    )
    port: int | None = Field(
        None,
        ge=0,
        le=_LAST_PORT,
        validation_alias="ETL_METRICS_PORT",
        description="port of metrics and health, or the next free one; unset, they are not served",
    )


class Group(Protocol):
    """The processes of one service, of which this is one; `names` are all of theirs."""

    @property
    def names(self) -> Sequence[str]: ...

    def serves_at(self, port: int) -> None:
        """Say at which port this process can be asked."""

    def others(self) -> Mapping[str, int]:
        """The ports of the other processes; 0 for one that serves none."""


class MetricsEndpoint:
    """What one process serves; `refresh` is awaited before its metrics are read.

    `group`: of which the process is one.
    """

    def __init__(
        self,
        service: str,
        ready: Ready,
        refresh: Callable[[], Awaitable[None]] | None = None,
        group: Group | None = None,
    ) -> None:
        self.service = service
        #: `host:port` of the exporter of Temporal's SDK, once there is one.
        self.sdk: str | None = None
        self.address = ""
        self._ready = ready
        self._refresh = refresh
        self._group = group
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._fault: str | None = None

    async def answer(self, path: str) -> tuple[HTTPStatus, str, str]:
        """The status, content type and body for a path."""
        match path.partition("?")[0]:
            case "/metrics":
                return HTTPStatus.OK, CONTENT_TYPE, await self._exposition()
            case "/health":
                return HTTPStatus.OK, _TEXT, "alive\n"
            case "/ready":
                return _readiness(await self._find_fault_of_all())
            case "/ready/process":
                return _readiness(await self._find_fault())
            case _:
                return HTTPStatus.NOT_FOUND, _TEXT, "/metrics, /health or /ready\n"

    async def _exposition(self) -> str:
        if self._refresh is not None:
            try:
                async with asyncio.timeout(_REFRESH_WITHIN.total_seconds()):
                    await self._refresh()
            except Exception as error:  # noqa: BLE001 - the other metrics are good
                log.warning("metrics_not_refreshed", reason=str(error) or type(error).__name__)
        return metrics.registry.exposition() + await self._of_sdk()

    async def _of_sdk(self) -> str:
        if self.sdk is None:
            return ""
        try:
            status, body = await _get(self.sdk, "/metrics")
        except (OSError, TimeoutError) as error:
            log.warning("sdk_metrics_not_read", reason=str(error) or type(error).__name__)
            return ""
        return body if status == HTTPStatus.OK else ""

    async def _find_fault_of_all(self) -> str | None:
        others = self._group.others() if self._group is not None else {}
        faults = await asyncio.gather(
            self._find_fault(), *(self._ask(name, port) for name, port in others.items())
        )
        return next((fault for fault in faults if fault is not None), None)

    async def _ask(self, name: str, port: int) -> str | None:
        """Why another process of the group is not ready; None where it is."""
        if not port:
            return f"{name} does not run yet"
        host = self.address.rpartition(":")[0]
        try:
            status, body = await _get(f"{host}:{port}", "/ready/process")
        except (OSError, TimeoutError):
            return f"{name} does not answer"
        return (
            None if status == HTTPStatus.OK else f"{name}: {body.strip().removeprefix(_NOT_READY)}"
        )

    async def _find_fault(self) -> str | None:
        async with self._looking:
            if monotonic() - self._looked_at >= _READY_EVERY.total_seconds():
                try:
                    async with asyncio.timeout(_READY_WITHIN.total_seconds()):
                        self._fault = await self._ready()
                except TimeoutError:
                    self._fault = f"no answer within {_READY_WITHIN.total_seconds():g} s"
                except Exception as error:  # noqa: BLE001 - whatever it is, it is not ready
                    self._fault = str(error) or type(error).__name__
                self._looked_at = monotonic()
            return self._fault

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                async with asyncio.timeout(_REQUEST_WITHIN.total_seconds()):
                    head = await reader.readuntil(b"\r\n\r\n")
                method, _, rest = head.decode("latin-1").partition(" ")
                if method in ("GET", "HEAD"):
                    status, kind, text = await self.answer(rest.partition(" ")[0])
                else:
                    status, kind, text = HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, "GET or HEAD\n"
                body = text.encode()
                writer.write(
                    f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                )
                writer.write(b"" if method == "HEAD" else body)
                async with asyncio.timeout(_REQUEST_WITHIN.total_seconds()):
                    await writer.drain()
            except TimeoutError:
                return  # whoever sends or reads so slowly gets nothing
            finally:
                writer.close()


def _readiness(fault: str | None) -> tuple[HTTPStatus, str, str]:
    if fault is not None:
        return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"{_NOT_READY}{fault}\n"
    return HTTPStatus.OK, _TEXT, "ready\n"


async def _get(address: str, path: str) -> tuple[int, str]:
    """The status and the body that a server of this machine, at `host:port`, has for a path."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    async with asyncio.timeout(_REQUEST_WITHIN.total_seconds()):
        reader, writer = await asyncio.open_connection(_LOOPBACK.get(host, host), int(port))
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
            head, _, body = (await reader.read(-1)).decode().partition("\r\n\r\n")
        finally:
            writer.close()
    status = head.partition(" ")[2][:3]
    return int(status) if status.isdecimal() else 0, body


@asynccontextmanager
async def metrics_served(
    service: str,
    ready: Ready,
    refresh: Callable[[], Awaitable[None]] | None = None,
    group: Group | None = None,
) -> AsyncIterator[MetricsEndpoint | None]:
    """Inside the block, serve this process's metrics and health where ETL_METRICS_PORT says so.

    None where it is not set.

    Raises:
        ConfigurationError: a setting is wrong, or the address cannot be listened at.
    """
    settings = MetricsSettings.load()
    metrics.begin(service, version("temporaletl"))
    if settings.port is None:
        yield None
        return
    endpoint = MetricsEndpoint(service, ready, refresh, group)
    tried = _PORTS_TRIED + (len(group.names) if group is not None else 0)
    listening = _listen(settings.host, settings.port, tried if settings.port else 1)
    host, port = listening.getsockname()[:2]
    endpoint.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    server = await asyncio.start_server(endpoint.handle, sock=listening, limit=_MOST_HEAD_BYTES)
    if group is not None:
        group.serves_at(port)
    log.info("metrics_served", service=service, address=endpoint.address)
    try:
        yield endpoint
    finally:
        server.close()


def _listen(host: str, port: int, tried: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in range(port, min(port + tried, _LAST_PORT + 1)):
        try:
            return socket.create_server((host, number), family=family, backlog=64)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                reason = error.strerror
                break
            reason = f"it and the next {tried - 1} ports are in use"
    raise ConfigurationError(
        f"metrics cannot be served at ETL_METRICS_HOST={host}, ETL_METRICS_PORT={port}: {reason}"
    )
