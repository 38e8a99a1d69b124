"""Source `jira`: comments and worklogs whose lists contradict the issue, or may not be read."""

import re
from typing import Any

import pytest

from tests.fakes.jira import generate
from tests.fakes.jira.service import JiraService
from tests.fakes.server import Request, Response
from tests.integration.job_reading import read
from tests.integration.test_jira_source import BOTH, SMALL, jobs_of, served
from tests.integration.test_jira_unreadable import Serve, corrupt, said

__all__ = ["served"]

_LISTS = r"/issue/\d+/(comment|worklog)$"
_EMPTY: dict[str, Any] = {"comments": [], "worklogs": [], "startAt": 0, "maxResults": 100}
_CONTRADICTIONS = {"its own total": {"total": 250}, "no total": {}, "a total of none": {"total": 0}}


async def _wholes() -> tuple[set[str], list[str], str]:
    """Prefixes of the complete sets; the reasons of rejects; the notes."""
    found = await read(await jobs_of())
    assert not found.interruptions
    return found.complete, [reject.reason for reject in found.rejects], "; ".join(found.notes)


def _prefixes(paths: list[str]) -> set[str]:
    return {":".join([*path.split("/")[-2:], ""]) for path in paths}


@BOTH
@pytest.mark.parametrize("more", _CONTRADICTIONS.values(), ids=_CONTRADICTIONS)
async def test_a_list_that_shows_less_than_the_issue_counts_is_not_all_there_is(
    served: Serve, personality: str, more: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    served(generate(30, seed=2, personality=personality, limits=SMALL))
    before, _, silent = await _wholes()
    corrupted = corrupt(monkeypatch, _LISTS, said(_EMPTY | more))
    after, reasons, note = await _wholes()
    assert before >= _prefixes(corrupted) != set()
    assert after == before - _prefixes(corrupted)
    assert (reasons, silent) == ([], "")
    assert re.search(r"of \d+ issues Jira counts more than it shows \(\w+-\d+: \d+ of \d+ ", note)


@BOTH
async def test_a_list_that_the_account_may_not_read_costs_no_more_than_itself(
    served: Serve, personality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(30, seed=2, personality=personality, limits=SMALL)
    served(site)
    whole = await read(await jobs_of())
    refusal = said({"errorMessages": ["You may not see these"]}, 403)
    refused = corrupt(monkeypatch, r"/issue/\d*[34]/(comment|worklog)$", refusal)
    found = await read(await jobs_of())
    assert refused
    assert set(found.records) == set(whole.records)
    keys = {site.by_id[int(path.split("/")[-2])].key for path in refused}
    assert {reject.key for reject in found.rejects} == keys
    assert all("may not" in reject.reason for reject in found.rejects)


@BOTH
async def test_an_issue_that_nothing_but_a_search_shows_costs_no_other(
    served: Serve, personality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(40, seed=5, personality=personality, limits=SMALL)
    served(site)
    # A search shows no more of them, so the list is asked for.
    broken = next(row for row in site.rows if len(site.pin(row).worklogs) > SMALL.inline_worklogs)
    answer, asked = JiraService.answer, list[str]()

    def changed(self: JiraService, request: Request) -> Response:
        given = answer(self, request)
        itself = str(broken.id) in request.path.split("/")
        among = "bulkfetch" in request.path and str(broken.id).encode() in request.body
        if not (itself or among):
            return given
        asked.append(request.path)
        return Response.of({"errorMessages": ["Internal error"]}, 500)

    monkeypatch.setattr(JiraService, "answer", changed)
    found = await read(await jobs_of(), size=10)
    assert asked
    assert not found.interruptions
    assert set(found.records) == {str(row.id) for row in site.rows}
    [reject] = found.rejects
    assert reject.key == broken.key
    assert "the rest is loaded" in reject.reason
