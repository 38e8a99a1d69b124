"""Guarded HTTP client: the only one that nodes of pipelines send requests with.

Each address that a host has is judged before anything connects, and a judged address is what is
connected to, so that a name that is resolved anew changes nothing. Redirects are not followed;
answers are bounded by their decoded size and by the whole time that they take, whoever reads them.
"""

import asyncio
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from ipaddress import ip_address
from typing import Any, Self

import httpcore2
import httpx2

from temporaletl.errors import PermanentError, SourceUnavailableError
from temporaletl.worker.pipelines.egress.addresses import Address, refusal
from temporaletl.worker.pipelines.egress.settings import EgressSettings

_MEGABYTE = 1_000_000
#: An answer is inflated by so much at once, whatever it would expand to.
_STEP = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
#: The first bytes of each member of an answer in gzip.
_MEMBER = b"\x1f\x8b"
#: Names of headers, and their values: a whole line of visible ASCII.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class RefusedRequestError(PermanentError):
    """A request that may not be sent: its host, port or address is not allowed."""


class OversizedAnswerError(PermanentError):
    """An answer larger than PIPELINE_RESPONSE_MB allows."""


class UnreachedHostError(SourceUnavailableError):
    """Nothing of a request was sent: its host did not let anybody connect."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request; `headers` may hold secrets, which its representation does not show."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str | list[str]] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read in full and decoded."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class GuardedClient:
    """Sends requests to those whom the settings allow.

    client = GuardedClient(EgressSettings.load())
    answer = await client.send(OutgoingRequest("GET", url), within=timedelta(seconds=30))
    """

    def __init__(self, settings: EgressSettings) -> None:
        self._settings = settings

    async def send(self, request: OutgoingRequest, *, within: timedelta) -> Answer:
        """Send a request; returns the answer, whatever its status.

        Raises:
            RefusedRequestError: it may not be sent.
            OversizedAnswerError: the answer is larger than it may be.
            SourceUnavailableError: no whole answer came in time.
        """
        url = self.check(request)
        async with guarded_client(self._settings, within=within) as client:
            response = await client.request(
                request.method, url, headers=request.headers, content=request.body
            )
        return Answer(response.status_code, dict(response.headers), response.content)

    def check(self, request: OutgoingRequest) -> httpx2.URL:
        """Check what can be checked of a request without resolving its host; returns its address.

        Raises:
            RefusedRequestError: it may not be sent.
        """
        try:
            url = httpx2.URL(request.url).copy_merge_params(dict(request.query))
        except httpx2.InvalidURL as error:
            raise RefusedRequestError(f"not an address: {error}") from None
        check_url(url, self._settings)
        for name, value in request.headers.items():
            if not _HEADER.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                msg = f"the header {name!r} goes over its line, or has more than visible ASCII"
                raise RefusedRequestError(msg)
        return url


def next_address(address: str, link: str) -> str:
    """The address that a link in an answer of `address` leads to, on the same host.

    Raises:
        RefusedRequestError: it leads to another host, port or scheme, which headers are not for.
    """
    try:
        here = httpx2.URL(address)
        there = here.join(link)
    except httpx2.InvalidURL as error:
        raise RefusedRequestError(f"the next page has no address: {error}") from None
    if (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port):
        raise RefusedRequestError(
            f"the next page is at {there.scheme}://{there.netloc.decode('ascii', 'replace')}, "
            f"not at {here.host}"
        )
    return str(there)


def guarded_client(settings: EgressSettings, *, within: timedelta) -> httpx2.AsyncClient:
    """A client of httpx whose connections are guarded, for libraries that take one.

    Whoever reads an answer gets no more than PIPELINE_RESPONSE_MB of it, decoded, and nothing
    later than `within` after its request began. Requests raise the errors of `GuardedClient.send`.
    """
    return httpx2.AsyncClient(
        transport=_GuardedTransport(settings, within),
        trust_env=False,
        follow_redirects=False,
        timeout=None,
    )


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities that are trusted; to read them takes a tenth of a second."""
    return httpx2.create_ssl_context(trust_env=False)


def check_url(url: httpx2.URL, settings: EgressSettings) -> None:
    """Check what can be checked of an address before its host is resolved.

    Raises:
        RefusedRequestError: it is not allowed.
    """
    port = url.port or _DEFAULT_PORTS.get(url.scheme)
    if url.scheme not in _DEFAULT_PORTS or not url.host:
        raise RefusedRequestError(f"{url.scheme or 'no scheme'}: requests go to http or https")
    if url.userinfo:
        raise RefusedRequestError(f"{url.host}: an address has no user; use a header")
    if port not in settings.ports:
        raise RefusedRequestError(f"{url.host}: port {port} is not in PIPELINE_ALLOWED_PORTS")
    if not settings.allows(url.host):
        raise RefusedRequestError(f"{url.host} is not in PIPELINE_ALLOWED_HOSTS")
    try:
        address = ip_address(url.host)
    except ValueError:
        return
    _check_address(address, url.host, settings)


