"""TLS in front of the tests' Temporal: a certificate, clients' certificates, API keys."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hpack import Decoder

from tests.certificates import Authority, Signed

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET = 0, 1, 3
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 1, 4, 8, 32
_CANCEL = (8).to_bytes(4, "big")


def _literal(name: bytes, value: bytes) -> bytes:
    """A header that leaves both sides' tables as they are."""
    return b"".join([b"\x10", bytes([len(name)]), name, bytes([len(value)]), value])


#: 200, of gRPC, and its status UNAUTHENTICATED.
_REFUSAL = (
    b"\x88"
    + _literal(b"content-type", b"application/grpc")
    + _literal(b"grpc-status", b"16")
    + _literal(b"grpc-message", b"no")
)


class TlsEndpoint:
    """Terminates TLS before a Temporal that speaks none.

    With `keys`, a call that carries none of them as its bearer token is refused, as a gateway does
    it, and counted; they may be changed at any time.
    """

    def __init__(
        self, target: str, server: Signed, *, clients: Authority | None, keys: set[str] | None
    ) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(server.certificate, server.key)
        self._context.set_alpn_protocols(["h2"])
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(clients.certificate)
        self.keys = keys
        self.refused = 0
        self.accepted: dict[str, int] = {}
        #: The keys that open connections sent last.
        self.sent: dict[object, str] = {}
        self.address = ""

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(self._host, self._port)
        connection = _Connection(self, writer, inner_writer)
        inward, outward = (
            asyncio.create_task(connection.inward(reader)),
            asyncio.create_task(connection.outward(inner_reader)),
        )
        try:
            await asyncio.wait({inward, outward}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (inward, outward):
                task.cancel()
            await asyncio.gather(inward, outward, return_exceptions=True)
            self.sent.pop(connection, None)
            for each in (writer, inner_writer):
                each.transport.abort()

    def admits(self, connection: object, header: bytes) -> bool:
        """Whether a call with this authorization may pass; counts both."""
        if self.keys is None:
            return True
        key = self.sent[connection] = header.decode().removeprefix("Bearer ")
        if key not in self.keys:
            self.refused += 1
            return False
        self.accepted[key] = self.accepted.get(key, 0) + 1
        return True


class _Connection:
    def __init__(
        self, endpoint: TlsEndpoint, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        self._endpoint, self._client, self._server = endpoint, client, server
        self._decoder = Decoder()
        self._refused: set[int] = set()

    async def inward(self, reader: asyncio.StreamReader) -> None:
        self._server.write(await reader.readexactly(len(_PREFACE)))
        async for kind, flags, stream, payload in _frames(reader):
            if stream in self._refused and kind == _DATA:
                continue
            self._server.write(_frame(kind, flags, stream, payload))
            if kind == _HEADERS:
                assert flags & _END_HEADERS, "no header of a test is so long"
                headers = dict(self._decoder.decode(_block(flags, payload), raw=True))
                if not self._endpoint.admits(self, bytes(headers.get(b"authorization", b""))):
                    # Its headers had to pass, for the tables of both sides; its call does not.
                    self._refused.add(stream)
                    self._server.write(_frame(_RESET, 0, stream, _CANCEL))
                    ending = _END_STREAM | _END_HEADERS
                    self._client.write(_frame(_HEADERS, ending, stream, _REFUSAL))
            await self._server.drain()

    async def outward(self, reader: asyncio.StreamReader) -> None:
        async for kind, flags, stream, payload in _frames(reader):
            if stream not in self._refused:
                self._client.write(_frame(kind, flags, stream, payload))
                await self._client.drain()


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, int, int, bytes]]:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            yield head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, payload


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return b"".join(
        [len(payload).to_bytes(3, "big"), bytes([kind, flags]), stream.to_bytes(4, "big"), payload]
    )


def _block(flags: int, payload: bytes) -> bytes:
    if flags & _PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if flags & _PRIORITY else payload


@asynccontextmanager
async def terminating(
    target: str, server: Signed, *, clients: Authority | None = None, keys: set[str] | None = None
) -> AsyncIterator[TlsEndpoint]:
    """Serve until the block ends."""
    endpoint = TlsEndpoint(target, server, clients=clients, keys=keys)
    listening = await endpoint.serve()
    try:
        yield endpoint
    finally:
        listening.close()
