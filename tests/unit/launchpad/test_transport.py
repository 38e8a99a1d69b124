"""Requests to Launchpad, in the place of launchpadlib's own connection."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl import (
    CredentialsError,
    RateLimitedError,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.budget import RateLimiter, rate_limited
from temporaletl.external import http
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.launchpad.site import LaunchpadSite
from temporaletl.external.launchpad.transport import UnreadableError
from temporaletl.worker.sources.launchpad.entries import Bug
from tests.fakes.faults import TRANSPORT, Faults
from tests.fakes.launchpad import generate, serve
from tests.fakes.server import FakeServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeServer]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)
    with serve(generate(5, people=2), faults=Faults(known=TRANSPORT, seed=1)) as running:
        yield running


@pytest.fixture
def site(server: FakeServer) -> Iterator[LaunchpadSite]:
    opened = site_of(server)
    yield opened
    opened.close()


def site_of(server: FakeServer, **settings: Any) -> LaunchpadSite:
    return LaunchpadSite(LaunchpadSettings(service_root=server.url, **settings))


def bug_url(server: FakeServer) -> str:
    return f"{server.url}/1.0/bugs/1"


@pytest.mark.parametrize("fault", ["429:1:2", "502:1:3", "503:1:3", "504:1:3", "reset:1:2"])
def test_short_troubles_are_sat_out(server: FakeServer, site: LaunchpadSite, fault: str) -> None:
    server.faults.retry_after = timedelta(0)
    server.faults.add(fault)
    assert site.read(Bug, bug_url(server)).id == 1
    assert server.faults.injected.total() == int(fault[-1])


@pytest.mark.parametrize("fault", ["429", "429-date"])
def test_a_long_wait_is_raised_with_its_delay(
    server: FakeServer, site: LaunchpadSite, fault: str
) -> None:
    server.faults.retry_after = timedelta(seconds=90)
    server.faults.add(f"{fault}:1")
    with pytest.raises(RateLimitedError) as caught:
        site.read(Bug, bug_url(server))
    assert caught.value.delay is not None
    assert timedelta(seconds=80) < caught.value.delay <= timedelta(seconds=91)
    with pytest.raises(RateLimitedError):
        site.read(Bug, f"{server.url}/1.0/bugs/2")
    assert server.traffic.requests == 1


def test_nothing_is_tried_for_ever(server: FakeServer, site: LaunchpadSite) -> None:
    server.faults.add("503:1")
    with pytest.raises(SourceUnavailableError, match=r"launchpad: GET .*/1\.0/bugs/1"):
        site.read(Bug, bug_url(server))
    assert server.traffic.requests == 5


def test_the_library_too_waits_no_longer_than_we_do(
    server: FakeServer, site: LaunchpadSite
) -> None:
    server.faults.add("503:1")
    with pytest.raises(SourceUnavailableError):
        site.search_url("~ann", "searchTasks", "1.0")
    assert server.traffic.requests == 5


def test_one_refusal_of_the_token_is_not_believed_and_a_second_is(
    server: FakeServer, site: LaunchpadSite
) -> None:
    site.read(Bug, bug_url(server))
    server.faults.add("expired-token:1:1")
    assert site.read(Bug, bug_url(server)).id == 1
    server.faults.add("expired-token:1:9")
    with pytest.raises(CredentialsError, match="expired token") as caught:
        site.read(Bug, bug_url(server))
    assert "a-token-key" not in str(caught.value)


def test_what_is_missing_is_asked_for_twice(server: FakeServer, site: LaunchpadSite) -> None:
    with pytest.raises(UnreadableError) as caught:
        site.read(Bug, f"{server.url}/1.0/bugs/99")
    assert caught.value.status == 404
    assert not caught.value.may_be_credentials
    assert server.traffic.requests == 2


def test_a_link_that_moves_in_circles_ends(server: FakeServer, site: LaunchpadSite) -> None:
    archive = server.service.archive  # type: ignore[attr-defined]
    archive.renamed |= {"bugs/1": "bugs/2", "bugs/2": "bugs/1"}
    with pytest.raises(SourceProtocolError, match="circles"):
        site.read(Bug, bug_url(server))


def test_a_body_that_does_not_fit_is_a_broken_promise(
    server: FakeServer, site: LaunchpadSite
) -> None:
    with pytest.raises(SourceProtocolError, match=r"launchpad: /1\.0/bugs/1 answered 200"):
        site.read(int, bug_url(server))


def test_searches_are_worded_as_the_library_words_them(site: LaunchpadSite) -> None:
    url = site.search_url("~ann", "searchTasks", "1.0", status=["New"], omit_duplicates=False)
    assert url is not None
    assert "ws.op=searchTasks" in url
    assert "status=%5B%22New%22%5D" in url
    assert "omit_duplicates=false" in url
    sorted_url = site.search_url("~ann", "searchQuestions", "devel", sort="oldest first")
    assert sorted_url is not None
    assert "sort=oldest+first" in sorted_url
    assert site.search_url("~ann", "searchQuestions", "1.0") is None


def test_the_service_tells_which_statuses_there_are(site: LaunchpadSite) -> None:
    assert "Won't Fix" in site.options("bug_task", "status", "1.0")
    assert "Superseded" in site.options("branch_merge_proposal", "queue_status", "1.0")
    assert "Answered" in site.options("question", "status", "devel")
    assert site.options("question", "status", "1.0") == []


def test_each_request_waits_for_its_turn(server: FakeServer, site: LaunchpadSite) -> None:
    reserved = 0

    def reserve(turns: int) -> timedelta:
        nonlocal reserved
        reserved += turns
        return timedelta(0)

    with rate_limited(RateLimiter(1_000, reserve)) as requests:
        site.read(Bug, bug_url(server))
        site.search_url("~ann", "searchTasks", "1.0")
    assert requests.count == server.traffic.requests == 3
    assert reserved >= 3


def test_a_token_signs_each_request_anew(server: FakeServer) -> None:
    token = {"consumer_key": "app", "access_token_key": "key", "access_token_secret": "secret"}
    server.service.accepted = {"app:key:secret"}  # type: ignore[attr-defined]
    server.faults.add("503:1:2")
    site = site_of(server, **token)
    assert site.read(Bug, bug_url(server)).id == 1  # the fake takes no nonce twice
    headers = [each.request.headers["authorization"] for each in server.traffic.requested()]
    assert len(set(headers)) == len(headers) == 3
    site.close()
