"""Who may read what, and how much of it: source `salesforce` against the fake org."""

from datetime import timedelta

import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from temporaletl import (
    ConfigurationError,
    CredentialsError,
    RateLimitedError,
)
from temporaletl.errors import ETLError
from temporaletl.external.salesforce import refusals
from temporaletl.external.salesforce.org import close_orgs
from tests.fakes.exchange import Response
from tests.fakes.salesforce import Doors, expected_counts, generate
from tests.fakes.salesforce.service import SalesforceService
from tests.fakes.server import FakeServer
from tests.integration.job_reading import Read, Serve, after_success, corrupt, read
from tests.integration.salesforce_reading import holds, jobs_of, served
from tests.keys import private_key, private_pem, public_pem

__all__ = ["served"]

APP = {"SF_CONSUMER_KEY": "app", "SF_CONSUMER_SECRET": "app-secret"}
NO_APP = {"SF_CONSUMER_KEY": "", "SF_CONSUMER_SECRET": ""}
USER = {"SF_USERNAME": "jane@example.com", "SF_PASSWORD": "p<&>'s", "SF_TOKEN": "t0ken&"}


@pytest.fixture(scope="module")
def key() -> tuple[str, str]:
    """A private key as PEM, and its public one."""
    made = private_key()
    return private_pem(made), public_pem(made)


def service_of(server: FakeServer) -> SalesforceService:
    assert isinstance(server.service, SalesforceService)
    return server.service


def guarded(server: FakeServer, key: tuple[str, str]) -> Doors:
    """Let in only whom the settings of these tests name."""
    doors = service_of(server).doors
    doors.users = {"jane@example.com": "p<&>'st0ken&"}
    doors.apps = {"app": "app-secret"}
    doors.keys = {"app": key[1]}
    doors.subjects = {"jane@example.com"}
    return doors


def by_jwt(private: str) -> dict[str, str]:
    return {
        "SF_CONSUMER_KEY": "app",
        "SF_CONSUMER_SECRET": "",
        "SF_USERNAME": "jane@example.com",
        "SF_PRIVATE_KEY": private,
    }


async def test_each_way_in_opens_one_session_for_a_whole_run(
    served: Serve, key: tuple[str, str]
) -> None:
    org = generate(20, seed=1)
    on_one_line = key[0].replace("\n", "\\n")
    for settings in (APP, NO_APP | USER, by_jwt(key[0]), by_jwt(on_one_line)):
        cleared = dict.fromkeys(("SF_USERNAME", "SF_PASSWORD", "SF_TOKEN", "SF_PRIVATE_KEY"), "")
        server = served(org, **cleared | settings)
        doors = guarded(server, key)
        assert holds(await read(jobs_of()), org)
        assert doors.opened == 1


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({**APP, "SF_CONSUMER_SECRET": "wrong-secret"}, "SF_CONSUMER_SECRET"),
        ({**APP, "SF_CONSUMER_KEY": "other"}, "SF_CONSUMER_KEY"),
        (NO_APP | USER | {"SF_PASSWORD": "wrong-secret"}, "SF_PASSWORD and SF_TOKEN"),
        (NO_APP | USER | {"SF_TOKEN": ""}, "SF_TOKEN"),
    ],
)
async def test_refused_logins_name_their_settings_and_tell_no_secret(
    served: Serve, key: tuple[str, str], wrong: dict[str, str], named: str
) -> None:
    server = served(generate(5), **wrong)
    guarded(server, key)
    with pytest.raises(CredentialsError, match=named) as caught:
        await read(jobs_of())
    told = f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"
    for secret in ("wrong-secret", "app-secret", "p<&>'s", "t0ken&"):
        assert secret not in told
    # A few wrong logins lock a user out: the next job does not try again at once.
    with pytest.raises(CredentialsError, match=named):
        await read(jobs_of())
    assert server.traffic.requests == 1


async def test_a_jwt_is_checked_with_the_public_key(served: Serve, key: tuple[str, str]) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    server = served(generate(5), **by_jwt(other.decode()))
    guarded(server, key)
    with pytest.raises(CredentialsError, match=r"invalid assertion.*SF_PRIVATE_KEY") as caught:
        await read(jobs_of())
    assert other.decode().splitlines()[1] not in f"{caught.value} {caught.value.__context__}"
    assert server.traffic.requests == 1


async def test_a_user_who_has_not_approved_the_app_is_a_matter_of_credentials(
    served: Serve, key: tuple[str, str]
) -> None:
    server = served(generate(5), **by_jwt(key[0]))
    guarded(server, key).subjects = set()
    with pytest.raises(CredentialsError, match=r"approved.*connected app"):
        await read(jobs_of())


