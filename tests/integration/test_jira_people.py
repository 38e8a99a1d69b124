"""Jira's people over the API, against the fake site."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from queuer.sources.jira.people import identify
from temporaletl import Identity, Plan
from temporaletl.external.jira.site import close_sites
from temporaletl.messages import BatchMetadata
from tests.fakes.jira import generate, serve
from tests.fakes.jira.service import JiraService
from tests.fakes.jira.site import Site
from tests.fakes.server import FakeServer

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
    metadata = BatchMetadata(
        batch_id="b",
        source="jira",
        mode="full",
        connection="default",
        windows={},
        worker_queue="q",
        started=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return {each.person: each for each in identify(Plan(metadata))}


@BOTH
@pytest.mark.parametrize("at_once", [7, 1000])
@pytest.mark.usefixtures("server")
def test_everybody_is_known_also_who_left(
    site: Site, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queuer.sources.jira.people._PEOPLE_AT_ONCE", at_once)
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
