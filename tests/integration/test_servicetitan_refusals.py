"""What ServiceTitan refuses: one clear error each, with the setting to correct, and no secret."""

from datetime import timedelta
from typing import Any

import pytest

from temporaletl import ConfigurationError, CredentialsError, RateLimitedError
from temporaletl.external import http
from tests.fakes.server import FakeServer
from tests.fakes.servicetitan import generate
from tests.integration.job_reading import Read, Serve, after_success, corrupt, pages_of, read
from tests.integration.servicetitan_reading import STREAMS, is_whole, jobs_of, served

__all__ = ["served"]

BOTH = pytest.mark.parametrize("paging", ["export", "list"])
SECRETS = ("cs1.fake", "ak1.fake")


def service_of(server: FakeServer) -> Any:
    return server.service


async def refused(kind: type[Exception], paging: str = "export", stream: str = "jobs") -> str:
    with pytest.raises(kind) as raised:
        await read(jobs_of(streams=[stream], paging=paging))
    text = f"{raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"
    assert not any(secret in text for secret in SECRETS)
    assert str(raised.value).startswith("servicetitan: ")
    return str(raised.value)


async def test_a_refused_secret_names_its_setting(served: Serve) -> None:
    served(generate(3), SERVICETITAN_CLIENT_SECRET="cs1.wrong")
    text = await refused(CredentialsError)
    assert "SERVICETITAN_CLIENT_SECRET" in text
    assert "invalid_client" in text
    assert "cs1.wrong" not in text


async def test_a_client_that_the_tenant_no_longer_knows_is_told_so(served: Serve) -> None:
    server = served(generate(3))
    service_of(server).revoke_client("unauthorized_client")
    assert "connect the app again" in await refused(CredentialsError)


async def test_a_refused_app_key_names_its_setting(served: Serve) -> None:
    server = served(generate(3), SERVICETITAN_APP_KEY="ak1.wrong")
    text = await refused(CredentialsError)
    assert "SERVICETITAN_APP_KEY" in text
    assert "ak1.wrong" not in text
    # The token may have expired: it is renewed once, not for ever.
    assert server.traffic.count("connect/token") == 2


@BOTH
async def test_one_scope_that_is_missing_fails_its_stream_alone(served: Serve, paging: str) -> None:
    tenant = generate(30, seed=1)
    server = served(tenant)
    service_of(server).scopes.remove("invoices")
    text = await refused(CredentialsError, paging, "invoices")
    assert "read scope for invoices (Accounting)" in text
    assert "tenant 1234567" in text
    others = await read(jobs_of(streams=[s for s in STREAMS if s != "invoices"], paging=paging))
    assert {stream for stream in STREAMS if others.rows[stream]} == set(STREAMS) - {"invoices"}


@pytest.mark.parametrize(("status", "kind"), [(403, CredentialsError), (404, ConfigurationError)])
async def test_a_wrong_tenant_names_its_setting(
    served: Serve, status: int, kind: type[Exception]
) -> None:
    server = served(generate(3), SERVICETITAN_TENANT_ID="99")
    service_of(server).foreign_tenant = status
    text = await refused(kind)
    assert "SERVICETITAN_TENANT_ID" in text
    assert "tenant 99" in text


async def test_an_address_without_tokens_names_its_setting(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(generate(3))
    monkeypatch.setenv("SERVICETITAN_AUTH_URL", f"{server.url}/elsewhere")
    assert "SERVICETITAN_AUTH_URL" in await refused(ConfigurationError)


async def test_a_wrong_path_names_its_setting(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(generate(3))
    monkeypatch.setenv("SERVICETITAN_URL", f"{server.url}/v3")
    assert "SERVICETITAN_URL" in await refused(ConfigurationError)


@BOTH
async def test_a_token_refused_in_the_middle_is_renewed_once(served: Serve, paging: str) -> None:
    tenant = generate(80, seed=1)
    server = served(tenant)
    corrupt(server, after_success("/jobs", service_of(server).expire_tokens, number=2))
    found = await read(jobs_of(streams=["jobs"], paging=paging), patience=0)
    assert set(found.rows["jobs"]) == set(tenant.collections["jobs"].rows)
    assert server.traffic.count("connect/token") == 2
    assert server.traffic.statuses[401] == 1


async def test_tokens_are_renewed_before_they_expire(served: Serve) -> None:
    tenant = generate(80, seed=1)
    # A fifth of its life is left when it is renewed: here at once.
    server = served(tenant, service={"token_seconds": 0.9})
    await read(jobs_of(streams=["jobs"]))
    assert server.traffic.statuses[401] == 0


async def test_one_token_serves_all_jobs_of_a_process(served: Serve) -> None:
    tenant = generate(60, seed=1)
    server = served(tenant)
    assert is_whole(await read(jobs_of()), tenant)
    assert server.traffic.count("connect/token") == 1


@BOTH
async def test_a_client_revoked_in_the_middle_ends_the_job(served: Serve, paging: str) -> None:
    server = served(generate(80, seed=1))
    corrupt(server, after_success("/jobs", service_of(server).revoke_client, number=3))
    found = Read()
    with pytest.raises(CredentialsError, match="SERVICETITAN_CLIENT_ID"):
        await read(jobs_of(streams=["jobs"], paging=paging), into=found)
    assert 0 < len(found.rows["jobs"]) < 80


@BOTH
async def test_a_scope_taken_away_in_the_middle_ends_the_job(served: Serve, paging: str) -> None:
    server = served(generate(80, seed=1))
    corrupt(server, after_success("/jobs", service_of(server).scopes.clear, number=3))
    found = Read()
    with pytest.raises(CredentialsError, match="read scope for jobs"):
        await read(jobs_of(streams=["jobs"], paging=paging), into=found)
    assert 0 < len(found.rows["jobs"]) < 80


async def test_a_long_wait_is_handed_to_the_platform(served: Serve) -> None:
    server = served(generate(10), "429:1")
    server.faults.retry_after = timedelta(seconds=90)
    with pytest.raises(RateLimitedError) as raised:
        async with pages_of(jobs_of(streams=["jobs"])[0]) as pages:
            await anext(pages)
    assert raised.value.delay is not None
    assert raised.value.delay > timedelta(seconds=80)


async def test_the_real_limit_is_sat_out(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    # As long as it takes to be served again, at so many requests per second.
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.02)
    tenant = generate(40, seed=1)
    server = served(tenant, service={"requests_per_second": 30})
    assert is_whole(await read(jobs_of(paging="list", page_size=3)), tenant)
    assert server.traffic.during_pause == 0


async def test_a_cursor_of_another_tenant_is_not_gone_on_with(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(generate(50, seed=1))
    (job,) = jobs_of(streams=["jobs"])
    found = Read()
    async with pages_of(job) as pages:
        found.add(job, await anext(pages))
    monkeypatch.setenv("SERVICETITAN_TENANT_ID", "99")
    with pytest.raises(ConfigurationError, match="settings now name"):
        async with pages_of(job, found.stream_cursors["jobs"][-1]) as pages:
            await anext(pages)


@BOTH
async def test_a_cursor_of_nothing_we_know_is_refused(served: Serve, paging: str) -> None:
    served(generate(5))
    (job,) = jobs_of(streams=["jobs"], paging=paging)
    with pytest.raises(ConfigurationError, match="no cursor"):
        async with pages_of(job, {"at": 5}) as pages:
            await anext(pages)