async def test_an_expired_password_ends_the_run_at_once(
    served: Serve, key: tuple[str, str]
) -> None:
    server = served(generate(5), **NO_APP | USER)
    guarded(server, key).expired_passwords = {"jane@example.com"}
    with pytest.raises(CredentialsError, match=r"expired.*SF_PASSWORD"):
        await read(jobs_of())
    assert server.traffic.requests == 1


async def test_too_many_logins_are_a_limit_and_not_wrong_credentials(served: Serve) -> None:
    server = served(generate(5))
    doors = service_of(server).doors
    for _ in range(3_600):
        doors.too_many()
    with pytest.raises(RateLimitedError, match="too many logins") as caught:
        await read(jobs_of(), patience=0)
    assert caught.value.delay is not None
    assert caught.value.delay >= timedelta(minutes=1)


async def test_a_token_revoked_during_a_run_is_renewed_once(served: Serve) -> None:
    org = generate(60, seed=2)
    server = served(org)
    doors = service_of(server).doors
    jobs = jobs_of()
    corrupt(server, after_success("/queryAll/", doors.sessions.clear, number=3))
    assert holds(await read(jobs, patience=0), org)
    assert doors.opened == 2


async def test_credentials_revoked_during_a_run_end_it(served: Serve, key: tuple[str, str]) -> None:
    server = served(generate(60, seed=2), **APP)
    doors = guarded(server, key)

    def revoke() -> None:
        doors.sessions.clear()
        doors.apps = {}

    jobs = jobs_of()[:1]
    corrupt(server, after_success("/queryAll/", revoke))
    with pytest.raises(CredentialsError, match="SF_CONSUMER_KEY"):
        await read(jobs, into=(found := Read()))
    assert found.events


