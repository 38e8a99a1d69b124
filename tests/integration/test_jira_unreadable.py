"""Source `jira`: what Jira cannot show costs no more than itself, over real HTTP."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from temporaletl import SourceUnavailableError
from temporaletl.errors import SourceProtocolError
from tests.fakes.jira import generate
from tests.fakes.jira.service import JiraService
from tests.fakes.jira.site import Site
from tests.fakes.server import FakeServer, Request, Response
from tests.integration.job_reading import Read, pages_of, read
from tests.integration.test_jira_account import service_of
from tests.integration.test_jira_deletions import gone
from tests.integration.test_jira_source import BOTH, LONG_AGO, SMALL, jobs_of, matches, served

__all__ = ["served"]

Serve = Callable[..., FakeServer]
MODES = pytest.mark.parametrize("mode", ["full", "incremental"])


def corrupt(
    monkeypatch: pytest.MonkeyPatch, path: str, change: Callable[[Response], Response | None]
) -> list[str]:
    """Change the answers to a path; returns the paths that were changed, as they are asked."""
    answer, corrupted = JiraService.answer, list[str]()

    def changed(self: JiraService, request: Request) -> Response:
        given = answer(self, request)
        if not re.search(path, request.path):
            return given
        corrupted.append(request.path)
        return change(given) or given

    monkeypatch.setattr(JiraService, "answer", changed)
    return corrupted


def said(body: object, status: int = 200) -> Callable[[Response], Response]:
    return lambda _: Response.of(body, status)


ERROR = {"errorMessages": ["Internal error"], "errors": {}}


async def jobs_in(mode: Any) -> Any:
    return await jobs_of(mode, start=LONG_AGO if mode == "incremental" else None)


def lacks(found: Read, site: Site, *ids: int) -> bool:
    """Whether all issues but these were found."""
    return set(found.records) == {str(row.id) for row in site.rows} - {str(id_) for id_ in ids}


@BOTH
@MODES
async def test_an_issue_that_no_search_can_show_is_read_by_itself(
    served: Serve, personality: str, mode: str
) -> None:
    site = generate(100, seed=5, personality=personality, limits=SMALL)
    service = service_of(served(site))
    service.unrenderable = {site.rows[0].id, site.rows[41].id, site.rows[42].id, site.rows[99].id}
    found = await read(await jobs_in(mode), size=10)
    assert matches(found, site)
    assert not found.rejects
    assert not found.interruptions


@BOTH
@MODES
async def test_an_issue_that_nothing_can_show_is_a_reject_with_its_key(
    served: Serve, personality: str, mode: str
) -> None:
    site = generate(100, seed=5, personality=personality, limits=SMALL)
    service = service_of(served(site))
    bad = [site.rows[17], site.rows[60]]
    service.unrenderable = {row.id for row in bad}
    service.unrenderable_in = "/api/./search|/issue/"
    found = await read(await jobs_in(mode), size=10)
    assert lacks(found, site, *service.unrenderable)
    assert {each.key for each in found.rejects} == {row.key for row in bad}
    assert all("cannot be read" in each.reason for each in found.rejects)
    service.unrenderable = set()
    assert matches(await read(await jobs_in(mode), size=10), site)


@BOTH
async def test_an_issue_that_fails_with_its_fields_alone_is_a_reject_and_soon_known(
    served: Serve, personality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(60, seed=5, personality=personality, limits=SMALL)
    served(site)
    bad = site.rows[23]
    mark = f'"key":"{bad.key}"'.encode()

    def fail(given: Response) -> Response | None:
        fails = mark in given.body and b'"summary"' in given.body
        return Response.of(ERROR, 500) if fails else None

    corrupted = corrupt(monkeypatch, "/search|/issue/", fail)
    found = await read(await jobs_of(), size=20)
    assert lacks(found, site, bad.id)
    assert [each.key for each in found.rejects] == [bad.key]
    assert sum("/search" in path for path in corrupted) < 40


@BOTH
async def test_among_issues_of_the_same_time_the_one_that_fails_is_found(
    served: Serve, personality: str
) -> None:
    site = generate(60, seed=4, personality=personality, limits=SMALL)
    server = served(site, "ties:0.8")
    service_of(server).unrenderable = {site.rows[50].id}
    found = await read(await jobs_in("incremental"), size=8)
    assert matches(found, site)


@BOTH
async def test_an_issue_whose_key_cannot_be_found_out_is_a_reject_with_its_time(
    served: Serve, personality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(60, seed=5, personality=personality, limits=SMALL)
    service = service_of(served(site))
    service.unrenderable = {site.rows[30].id}
    corrupt(monkeypatch, "/project", said(ERROR, 404))
    found = await read(await jobs_of(), size=10)
    [reject] = found.rejects
    assert str(site.rows[30].created) in reject.reason
    assert set(found.records) >= {
        str(row.id) for row in site.rows if row.created != site.rows[30].created
    }


@BOTH
async def test_a_site_that_fails_altogether_makes_no_rejects(
    served: Serve, personality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(generate(30, seed=1, personality=personality))
    [job] = await jobs_of()
    corrupted = corrupt(monkeypatch, "/search|/issue|/changelog", said(ERROR, 503))
    async with pages_of(job) as pages:
        with pytest.raises(SourceUnavailableError, match="503"):
            await anext(pages)
    assert len(corrupted) < 20


@BOTH
async def test_a_deletion_scan_is_not_stopped_by_what_no_search_can_show(
    served: Serve, personality: str
) -> None:
    site = generate(60, seed=4, personality=personality, limits=SMALL)
    service_of(served(site)).unrenderable = {site.rows[20].id}
    assert await gone(*(str(row.id) for row in site.rows), "7") == ["7"]


LISTS = pytest.mark.parametrize("kind", ["comment", "worklog", "changelog"])
#: What a list of one issue may fail with; none of it is an empty list.
FAILED = pytest.mark.parametrize(
    "answer",
    [said({}), said(ERROR), said(ERROR, 500), said(ERROR, 404), said({"total": 3})],
    ids=["{}", "error in a success", "500", "404", "without its list"],
)


@LISTS
@FAILED
async def test_a_list_that_cannot_be_read_is_no_empty_list(
    served: Serve,
    kind: str,
    answer: Callable[[Response], Response],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = generate(30, seed=2, personality="cloud", limits=SMALL)
    served(site)
    whole = await read(await jobs_of())
    row = site.rows[11]
    for entry in range(30):
        site.edit.add_comment(row.id, f"{entry}")
        site.edit.add_worklog(row.id, seconds=60)
    if kind == "changelog":
        corrupt(monkeypatch, "/changelog/bulkfetch", said(ERROR, 500))
    corrupt(monkeypatch, f"/issue/{row.id}/{kind}$", answer)
    found = await read(await jobs_of())
    assert not found.interruptions
    assert lacks(found, site)
    [reject] = found.rejects
    assert reject.key == row.key
    names = {"comment": "comments", "worklog": "worklogs", "changelog": "histories"}
    assert names[kind] in reject.reason
    assert "could not be read" in reject.reason
    # What is stored of that list stays; of every other it is known.
    assert f"{row.id}:{kind}:" not in found.complete
    assert f"{site.rows[3].id}:comment:" in found.complete
    assert set(found.events) >= {
        id_ for id_ in whole.events if not id_.startswith(f"{row.id}:{kind}")
    }


async def test_a_reject_tells_how_much_of_its_lists_an_issue_lacks(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(5, seed=2, personality="cloud")
    served(site)
    row = site.rows[2]
    with site.lock:
        issue = site.pin(row)
        issue.comments, issue.worklogs = [], []
        site.changed(row)
    for _ in range(250):
        site.edit.add_comment(row.id, "b")
    for _ in range(60):
        site.edit.add_worklog(row.id, seconds=60)
    corrupt(monkeypatch, r"/issue/\d+/(comment|worklog)$", said(ERROR, 404))
    found = await read(await jobs_of())
    [reject] = [each for each in found.rejects if each.key == row.key]
    assert "150 of 250 comments, 40 of 60 worklogs could not be read" in reject.reason
    loaded = [e.event_type for e in found.events.values() if e.parent_item_id == row.key]
    assert (loaded.count("comment_created"), loaded.count("worklog_created")) == (100, 20)


async def test_one_comment_that_cannot_be_shown_hides_no_other(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(5, seed=2, personality="cloud", limits=SMALL)
    served(site)
    row = site.rows[2]
    for number in range(130):
        site.edit.add_comment(row.id, f"text {number}.")

    def fail(given: Response) -> Response | None:
        return Response.of(ERROR, 500) if b"text 77." in given.body else None

    corrupt(monkeypatch, f"/issue/{row.id}/comment$", fail)
    found = await read(await jobs_of())
    said_ = [
        str(each.event_properties["body"])
        for each in found.events.values()
        if each.event_type == "comment_created" and each.parent_item_id == row.key
    ]
    expected = {f"text {number}." for number in range(130)} - {"text 77."}
    assert expected <= set(said_)
    [reject] = found.rejects
    assert "1 of" in reject.reason
    assert "at place" in reject.reason


@pytest.mark.parametrize("body", [{}, ERROR, {"issueChangeLogs": None}])
async def test_changelogs_that_bulk_does_not_tell_are_asked_for_one_by_one(
    served: Serve, body: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(20, seed=2, personality="cloud", limits=SMALL)
    served(site)
    corrupt(monkeypatch, "/changelog/bulkfetch", said(body))
    found = await read(await jobs_of())
    assert matches(found, site)


@BOTH
@pytest.mark.parametrize("body", [{}, ERROR, {"isLast": True}, {"issues": None, "total": 0}])
async def test_a_search_that_tells_no_issues_is_not_an_empty_one(
    served: Serve, personality: str, body: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(generate(20, seed=2, personality=personality))
    [job] = await jobs_of()
    corrupt(monkeypatch, r"/search(/jql)?$", said(body))
    async with pages_of(job) as pages:
        with pytest.raises(SourceProtocolError, match="search"):
            await anext(pages)
