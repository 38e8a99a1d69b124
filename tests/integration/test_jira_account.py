"""Source `jira`: who it is asked as, and what happens where Jira takes us for nobody."""

from collections.abc import Callable

import pytest

from temporaletl import AccountView, CredentialsError
from temporaletl.accounts import account_views
from temporaletl.external.answers import MisfitAnswerError
from temporaletl.external.http import HttpClient
from temporaletl.queuer.sources.jira.params import describe_backlog
from tests.fakes.jira import generate
from tests.fakes.jira.service import JiraService
from tests.fakes.server import FakeServer
from tests.integration.job_reading import hold_until_in_flight, plan_of, read
from tests.integration.test_jira_deletions import gone
from tests.integration.test_jira_source import BOTH, jobs_of, served

__all__ = ["served"]

Serve = Callable[..., FakeServer]


def service_of(server: FakeServer) -> JiraService:
    assert isinstance(server.service, JiraService)
    return server.service


def view() -> AccountView:
    seen = account_views.get("jira")()
    assert seen is not None
    return seen


@BOTH
def test_the_view_names_account_permissions_groups_and_projects(
    served: Serve, personality: str
) -> None:
    site = generate(160, seed=1, personality=personality)
    server = served(site)
    seen = view()
    assert site.owner is not None
    assert seen.account == site.owner.person["accountId" if site.cloud else "key"]
    assert "BROWSE_PROJECTS" in seen.permissions
    assert sum(each.startswith("group ") for each in seen.permissions) == 2
    projects = site.catalogue.projects
    assert seen.containers == {str(each["id"]) for each in projects.values()}
    service_of(server).groups.remove("developers")
    site.hide_project(next(iter(projects)))
    less = view()
    assert less.containers < seen.containers
    assert less.permissions < seen.permissions
    assert server.traffic.requests < 10


@BOTH
def test_what_the_view_needs_beside_the_account_is_requested_at_once(
    served: Serve, personality: str
) -> None:
    server = served(generate(30, seed=1, personality=personality))
    together = hold_until_in_flight(server, 3, passing=("myself", "serverInfo"))
    view()
    assert together.is_set()


def test_every_page_of_projects_is_seen(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    site = generate(160, seed=1, personality="cloud")
    served(site)
    whole = view().containers
    monkeypatch.setattr("temporaletl.external.jira.account._PROJECTS_AT_ONCE", 1)
    assert len(whole) > 1
    assert view().containers == whole


@BOTH
async def test_a_token_that_is_known_no_more_stops_everything(
    served: Serve, personality: str
) -> None:
    site = generate(30, seed=1, personality=personality)
    server = served(site)
    here = [str(row.id) for row in site.rows]
    [job] = await jobs_of()
    service_of(server).lapsed = True
    named = "JIRA_EMAIL and JIRA_API_TOKEN" if site.cloud else "JIRA_PERSONAL_TOKEN"
    with pytest.raises(CredentialsError, match=named):
        view()
    with pytest.raises(CredentialsError, match=named):
        await describe_backlog(plan_of("jira", ["issues"]))
    with pytest.raises(CredentialsError, match=named):
        await read([job])
    with pytest.raises(CredentialsError, match=named):
        await gone(*here)


@pytest.mark.parametrize("personality", ["cloud"])
def test_an_answer_to_nobody_tells_the_header(served: Serve, personality: str) -> None:
    server = served(generate(5, seed=1, personality=personality))
    service_of(server).lapsed = True
    with pytest.raises(CredentialsError, match=r"token is refused \(X-Seraph-LoginReason"):
        view()


@BOTH
def test_an_account_that_may_browse_nothing_is_told(served: Serve, personality: str) -> None:
    site = generate(5, seed=1, personality=personality)
    served(site)
    for key in site.catalogue.projects:
        site.hide_project(key)
    with pytest.raises(CredentialsError, match="may browse no project"):
        view()


@BOTH
@pytest.mark.parametrize(
    "path", ["rest/api/./mypermissions", "rest/api/./project", "rest/api/./myself"]
)
def test_what_the_site_does_not_tell_makes_the_view_smaller_and_stops_nothing(
    served: Serve, personality: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(5, seed=1, personality=personality)
    served(site)
    whole = view()
    ask = HttpClient.request

    def without(self: HttpClient, method: str, url: str, **options: object) -> object:
        other = url.replace(path.rpartition("/")[2], "nothing-of-the-kind")
        is_gated = path.rpartition("/")[2] in url and "myself" not in url
        return ask(self, method, other if is_gated else url, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(HttpClient, "request", without)
    less = view()
    assert less.account == whole.account
    assert less.permissions <= whole.permissions
    assert less.containers <= whole.containers


@BOTH
@pytest.mark.parametrize("path", ["mypermissions", "project", "myself"])
def test_an_answer_that_tells_nothing_of_the_account_stops_only_who_is_shown_no_issue(
    served: Serve, personality: str, path: str
) -> None:
    site = generate(5, seed=1, personality=personality)
    server = served(site)
    whole = view()
    server.faults.only = lambda request: path in request.path
    server.faults.add("empty-object:1")
    less = view()
    assert less.account == (None if path == "myself" else whole.account)
    assert less.permissions <= whole.permissions
    assert less.containers <= whole.containers
    for key in site.catalogue.projects:
        site.hide_project(key)
    with pytest.raises((MisfitAnswerError, CredentialsError)):
        view()
