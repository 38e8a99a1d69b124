"""Requests that are too large, too slow or no requests: told what is wrong, and ended."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio

from temporaletl.control.api import transport
from temporaletl.control.operations.platform import Platform
from temporaletl.settings.platform import TemporalSettings
from tests.integration.api.in_process import Served, schema_of, serving, warehouse_settings

SYNC = "/api/v1/sync/full"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bounded(postgres_url: str) -> AsyncIterator[Served]:
    """An application without a Temporal, that is impatient."""
    nowhere = TemporalSettings.model_validate({"address": "127.0.0.1:9"})
    async with schema_of(postgres_url) as warehouse:
        platform = Platform(nowhere, warehouse_settings(postgres_url, warehouse.schema))
        async with serving(platform, request_seconds=0.5) as one:
            yield one


async def sent(served: Served, *parts: bytes, pause: float = 0.0) -> tuple[int, dict[str, Any]]:
    """What is answered to bytes that are sent as they are, with pauses between them."""
    async with asyncio.timeout(120):
        while True:
            # Who still sends when it is answered resets the connection, and the answer with it.
            with contextlib.suppress(ConnectionError):
                answer = await _exchange(served, parts, pause)
                break
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer
    return int(head.split()[1]), json.loads(body)


async def _exchange(served: Served, parts: Sequence[bytes], pause: float) -> bytes:
    host, port = served.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            if pause:
                with contextlib.suppress(TimeoutError):
                    return await asyncio.wait_for(reader.read(1), pause) + await reader.read()
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"x" * 1_000_000, "application/json", 413, "too-large"),
        (b"x" * 20_000_000, "application/json", 413, "too-large"),
        (b"source=jira", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
        (b'{"source":"jira"}', "", 415, "unsupported-media-type"),
        (b'{"source":' + b"[" * 100_000, "application/json", 422, "invalid"),
        (b"\xff\xfe", "application/json", 422, "invalid"),
        (b'{"source":', "application/json", 422, "invalid"),
        (b'{"source":"a","params":{"x":NaN}}', "application/json", 422, "invalid"),
        (b'{"source":"\\ud800"}', "application/json", 422, "invalid"),
        (b'{"source":"jira","force":0}', "application/json", 422, "invalid"),
        (b'{"source":"jira","params":{"x":1,"x":2}}', "application/json", 422, "invalid"),
    ],
    ids=[
        *("large", "huge", "form", "untyped", "deep", "bytes", "cut", "nan", "surrogate", "flag"),
        "twice",
    ],
)
async def test_a_body_that_cannot_be_taken_is_refused(
    bounded: Served, body: bytes, kind: str, status: int, code: str
) -> None:
    answer = await bounded("POST", SYNC, data=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


async def test_an_integer_that_is_too_long_is_named(bounded: Served) -> None:
    body = b'{"source": "jira", "params": {"text": "%s", "x": [1, %s]}}' % ((b"1" * 5_000,) * 2)
    answer = await bounded("POST", SYNC, data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "body.params.x.1: an integer of more than 4,300 digits: send it as a text",
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/v1/identities/fill?source=a%00", 422),
        ("GET", "/api/v1/state/a%00", 422),
        ("GET", "/runs/a%00", 422),
        ("GET", "/api/v1/workflow/executions?before=0.5", 422),
        ("GET", "/api/v1/rejects/replay", 405),
    ],
)
async def test_an_address_that_nothing_can_have_is_refused(
    bounded: Served, method: str, path: str, status: int
) -> None:
    answer = await bounded(method, path)
    assert answer.status_code == status, answer.text


async def test_a_body_of_chunks_without_an_end_is_bounded(bounded: Served) -> None:
    head = f"POST {SYNC} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    status, problem = await sent(bounded, head, *[chunk] * 40)
    assert (status, problem["code"]) == (413, "too-large")


LINE = b"POST " + SYNC.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        # A body that drips, a head that drips, and a connection on which nothing comes.
        ([LINE + b"Content-Length: 90\r\n\r\n", *[b" "] * 8], 408, "too-slow"),
        ([LINE, *[b"X: y\r\n"] * 8], 408, "too-slow"),
        ([], 408, "too-slow"),
        ([LINE + b"X-Flood: y\r\n" * 4_000], 431, "head-too-large"),
        ([LINE + b"X: " + b"y" * 100_000], 431, "head-too-large"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"], 400, "no-http"),
        ([b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"], 400, "no-http"),
        # The second request is behind one whose end is unsaid: nobody answers it.
        (
            [
                LINE + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
            ],
            400,
            "no-http",
        ),
    ],
    ids=["body", "head", "nothing", "many-headers", "long-header", "tls", "length", "both-lengths"],
)
async def test_a_request_that_does_not_arrive_is_ended(
    bounded: Served, parts: list[bytes], status: int, code: str
) -> None:
    began = monotonic()
    answered, problem = await sent(bounded, *parts, pause=0.05 if len(parts) > 1 else 0)
    assert (answered, problem["code"]) == (status, code)
    assert problem["request_id"]
    assert monotonic() - began < 60


async def test_a_connection_that_is_kept_serves_requests_one_after_another(
    bounded: Served,
) -> None:
    host, port = bounded.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    one = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with asyncio.timeout(120):
        for text in (one, one, one * 3):
            writer.write(text)
            for _ in range(text.count(b"GET")):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                assert await reader.readexactly(len(b'{"status":"alive"}'))
    writer.close()


async def test_who_does_not_read_is_dropped(
    bounded: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "UNREAD", timedelta(seconds=0.2))
    host, port = bounded.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.setblocking(False)
        with pytest.raises(OSError):  # noqa: PT011 - reset or broken, as the system has it
            await _send_for_ever(connection)


async def _send_for_ever(connection: socket.socket) -> None:
    request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200
    async with asyncio.timeout(120):
        while True:
            await asyncio.get_running_loop().sock_sendall(connection, request)


async def test_too_many_requests_are_refused_until_they_are_fewer(bounded: Served) -> None:
    async with serving(bounded.platform, requests_per_minute=60) as strict:
        answers = await asyncio.gather(*(strict("GET", "/api/v1/sources") for _ in range(80)))
        alive = await strict("GET", "/health/live")
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60
    assert refused[0].json()["code"] == "too-many-requests"
    assert alive.status_code == 200
