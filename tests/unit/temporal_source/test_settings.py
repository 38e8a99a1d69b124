import asyncio
from pathlib import Path
from typing import Any

import pytest
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

from temporaletl import (
    ConfigurationError,
    CredentialsError,
    RateLimitedError,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.errors import TemporalUnavailableError
from temporaletl.external import temporal
from temporaletl.external.temporal import (
    StaleTokenError,
    Visibility,
    visibility,
)
from temporaletl.external.temporal_settings import SourceTemporalSettings, source_settings
from temporaletl.temporal.endpoint import Endpoint
from temporaletl.troubles import Troubles, observed


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    values = {"HOME": str(tmp_path)}
    monkeypatch.setattr("os.environ", values)
    return values


def test_the_platforms_own_temporal_is_the_source_by_default(variables: dict[str, str]) -> None:
    variables |= {
        "TEMPORAL_ADDRESS": "own:7000",
        "TEMPORAL_NAMESPACE": "shop",
        "TEMPORAL_API_KEY": "key",
    }
    settings, server = source_settings()
    assert (server.address, server.api_key) == ("own:7000", "key")
    assert settings.namespaces == ("shop",)
    assert settings.page_size == 1000


def test_another_temporal_does_not_get_the_platforms_credentials(
    variables: dict[str, str],
) -> None:
    variables |= {
        "TEMPORAL_API_KEY": "key",
        "TEMPORAL_TLS": "true",
        "TEMPORAL_NAMESPACE": "shop",
        "SOURCE_TEMPORAL_ADDRESS": "other",
    }
    settings, server = source_settings()
    assert (server.address, server.api_key, server.tls) == ("other:7233", None, False)
    assert settings.namespaces == ("shop",)


def test_another_temporal_is_entered_with_its_own_credentials(variables: dict[str, str]) -> None:
    variables |= {
        "SOURCE_TEMPORAL_ADDRESS": "other:1",
        "SOURCE_TEMPORAL_NAMESPACES": " a, b,",
        "SOURCE_TEMPORAL_API_KEY": "theirs",
        "SOURCE_TEMPORAL_TLS_SERVER_NAME": "name",
    }
    settings, server = source_settings()
    assert server.api_key == "theirs"
    assert isinstance(server.tls, TLSConfig)
    assert server.tls.domain == "name"
    assert settings.namespaces == ("a", "b")


def test_the_own_temporal_may_be_read_with_another_key(variables: dict[str, str]) -> None:
    variables |= {"TEMPORAL_API_KEY": "writes", "SOURCE_TEMPORAL_API_KEY": "reads"}
    variables |= {"TEMPORAL_ADDRESS": "own:7000"}
    _, server = source_settings()
    assert (server.address, server.api_key) == ("own:7000", "reads")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOURCE_TEMPORAL_PAGE_SIZE", "1001"),
        ("SOURCE_TEMPORAL_PAGE_SIZE", "many"),
        ("SOURCE_TEMPORAL_REQUESTS_PER_SECOND", "0"),
        ("SOURCE_TEMPORAL_TLS", "perhaps"),
        ("SOURCE_TEMPORAL_TLS_CLIENT_KEY_DATA", "rubbish"),
    ],
)
def test_a_wrong_setting_is_named(variables: dict[str, str], name: str, value: str) -> None:
    variables[name] = value
    with pytest.raises(ConfigurationError, match=name):
        source_settings()


async def test_one_connection_serves_until_the_settings_change(variables: dict[str, str]) -> None:
    first = visibility()
    assert visibility() is first
    variables["SOURCE_TEMPORAL_PAGE_SIZE"] = "7"
    assert visibility() is not first


@pytest.fixture(autouse=True)
def delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal, "_DELAYS", (0.0, 0.0))