def _check_address(address: Address, host: str, settings: EgressSettings) -> None:
    why = refusal(address, settings.networks)
    if why is not None:
        raise RefusedRequestError(why if str(address) == host else f"{host}: {why}")


class _GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends requests to those whom the settings allow; their answers are bounded."""

    def __init__(self, settings: EgressSettings, within: timedelta) -> None:
        given = settings.renewed().proxy
        proxy = None if given is None else given.get_secret_value()
        # A connection of its own for each request: each is judged, and a request that changes
        # something meets none that the other side has just closed.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._inner = httpx2.AsyncHTTPTransport(
            verify=_trusted(), trust_env=False, proxy=proxy, limits=limits
        )
        if proxy is None:
            # Below redirects, pools and retries: nothing passes it by.
            self._inner._pool._network_backend = _GuardedBackend(settings)  # noqa: SLF001
        self._settings = settings
        self._within = within

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        check_url(request.url, self._settings)
        # What expands within one step, as other encodings do, could not be bounded.
        request.headers["Accept-Encoding"] = "gzip"
        bounds = _Bounds.of(request.url.host, self._settings, self._within)
        async with bounds.kept():
            response = await self._inner.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)  # noqa: S101 - of its transport
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", ""):
            await stream.aclose()
            msg = f"{bounds.host}: its answer is encoded as {encoding}, which was not asked for"
            raise SourceUnavailableError(msg)
        headers = response.headers
        if encoding == "gzip":
            # It is decoded here; those who read it shall not try again.
            headers = headers.copy()
            del headers["Content-Encoding"]
            headers.pop("Content-Length", None)
        return httpx2.Response(
            response.status_code,
            headers=headers,
            stream=_BoundedStream(stream, bounds, packed=encoding == "gzip"),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What an answer may take: bytes, and time until a deadline of the running loop."""

    host: str
    bytes: int
    within: timedelta
    deadline: float

    @classmethod
    def of(cls, host: str, settings: EgressSettings, within: timedelta) -> Self:
        most = round(settings.response_megabytes * _MEGABYTE)
        deadline = asyncio.get_running_loop().time() + within.total_seconds()
        return cls(host, most, within, deadline)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the deadline in a block of the client's own; its errors are ours afterwards."""
        try:
            async with asyncio.timeout_at(self.deadline):
                yield
        except TimeoutError:
            msg = f"{self.host}: no whole answer within {self.within.total_seconds():g} s"
            raise SourceUnavailableError(msg) from None
        except (httpx2.TransportError, ssl.SSLError) as error:
            unreached = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            kind = UnreachedHostError if unreached else SourceUnavailableError
            raise kind(f"{self.host}: {type(error).__name__}: {error}") from None

    def check(self, size: int) -> None:
        if size > self.bytes:
            msg = f"{self.host}: its answer is larger than PIPELINE_RESPONSE_MB allows"
            raise OversizedAnswerError(msg)


class _BoundedStream(httpx2.AsyncByteStream):
    """The decoded body of an answer, within its bounds."""

    def __init__(self, inner: httpx2.AsyncByteStream, bounds: _Bounds, *, packed: bool) -> None:
        self._inner = inner
        self._bounds = bounds
        self._packed = packed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decoded, size = _inflated if self._packed else _as_it_is, 0
        parts = decoded(self._received())
        while True:
            async with self._bounds.kept():
                part = await anext(parts, None)
            if part is None:
                return
            size += len(part)
            self._bounds.check(size)
            yield part

    async def _received(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._inner:
            # What is behind the end of a compressed answer is never decoded.
            size += len(part)
            self._bounds.check(size)
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that were judged, never to names."""

    def __init__(self, settings: EgressSettings) -> None:
        self._settings = settings
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        for address in addresses:
            _check_address(address, host, self._settings)
        failed: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(
        self,
        *_: object,
        **__: object,
    ) -> httpcore2.AsyncNetworkStream:
        raise RefusedRequestError("requests of pipelines go to no socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)

    @staticmethod
    async def _resolve(host: str, port: int) -> list[Address]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from None
        # The scope of a link-local address is no part of it.
        texts = dict.fromkeys(str(one[4][0]).partition("%")[0] for one in found)
        return [ip_address(text) for text in texts]


async def _as_it_is(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for part in parts:
        yield part


async def _inflated(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    inflate, begun, ended = zlib.decompressobj(_GZIP), False, False
    try:
        async for part in parts:
            rest, begun = part, True
            while rest and not ended:
                if inflate.eof:
                    # Another member: several make one answer. What is none is not of it.
                    if ended := not rest.startswith(_MEMBER[: len(rest)]):
                        break
                    inflate = zlib.decompressobj(_GZIP)
                yield inflate.decompress(rest, _STEP)
                rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    except zlib.error as error:
        raise SourceUnavailableError(f"an answer that is no gzip: {error}") from None
    # An answer to HEAD has the header, and no body.
    if begun and not inflate.eof:
        raise SourceUnavailableError("a compressed answer that ends early")
