"""Requests of pipelines: whom they may reach, and what an answer may take of us."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpcore2
import pytest

from temporaletl.errors import ETLError, SourceUnavailableError
from temporaletl.worker.pipelines.egress.client import (
    Answer,
    GuardedClient,
    OutgoingRequest,
    OversizedAnswerError,
    RefusedRequestError,
    guarded_client,
)
from temporaletl.worker.pipelines.egress.settings import EgressSettings

_SOON = timedelta(seconds=5)
#: What a hostile name server answers, by name.
_NAMES = {
    "public.test": ["8.8.8.8"],
    "private.test": ["10.0.0.1"],
    "loopback.test": ["127.0.0.1"],
    "mixed.test": ["8.8.8.8", "192.168.1.1"],
    "metadata.test": ["169.254.169.254"],
    "mapped.test": ["::ffff:127.0.0.1"],
}


_resolve = socket.getaddrinfo


class Connected(Exception):  # noqa: N818 - what a test expects
    pass


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are answered from a list, and nothing can connect."""

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        found = _NAMES.get(host)
        if found is None:
            return _resolve(host, port, flags=socket.AI_NUMERICHOST)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    async def connect(*arguments: Any, **_: Any) -> None:
        raise Connected(arguments[1])

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)


async def send(url: str, **settings: Any) -> Answer:
    client = GuardedClient(EgressSettings(**settings))
    return await client.send(OutgoingRequest("GET", url), within=_SOON)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0"),  # noqa: S104
        *("10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.1.1", "192.0.2.1"),
        *("198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "169.254.169.254"),
        *("168.63.129.16", "100.100.100.200", "[::1]", "[::]", "[fc00::1]", "[fe80::1]"),
        *("[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::10.0.0.1]", "[2002:7f00:1::]"),
        *("[64:ff9b::7f00:1]", "[64:ff9b:1::a00:1]", "[2001:0:4136:e378:8000:63bf:f5ff:fffe]"),
        *("[2001:db8::1]", "[fd00:ec2::254]", "[ff02::1]", "[2a00::5efe:7f00:1]"),
        *("private.test", "loopback.test", "mixed.test", "metadata.test", "mapped.test"),
        *("[fec0::1]", "[::ffff:0:127.0.0.1]", "[5f00::1]", "[3fff::1]", "[4000::1]"),
        *("127.0.0.1.", "①②⑦.0.0.1", "[::ffff:7f00:1%25eth0]", "[fe80::1%25lo]"),
    ],
)
async def test_nothing_that_is_not_public_is_connected_to(host: str) -> None:
    with pytest.raises(ETLError) as caught:
        await send(f"http://{host}/")
    assert not isinstance(caught.value, SourceUnavailableError) or "resolved" in str(caught.value)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "gopher://public.test/", "ftp://public.test/", "//public.test/"),
        *("http://me:secret@public.test/", "http://public.test:22/", "http:///x", "public.test"),
        *("http://public.test\\@127.0.0.1/", "http://public.test#@127.0.0.1:22/x", "http://[::1"),
    ],
)
async def test_an_address_that_is_not_plain_is_refused(url: str) -> None:
    with pytest.raises((RefusedRequestError, Connected)) as caught:
        await send(url)
    assert "secret" not in str(caught.value)
    if isinstance(caught.value, Connected):
        assert caught.value.args == ("8.8.8.8",)  # of the fragment, nothing is asked


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("host", "settings", "reached"),
    [
        ("public.test", {}, True),
        ("public.test", {"PIPELINE_ALLOWED_HOSTS": "other.test, *.public.test"}, False),
        ("public.test", {"PIPELINE_ALLOWED_HOSTS": "*.test"}, True),
        ("private.test", {"PIPELINE_ALLOWED_NETWORKS": "10.0.0.0/8"}, True),
        ("mapped.test", {"PIPELINE_ALLOWED_NETWORKS": "10.0.0.0/8"}, False),
        ("metadata.test", {"PIPELINE_ALLOWED_NETWORKS": "0.0.0.0/0,::/0"}, False),
        ("[::ffff:169.254.169.254]", {"PIPELINE_ALLOWED_NETWORKS": "0.0.0.0/0,::/0"}, False),
    ],
)
async def test_lists_allow_names_and_private_networks_but_never_metadata(
    host: str, settings: dict[str, str], reached: bool
) -> None:
    with pytest.raises(Connected if reached else RefusedRequestError):
        await send(f"http://{host}/", **settings)


