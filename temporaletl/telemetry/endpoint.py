"""The endpoint of a process for Prometheus and for probes: `/metrics`, `/health`, `/ready`.

It is of the process's event loop: that it answers is what `/health` says. The metrics of Temporal's
SDK, which has an exporter of its own, are passed through behind ours.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from importlib.metadata import version
from time import monotonic

from pydantic import Field

from temporaletl.errors import ConfigurationError
from temporaletl.settings.environment import Settings
from temporaletl.telemetry import metrics
from temporaletl.telemetry.instruments import CONTENT_TYPE
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.telemetry.metrics")

#: The processes of one machine share their settings: each takes the next free port.
_PORTS_TRIED = 20
_LAST_PORT = 65_535
_MOST_HEAD_BYTES = 16 * 1024
_REQUEST_WITHIN = timedelta(seconds=5)
#: However often it is asked, readiness is looked at no more often than this.
_READY_EVERY = timedelta(seconds=3)
_READY_WITHIN = timedelta(seconds=4)
_REFRESH_WITHIN = timedelta(seconds=8)
_TEXT = "text/plain; charset=utf-8"

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


class MetricsEndpoint:
    """What one process serves; `refresh` is awaited before its metrics are read."""

    def __init__(
        self,
        service: str,
        ready: Ready,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.service = service
        #: `host:port` of the exporter of Temporal's SDK, once there is one.
        self.sdk: str | None = None
        self.address = ""
        self._ready = ready
        self._refresh = refresh
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
                fault = await self._find_fault()
                if fault is not None:
                    return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"not ready: {fault}\n"
                return HTTPStatus.OK, _TEXT, "ready\n"
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
        host, _, port = self.sdk.rpartition(":")
        try:
            async with asyncio.timeout(_REQUEST_WITHIN.total_seconds()):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    writer.write(f"GET /metrics HTTP/1.0\r\nHost: {self.sdk}\r\n\r\n".encode())
                    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            log.warning("sdk_metrics_not_read", reason=str(error) or type(error).__name__)
            return ""
        return body.decode() if b" 200 " in head.partition(b"\r\n")[0] else ""

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


@asynccontextmanager
async def metrics_served(
    service: str, ready: Ready, refresh: Callable[[], Awaitable[None]] | None = None
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
    endpoint = MetricsEndpoint(service, ready, refresh)
    listening = _listen(settings.host, settings.port)
    host, port = listening.getsockname()[:2]
    endpoint.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    server = await asyncio.start_server(endpoint.handle, sock=listening, limit=_MOST_HEAD_BYTES)
    log.info("metrics_served", service=service, address=endpoint.address)
    try:
        yield endpoint
    finally:
        server.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in range(port, min(port + (_PORTS_TRIED if port else 1), _LAST_PORT + 1)):
        try:
            return socket.create_server((host, number), family=family, backlog=64)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                reason = error.strerror
                break
            reason = f"it and the next {_PORTS_TRIED - 1} ports are in use"
    raise ConfigurationError(
        f"metrics cannot be served at ETL_METRICS_HOST={host}, ETL_METRICS_PORT={port}: {reason}"
    )
