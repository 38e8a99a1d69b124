"""Who is answered: tokens and scopes, this machine, other sites' pages, and limits."""

import pytest

from tests.integration.api.conftest import Api


async def test_without_a_token_this_machine_alone_is_answered(api: Api) -> None:
    assert (await api("GET", "/api/v1/runs")).status_code == 200
    dashboard = await api("GET", "/")
    assert (dashboard.status_code, "Overview" in dashboard.text) == (200, True)
    # A name of somebody else's that leads here.
    other = await api("GET", "/api/v1/runs", headers={"Host": "rebound.example"})
    assert other.status_code == 401
    assert "etl token create" in other.json()["detail"]


async def test_once_a_token_exists_nobody_is_answered_without_one(api: Api) -> None:
    reader = await api.token_of("read")
    assert (await reader("GET", "/api/v1/runs")).status_code == 200
    refused = await api("GET", "/api/v1/runs")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    wrong = await api("GET", "/api/v1/runs", headers={"Authorization": f"Bearer {reader.token}x"})
    assert wrong.status_code == 401
    assert str(reader.token) not in wrong.text


async def test_a_token_that_may_read_cannot_act(api: Api) -> None:
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


async def test_a_revoked_token_is_refused(api: Api) -> None:
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
    api: Api, headers: dict[str, str], status: int
) -> None:
    answer = await api("POST", "/api/v1/sync/no-run/pause", headers=headers)
    assert answer.status_code == status


async def test_a_body_that_is_too_large_is_refused_unread(api: Api) -> None:
    answer = await api("POST", "/api/v1/sync/full", data=b"x" * 300_000)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"


async def test_answers_are_neither_cached_nor_guessed_at(api: Api) -> None:
    answer = await api("GET", "/api/v1/runs")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    missing = await api("PATCH", "/api/v1/runs")
    assert missing.status_code == 405
    assert missing.headers["allow"] == "GET, POST"
    assert missing.headers["content-type"] == "application/problem+json"
    assert missing.json()["request_id"] == missing.headers["x-request-id"]


async def test_what_a_token_does_is_entered_in_its_name(api: Api) -> None:
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