class FakeClient:
    """Refuses as listed, then counts one execution."""

    def __init__(self, *refusals: RPCStatusCode) -> None:
        self.refusals = list(refusals)
        self.workflow_service = self

    async def count_workflow_executions(self, request: Any, **options: Any) -> Any:
        del request, options
        if self.refusals:
            raise RPCError("secret words", self.refusals.pop(0), b"")
        return type("Answer", (), {"count": 1})()

    async def list_workflow_executions(self, request: Any, **options: Any) -> Any:
        return await self.count_workflow_executions(request, **options)


def make_store(client: FakeClient | None, *, per_second: float = 1e6) -> Visibility:
    settings = SourceTemporalSettings(requests_per_second=per_second)
    store = Visibility(settings, Endpoint("other:1", prefix="SOURCE_TEMPORAL_"))
    store._client = client  # type: ignore[assignment]
    return store


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (RPCStatusCode.UNAVAILABLE, SourceUnavailableError, "'shop': unavailable"),
        (RPCStatusCode.DEADLINE_EXCEEDED, SourceUnavailableError, "deadline exceeded"),
        (RPCStatusCode.UNKNOWN, SourceUnavailableError, "unknown"),
        (RPCStatusCode.PERMISSION_DENIED, CredentialsError, "SOURCE_TEMPORAL_API_KEY"),
        (RPCStatusCode.UNAUTHENTICATED, CredentialsError, "SOURCE_TEMPORAL_API_KEY"),
        (RPCStatusCode.NOT_FOUND, ConfigurationError, "SOURCE_TEMPORAL_NAMESPACES"),
        (RPCStatusCode.OUT_OF_RANGE, ConfigurationError, "SOURCE_TEMPORAL_PAGE_SIZE"),
        (RPCStatusCode.INVALID_ARGUMENT, SourceProtocolError, "invalid argument"),
    ],
)
async def test_refusals_are_classed_by_what_recovers_them(
    status: RPCStatusCode, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await make_store(FakeClient(*3 * [status])).count("shop", "query")


@pytest.mark.parametrize("status", [RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.UNKNOWN])
async def test_a_failure_on_a_token_is_the_tokens(status: RPCStatusCode) -> None:
    with pytest.raises(StaleTokenError):
        await make_store(FakeClient(status)).page("shop", "query", b"token")


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (RPCStatusCode.RESOURCE_EXHAUSTED, RateLimitedError, "its rate limit is reached"),
        (RPCStatusCode.UNAVAILABLE, SourceUnavailableError, "unavailable"),
    ],
)
async def test_what_passes_is_sat_out_a_few_times_and_said_meanwhile(
    status: RPCStatusCode, error: type[Exception], reason: str
) -> None:
    notices: list[str] = []
    with observed(Troubles(notices.append)):
        assert await make_store(FakeClient(status, status)).count("shop", "query") == 1
        with pytest.raises(error, match=reason):
            await make_store(FakeClient(status, status, status)).count("shop", "query")
    assert notices == [f"Temporal at other:1, namespace 'shop': {reason}; it is tried again"]


async def test_a_server_that_is_not_there_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of many requests at once, one connects for all."""
    attempts: list[Any] = []

    async def connect(server: Any, **_: Any) -> Any:
        attempts.append(server)
        await asyncio.sleep(0)
        if len(attempts) < 3:
            raise TemporalUnavailableError("no Temporal server answers")
        return FakeClient()

    monkeypatch.setattr(temporal, "open_client", connect)
    store = make_store(None)
    notices: list[str] = []
    with observed(Troubles(notices.append)) as troubles:
        counted = [store.count("shop", "query") for _ in range(5)]
        assert await asyncio.gather(*counted) == [1] * 5
    assert notices == ["no Temporal server answers; it is tried again"]
    assert (len(attempts), troubles.notice) == (3, None)


async def test_requests_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", wait)
    store = make_store(FakeClient(), per_second=5)
    for _ in range(4):
        await store.count("shop", "query")
    assert waits[0] == 0
    assert waits[1:] == pytest.approx([0.2, 0.4, 0.6], abs=0.1)