async def test_a_name_that_is_resolved_anew_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: Iterator[str] = iter(["8.8.8.8", "127.0.0.1"])
    connected: list[str] = []

    def resolve(_: str, port: int, *__: Any, **___: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    async def connect(_: object, host: str, *__: Any, **___: Any) -> None:
        connected.append(host)
        raise Connected

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    with pytest.raises(Connected):
        await send("http://rebinding.test/")
    assert connected == ["8.8.8.8"]


@asynccontextmanager
async def answering(*parts: bytes, seconds_between: float = 0) -> AsyncIterator[int]:
    """A server of this machine that answers each request with these bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(seconds_between)
        except ConnectionError:
            pass
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def settings_for(port: int) -> EgressSettings:
    return EgressSettings(
        PIPELINE_ALLOWED_NETWORKS="127.0.0.0/8",
        PIPELINE_ALLOWED_PORTS=f"{port}",
        PIPELINE_RESPONSE_MB="1",
    )


async def sent_to(port: int, *, within: timedelta = _SOON) -> Answer:
    request = OutgoingRequest("GET", f"http://127.0.0.1:{port}/", query={"a": "b c"})
    return await GuardedClient(settings_for(port)).send(request, within=within)


async def read_by_a_library(port: int, *, within: timedelta = _SOON) -> bytes:
    """Read an answer as a library would that was given the bare client."""
    body = b""
    async with (
        guarded_client(settings_for(port), within=within) as client,
        # What it asks for is not for it to say.
        client.stream("GET", f"http://127.0.0.1:{port}/", headers={"Accept-Encoding": "br"}) as got,
    ):
        async for part in got.aiter_bytes():
            body += part
    return body


_OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


async def test_an_answer_is_read_in_full_and_decoded() -> None:
    body = gzip.compress(b'{"a": 1}')
    packed = _OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with answering(packed, body[:5], body[5:]) as port:
        answer = await sent_to(port)
        assert await read_by_a_library(port) == answer.body
    assert (answer.status, answer.body) == (200, b'{"a": 1}')


async def test_an_answer_of_several_members_is_decoded_to_its_end() -> None:
    body = gzip.compress(b"[1, ") + gzip.compress(b"2]")
    packed = _OK + b"Content-Encoding: gzip\r\n\r\n"
    async with answering(packed, body[:30], body[30:], b"x" * 9, gzip.compress(b"3")) as port:
        assert (await sent_to(port)).body == b"[1, 2]"


async def test_an_answer_to_head_has_no_body_whatever_its_headers_say() -> None:
    async with answering(_OK + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n") as port:
        request = OutgoingRequest("HEAD", f"http://127.0.0.1:{port}/")
        answer = await GuardedClient(settings_for(port)).send(request, within=_SOON)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("parts", "error", "told"),
    [
        ((_OK + b"\r\n", *[b"x" * 100_000] * 11), OversizedAnswerError, "PIPELINE_RESPONSE_MB"),
        (
            (_OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"\0" * 200_000_000)),
            OversizedAnswerError,
            "PIPELINE_RESPONSE_MB",
        ),
        (
            (_OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b""), *[b"x" * 100_000] * 11),
            OversizedAnswerError,
            "PIPELINE_RESPONSE_MB",
        ),
        (
            (_OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"x" * 100)[:-3]),
            SourceUnavailableError,
            "ends early",
        ),
        ((_OK + b"Content-Encoding: gzip\r\n\r\n", b"none"), SourceUnavailableError, "no gzip"),
        ((_OK + b"Content-Encoding: br\r\n\r\n", b"x"), SourceUnavailableError, "not asked for"),
        ((_OK + b"Content-Length: 9\r\n\r\n", b"x"), SourceUnavailableError, "127.0.0.1: "),
        ((b"SSH-2.0-x\r\n",), SourceUnavailableError, "127.0.0.1: "),
    ],
    ids=["large", "bomb", "behind-gzip", "cut", "not-gzip", "brotli", "short", "no-http"],
)
async def test_an_answer_that_takes_too_much_or_breaks_off_is_an_error(
    parts: tuple[bytes, ...], error: type[ETLError], told: str
) -> None:
    async with answering(*parts) as port:
        for read in (sent_to, read_by_a_library):
            with pytest.raises(error, match=told):
                await read(port)


async def test_an_answer_that_drips_ends_with_the_time_for_the_whole() -> None:
    drops = [b"x"] * 1_000
    async with answering(_OK + b"\r\n", *drops, seconds_between=0.05) as port:
        for read in (sent_to, read_by_a_library):
            with pytest.raises(SourceUnavailableError, match=r"no whole answer within 0\.3 s"):
                await read(port, within=timedelta(seconds=0.3))


async def test_a_redirect_is_an_answer() -> None:
    there = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:22/\r\nConnection: close\r\n\r\n"
    async with answering(there) as port:
        assert (await sent_to(port)).status == 302


async def test_a_header_that_goes_over_its_line_is_refused_and_secrets_are_not_shown() -> None:
    request = OutgoingRequest("GET", "http://8.8.8.8/", headers={"X": "a\r\nY: secret"})
    assert "secret" not in repr(request)
    with pytest.raises(RefusedRequestError, match="goes over its line"):
        await GuardedClient(EgressSettings()).send(request, within=_SOON)