async def test_sessions_that_are_all_refused_end_the_run(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(generate(5))
    doors = service_of(server).doors
    monkeypatch.setattr(doors, "open", lambda: "00D-refused")
    with pytest.raises(CredentialsError, match="sessions are refused"):
        await read(jobs_of())
    requests = server.traffic.requests
    assert requests < 15
    with pytest.raises(CredentialsError, match="sessions are refused"):
        await read(jobs_of())
    assert server.traffic.requests == requests + 1


async def test_a_permission_taken_away_during_a_run_ends_it(served: Serve) -> None:
    server = served(generate(60, seed=2))
    jobs = jobs_of()[:1]
    corrupt(
        server, after_success("/queryAll/", lambda: setattr(service_of(server), "forbidden", True))
    )
    with pytest.raises(CredentialsError, match=r"API_DISABLED_FOR_ORG.*API Enabled"):
        await read(jobs, into=(found := Read()))
    assert found.events


@pytest.mark.parametrize(
    ("kept_from", "words"),
    [
        ("absent", r"for Task: INVALID_TYPE.*'Task' is not supported.*may not see that object"),
        ("locked", r"for Task: INSUFFICIENT_ACCESS.*SF_CONSUMER_SECRET lacks a permission"),
    ],
)
@pytest.mark.parametrize("bulk", [{}, {"SF_BULK_ABOVE_ROWS": "1"}])
async def test_an_object_that_may_not_be_read_is_named_and_fails_no_other(
    served: Serve, kept_from: str, words: str, bulk: dict[str, str]
) -> None:
    org = generate(10)
    setattr(org, kept_from, {"Task"})
    served(org, **bulk)
    others = await read([job for job in jobs_of() if job.stream != "tasks"])
    with pytest.raises(CredentialsError, match=words):
        await read(jobs_of(streams=("tasks",)))
    left_out = {"task_created", "task_deleted", "events", "employees"}
    assert dict(others.types) == {
        k: n for k, n in expected_counts(org).items() if k not in left_out
    }


async def test_a_permission_for_one_object_taken_away_during_a_run_names_it(served: Serve) -> None:
    org = generate(60, seed=2)
    server = served(org)
    jobs = jobs_of(streams=("cases",), rows_per_job=1_000)
    job = next(job for job in jobs if job.params["object"] == "Case")
    corrupt(server, after_success("/queryAll/", lambda: setattr(org, "locked", {"Case"})))
    with pytest.raises(CredentialsError, match="for Case: INSUFFICIENT_ACCESS"):
        await read([job], into=(found := Read()))
    assert found.events


async def test_a_history_that_is_not_tracked_is_left_out_with_one_warning(served: Serve) -> None:
    org = generate(20, seed=3)
    org.absent = {"CaseHistory", "OpportunityFieldHistory"}
    served(org)
    with structlog.testing.capture_logs() as logs:
        found = await read([*jobs_of(), *jobs_of()])
    warned = [each["object"] for each in logs if each["event"] == "salesforce_object_absent"]
    assert sorted(warned) == ["CaseHistory", "OpportunityFieldHistory"]
    assert found.types["case_created"] == 20
    assert not found.types["status_changed"]


async def test_fields_that_may_not_be_seen_are_left_out_with_one_warning(served: Serve) -> None:
    org = generate(20, seed=3)
    served(org)
    whole_read = await read(jobs_of())
    close_orgs()
    org.hidden = {("Case", "Description"), ("User", "TimeZoneSidKey")}
    served(org)
    with structlog.testing.capture_logs() as logs:
        found = await read(jobs_of())
    hidden = [(e["object"], e["field"]) for e in logs if e["event"] == "salesforce_field_hidden"]
    assert ("Case", "Description") in hidden
    assert len(hidden) == len(set(hidden))
    assert found.events.keys() == whole_read.events.keys()
    created = [e for e in found.events.values() if e.event_type == "case_created"]
    assert {event.event_properties["description"] for event in created} == {None}


async def test_a_needed_field_that_may_not_be_seen_is_named(served: Serve) -> None:
    org = generate(5)
    org.hidden = {("Case", "CaseNumber")}
    served(org)
    with pytest.raises(ConfigurationError, match=r"No such column 'CaseNumber'.*may not see"):
        await read([job for job in jobs_of() if job.params["object"] == "Case"])


async def test_a_used_up_day_is_a_limit_with_a_delay(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(generate(60, seed=4), SF_API_USAGE_LIMIT="1")
    monkeypatch.setattr(refusals, "DAILY_LIMIT_PAUSE", timedelta(minutes=30))
    service_of(server).daily_limit = 3
    service_of(server).used = 3
    with pytest.raises(RateLimitedError, match=r"TotalRequests.*24 hours") as caught:
        await read(jobs_of(streams=("tasks",)), patience=0)
    assert caught.value.delay == timedelta(minutes=30)
    asked = server.traffic.requests
    # Whoever asks meanwhile is not even sent.
    with pytest.raises(RateLimitedError):
        await read(jobs_of(streams=("tasks",)), patience=0)
    assert server.traffic.requests == asked


async def test_the_share_of_the_day_that_is_left_to_others_is_respected(served: Serve) -> None:
    org = generate(60, seed=4)
    server = served(org, SF_API_USAGE_LIMIT="0.5", SF_CONCURRENCY="1")
    service_of(server).daily_limit = 20
    with (
        structlog.testing.capture_logs() as logs,
        pytest.raises(RateLimitedError, match=r"10 of the org's 20 .*SF_API_USAGE_LIMIT=0\.5") as e,
    ):
        await read(jobs_of(), patience=0)
    assert service_of(server).used == 10
    assert e.value.delay is not None
    assert timedelta(minutes=1) < e.value.delay <= timedelta(minutes=30)
    told = [each["used"] for each in logs if each["event"] == "salesforce_api_usage"]
    assert told == sorted(told)
    assert told[-1] == 10


async def test_too_many_long_requests_are_a_short_wait(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(generate(5), "concurrent-limit:1")
    monkeypatch.setattr(refusals, "_CONCURRENCY_PAUSE", timedelta(seconds=30))
    monkeypatch.setattr("temporaletl.queuer.sources.salesforce.params._ATTEMPTS", 1)
    with pytest.raises(RateLimitedError, match="too many long requests") as caught:
        await read(jobs_of(streams=("tasks",)), patience=0)
    assert caught.value.delay == timedelta(seconds=30)


async def test_an_address_that_is_no_salesforce_is_told_so(served: Serve) -> None:
    server = served(generate(5), SF_API_VERSION="99.0")
    with pytest.raises(ConfigurationError, match="SF_INSTANCE_URL and SF_API_VERSION"):
        await read(jobs_of())
    assert server.traffic.requests == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"SF_INSTANCE_URL": "http://example.my.salesforce.com"}, "SF_INSTANCE_URL.*https://"),
        ({"SF_PAGE_SIZE": "5000"}, "SF_PAGE_SIZE"),
        ({"SF_CONSUMER_SECRET": ""}, "SF_CONSUMER_SECRET not set"),
        ({"SF_PASSWORD": "x"}, "SF_PASSWORD cannot go with SF_CONSUMER_KEY"),
    ],
)
def test_malformed_settings_are_named_before_anything_is_planned(
    served: Serve, settings: dict[str, str], words: str
) -> None:
    server = served(generate(1), **settings)
    with pytest.raises(ConfigurationError, match=words):
        jobs_of()
    assert server.traffic.requests == 0


def test_an_unknown_parameter_is_named(served: Serve) -> None:
    served(generate(1))
    with pytest.raises(
        ConfigurationError, match="salesforce takes no parameter 'colour'; it takes: page_size"
    ):
        jobs_of(colour="red")


async def test_no_client_library_error_leaks_through(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(generate(5))
    for body in (b"", b"<html>", b"[]", b'{"access_token": "x"}', b"{}"):
        close_orgs()

        def answer(_request: object, body: bytes = body) -> Response:
            return Response(200, body)

        monkeypatch.setattr(server.service, "answer", answer)
        with pytest.raises(ETLError):
            await read(jobs_of(), patience=0)
