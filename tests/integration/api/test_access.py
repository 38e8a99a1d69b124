"""Who is answered: tokens and scopes, this machine, other sites' pages, and limits."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from temporaletl.control.operations.platform import Platform
from temporaletl.control.web import dashboard as front
from temporaletl.settings.platform import TemporalSettings
from tests.integration.api.in_process import Served, schema_of, serving, warehouse_settings


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def without_tokens(postgres_url: str) -> AsyncGenerator[Served]:
    """A platform without Temporal, for which nobody makes a token."""
    async with _platform(postgres_url) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(postgres_url: str) -> AsyncGenerator[Served]:
    """One for which a token was made; whoever has none asks."""
    async with _platform(postgres_url) as one:
        await one.token_of("read")
        yield one


@asynccontextmanager
async def _platform(url: str) -> AsyncGenerator[Served]:
    off = TemporalSettings.model_validate({"enabled": False})
    async with schema_of(url) as warehouse:
        platform = Platform(off, warehouse_settings(url, warehouse.schema))
        async with serving(platform, fronts=(front.install,)) as one:
            yield one


async def test_without_a_token_this_machine_alone_is_answered(without_tokens: Served) -> None:
    assert (await without_tokens("GET", "/api/v1/runs")).status_code == 200
    dashboard = await without_tokens("GET", "/")
    assert (dashboard.status_code, "Overview" in dashboard.text) == (200, True)
    # A name of somebody else's that leads here.
    other = await without_tokens("GET", "/api/v1/runs", headers={"Host": "rebound.example"})
    assert other.status_code == 401
    assert "etl token create" in other.json()["detail"]
    # A proxy on this machine, which may ask for anybody.
    for name in ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP"):
        for path in ("/api/v1/runs", "/"):
            proxied = await without_tokens(
                "GET", path, headers={name: "127.0.0.1"}, allow_redirects=False
            )
            assert proxied.status_code != 200, (name, path)
            assert path == "/" or "etl token create" in proxied.json()["detail"]


async def test_a_proxy_may_pass_on_who_has_a_token(api: Served) -> None:
    token = await api.token_of("read")
    proxied = await token("GET", "/api/v1/runs", headers={"X-Forwarded-For": "203.0.113.9"})
    assert proxied.status_code == 200


async def test_once_a_token_exists_nobody_is_answered_without_one(api: Served) -> None:
    reader = await api.token_of("read")
    assert (await reader("GET", "/api/v1/runs")).status_code == 200
    refused = await api("GET", "/api/v1/runs")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    bearer = reader.headers["Authorization"]
    wrong = await api("GET", "/api/v1/runs", headers={"Authorization": f"{bearer}x"})
    assert wrong.status_code == 401
    assert bearer not in wrong.text


async def test_a_token_that_may_read_cannot_act(api: Served) -> None:
    reader = await api.token_of("read")
    for method, path in (
        ("POST", "/api/v1/sync/full"),
        ("POST", "/api/v1/sync/some-run/cancel"),
        ("PUT", "/api/v1/state/numbers"),
        ("DELETE", "/api/v1/temporal/schedules/numbers"),
        ("GET", "/api/v1/tokens"),
    ):
        body = {"source": "numbers", "watermark": None} if method != "GET" else None
        answer = await reader(method, path, json=body)
        assert answer.status_code == 403, (path, answer.text)


async def test_a_revoked_token_is_refused(api: Served) -> None:
    operator = await api.token_of("operate")
    made = await operator("POST", "/api/v1/tokens", json={"name": "ci", "scope": "read"})
    assert made.status_code == 201
    other = {"Authorization": f"Bearer {made.json()['text']}"}
    assert (await api("GET", "/api/v1/runs", headers=other)).status_code == 200
    assert (await operator("DELETE", "/api/v1/tokens/ci")).status_code == 200
    assert (await api("GET", "/api/v1/runs", headers=other)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
        ({}, 404),
    ],
)
async def test_what_other_sites_pages_send_is_not_taken(
    without_tokens: Served, headers: dict[str, str], status: int
) -> None:
    answer = await without_tokens("POST", "/api/v1/runs/no-run/retry", headers=headers)
    assert answer.status_code == status


async def test_a_body_that_is_too_large_is_refused_unread(without_tokens: Served) -> None:
    answer = await without_tokens("POST", "/api/v1/sync/full", data=b"x" * 300_000)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"


async def test_answers_are_neither_cached_nor_guessed_at(without_tokens: Served) -> None:
    answer = await without_tokens("GET", "/api/v1/runs")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    missing = await without_tokens("PATCH", "/api/v1/runs")
    assert missing.status_code == 405
    assert missing.headers["allow"] == "GET, POST"
    assert missing.headers["content-type"] == "application/problem+json"
    assert missing.json()["request_id"] == missing.headers["x-request-id"]


async def test_what_a_token_does_is_entered_in_its_name(api: Served) -> None:
    operator = await api.token_of("operate", "night-shift")
    body = {"watermark": "2024-01-01T00:00:00Z"}
    assert (await operator("PUT", "/api/v1/state/numbers", json=body)).status_code == 200
    assert (await operator("POST", "/api/v1/identities/fill?source=numbers")).status_code == 200
    found = (await operator("GET", "/api/v1/audit")).json()["items"]
    done = {entry["action"]: entry["actor"] for entry in found}
    assert done["identities.fill"] == "token:night-shift"
    assert {actor for action, actor in done.items() if action.startswith("state.")} == {
        "token:night-shift"
    }
