"""Jira's people over the API, against the fake site."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from temporaletl import Identity, RateLimitedError
from temporaletl.external import http
from temporaletl.external.jira.site import close_sites
from temporaletl.queuer.sources.jira.people import identify
from tests.fakes.jira import generate, serve
from tests.fakes.jira.service import JiraService
from tests.fakes.jira.site import Site
from tests.fakes.server import FakeServer, Request, Response
from tests.integration.job_reading import plan_of

BOTH = pytest.mark.parametrize("personality", ["cloud", "server"])


@pytest.fixture
def site(personality: str) -> Site:
    return generate(30, seed=5, personality=personality)


@pytest.fixture
def server(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeServer]:
    monkeypatch.chdir(tmp_path)
    with serve(site) as server:
        monkeypatch.setenv("JIRA_URL", server.url)
        if site.cloud:
            monkeypatch.setenv("JIRA_EMAIL", "a@example.com")
            monkeypatch.setenv("JIRA_API_TOKEN", "x")
        else:
            monkeypatch.setenv("JIRA_PERSONAL_TOKEN", "x")
        yield server
        close_sites()


def people() -> dict[str, Identity]:
    return {each.person: each for each in identify(plan_of("jira", []))}


@BOTH
@pytest.mark.parametrize("at_once", [7, 1000])
@pytest.mark.usefixtures("server")
def test_everybody_is_known_also_who_left(
    site: Site, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("temporaletl.queuer.sources.jira.people._PEOPLE_AT_ONCE", at_once)
    found = people()
    assert set(found) == set(site.users)
    assert any(not user.person["active"] for user in site.users.values())
    for id_, user in site.users.items():
        assert found[id_] == Identity(
            source_kind_id="jira",
            person=id_,
            email=user.person.get("emailAddress"),
            name=user.person["displayName"],
            timezone=user.time_zone,
        )


@BOTH
def test_where_the_account_may_not_browse_users_nobody_is_known(server: FakeServer) -> None:
    service = server.service
    assert isinstance(service, JiraService)
    service.may_browse_users = False
    assert people() == {}


@BOTH
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"errorMessages": ["no"]}),
        (401, {"code": 401, "message": "Unauthorized; scope does not match"}),
        (403, {}),
        (404, {}),
        (500, {}),
        (200, {}),
        (200, {"errorMessages": ["Internal server error"]}),
    ],
)
def test_a_list_of_users_that_cannot_be_read_stops_nothing(
    server: FakeServer, status: int, body: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)
    answer = JiraService.answer

    def refuse(self: JiraService, request: Request) -> Response:
        is_second = "startAt" in request.query and request.query["startAt"] != ["0"]
        if "/search" in request.path and (is_second or status != 500):
            return Response.of(body, status)
        return answer(self, request)

    monkeypatch.setattr(JiraService, "answer", refuse)
    with capture_logs() as logged:
        known = people()
    # As far as they are known: where the second page alone fails, those of the first.
    assert bool(known) == (status == 500)
    [warning] = [each for each in logged if each["event"] == "people_not_shown"]
    assert warning["log_level"] == "warning"
    assert server.traffic.requests < 12


@BOTH
def test_where_jira_asks_to_wait_the_list_of_users_is_waited_for(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = Response.of({}, 429)
    limited.headers = {"Retry-After": "600"}
    people()  # the site is known
    monkeypatch.setattr(JiraService, "answer", lambda _self, _request: limited)
    with pytest.raises(RateLimitedError):
        people()
    assert server.traffic.requests > 0


@BOTH
@pytest.mark.usefixtures("server")
def test_one_person_who_cannot_be_decoded_hides_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = JiraService.answer

    def corrupt(self: JiraService, request: Request) -> Response:
        given = answer(self, request)
        if "/search" not in request.path:
            return given
        return Response(200, given.body.replace(b'"displayName"', b'"odd":NaN,"displayName"', 1))

    monkeypatch.setattr(JiraService, "answer", corrupt)
    assert len(people()) == len(site.users) - 1
