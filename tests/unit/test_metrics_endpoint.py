"""The endpoint of a process, over real sockets."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from temporaletl.errors import ConfigurationError, WarehouseUnavailableError
from temporaletl.service.process_group import Membership
from temporaletl.telemetry.endpoint import MetricsEndpoint, metrics_served


async def _ready() -> str | None:
    return None


async def _raises() -> str | None:
    raise WarehouseUnavailableError("the warehouse did not answer")


async def _starts() -> str | None:
    return "it waits for Temporal"


@pytest.fixture(autouse=True)
def _served_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_METRICS_PORT", "0")


async def ask(endpoint: MetricsEndpoint | None, path: str, method: str = "GET") -> tuple[int, str]:
    assert endpoint is not None
    host, _, port = endpoint.address.rpartition(":")
    async with asyncio.timeout(120):
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
    return int(head.split()[1]), body


async def test_metrics_and_health_are_served_and_nothing_else() -> None:
    async with metrics_served("worker", _ready) as endpoint:
        status, text = await ask(endpoint, "/metrics")
        assert status == 200
        assert 'etl_build_info{service="worker",version="' in text
        assert 'etl_warehouse_errors_total{kind="unavailable"}' in text
        assert await ask(endpoint, "/health") == (200, "alive\n")
        assert await ask(endpoint, "/health", "HEAD") == (200, "")
        assert (await ask(endpoint, "/"))[0] == 404
        assert (await ask(endpoint, "/metrics", "POST"))[0] == 405


@pytest.mark.parametrize(
    ("ready", "answer"),
    [
        (_ready, (200, "ready\n")),
        (_starts, (503, "not ready: it waits for Temporal\n")),
        (_raises, (503, "not ready: the warehouse did not answer\n")),
    ],
)
async def test_readiness_says_what_is_missing(
    ready: Callable[[], Awaitable[str | None]], answer: tuple[int, str]
) -> None:
    async with metrics_served("worker", ready) as endpoint:
        assert await ask(endpoint, "/ready") == answer
        assert (await ask(endpoint, "/health"))[0] == 200


async def test_however_many_ask_at_once_readiness_is_looked_at_once() -> None:
    looks = 0

    async def look() -> str | None:
        nonlocal looks
        looks += 1
        return None

    async with metrics_served("worker", look) as endpoint:
        await asyncio.gather(*(ask(endpoint, "/ready") for _ in range(20)))
    assert looks == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])  # noqa: S104
async def test_a_group_is_ready_once_all_of_its_processes_are(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("ETL_METRICS_HOST", host)
    ports = memoryview(bytearray(4)).cast("H")
    first, second = (Membership(-1, index, ("worker-1", "worker-2"), ports) for index in (0, 1))

    async def answer_beside(ready: Callable[[], Awaitable[str | None]]) -> tuple[int, str]:
        async with metrics_served("worker", ready, group=second):
            return await ask(asked, "/ready")

    async with metrics_served("worker", _ready, group=first) as asked:
        assert await ask(asked, "/ready") == (503, "not ready: worker-2 does not run yet\n")
        assert await answer_beside(_starts) == (503, "not ready: worker-2: it waits for Temporal\n")
        assert await ask(asked, "/ready") == (503, "not ready: worker-2 does not answer\n")
        assert await ask(asked, "/ready/process") == (200, "ready\n")
        assert await answer_beside(_ready) == (200, "ready\n")


async def test_metrics_are_served_though_some_cannot_be_refreshed_or_passed_on() -> None:
    async with metrics_served("api", _ready, refresh=lambda: _must(_raises)) as endpoint:
        assert endpoint is not None
        with socket.create_server(("127.0.0.1", 0)) as taken:
            closed = taken.getsockname()[1]
        endpoint.sdk = f"127.0.0.1:{closed}"
        assert (await ask(endpoint, "/metrics"))[0] == 200


async def _must(ready: Callable[[], Awaitable[str | None]]) -> None:
    await ready()


async def test_each_process_takes_the_next_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("ETL_METRICS_PORT", str(port))
        async with metrics_served("worker", _ready) as endpoint:
            assert endpoint is not None
            assert port < int(endpoint.address.rpartition(":")[2]) < port + 20


async def test_nothing_is_served_unless_a_port_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETL_METRICS_PORT")
    async with metrics_served("worker", _ready) as endpoint:
        assert endpoint is None


async def test_an_address_that_is_not_of_this_machine_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETL_METRICS_HOST", "192.0.2.1")
    with pytest.raises(ConfigurationError, match=r"ETL_METRICS_HOST=192\.0\.2\.1"):
        async with metrics_served("worker", _ready):
            pass
