"""Source `jira`: which of the issues that were loaded are gone."""

import contextlib
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import JsonValue

from temporaletl import ConfigurationError, CredentialsError, PageRequest, SourceProtocolError
from temporaletl.clock import use_clock
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import IssueRange, open_site
from temporaletl.messages import Mode
from temporaletl.queuer.scans import scan_jobs
from temporaletl.queuer.sources.jira.params import describe_backlog
from temporaletl.testing.scans import MemoryScan
from temporaletl.worker.scanning import scanned_pages
from temporaletl.worker.sources.jira.extract import id_listing
from temporaletl.worker.sources.jira.extract.client import JiraClient
from temporaletl.worker.sources.jira.extract.deletions import scan_issues
from temporaletl.worker.sources.jira.extract.keyset import KeysetPagination
from temporaletl.worker.sources.jira.extract.search_results import BARE_FIELDS
from temporaletl.worker.sources.jira.query import JiraQuery
from tests.fakes.jira import generate
from tests.fakes.jira.service import OWN_FAULTS
from tests.fakes.server import FakeServer
from tests.integration.job_reading import plan_of
from tests.integration.test_jira_source import BOTH, LONG_AGO, SMALL, served

__all__ = ["served"]

Serve = Callable[..., FakeServer]
FAULTS = ["503", "504", "reset", "expired-token", *OWN_FAULTS]


async def gone(*stored: str, mode: Mode = "full", **params: Any) -> list[str]:
    """The ids that a deletion scan finds gone among these."""
    start = LONG_AGO if mode == "incremental" else None
    plan = plan_of("jira", ["issues"], mode, start=start, **params)
    [job] = scan_jobs(plan, await describe_backlog(plan))
    scan = MemoryScan(lambda: [f"{each}:created" for each in stored])
    request = PageRequest(job=job, query=JiraQuery.from_dict(job.params))
    async with contextlib.aclosing(scanned_pages(scan_issues, scan, request)) as pages:
        async for page in pages:
            scan.take(page)
    return [prefix.removesuffix(":") for prefix in scan.deleted]


@BOTH
@pytest.mark.parametrize("mode", ["full", "incremental"])
async def test_issues_that_were_loaded_and_are_no_longer_there_are_found(
    served: Serve, personality: str, mode: Mode
) -> None:
    site = generate(60, seed=4, personality=personality, limits=SMALL)
    served(site, JIRA_FIND_DELETED="always")
    here = [str(row.id) for row in site.rows]
    assert await gone(*here, "7", "8", mode=mode) == ["7", "8"]
    assert await gone(*here, mode=mode) == []


@BOTH
@pytest.mark.parametrize("kind", FAULTS)
async def test_no_fault_makes_an_issue_look_gone(
    served: Serve, personality: str, kind: str
) -> None:
    site = generate(80, seed=4, personality=personality, limits=SMALL)
    served(site, f"{kind}:0.2")
    assert await gone(*(str(row.id) for row in site.rows), "7") == ["7"]


@BOTH
def test_ids_are_listed_in_parallel_and_from_every_position_on(
    served: Serve, personality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_IDS_AT_ONCE", "_ISSUES_AT_ONCE"):
        monkeypatch.setattr(id_listing, name, 40)
    site = generate(400, seed=4, personality=personality)
    everything = {str(row.id) for row in site.rows}
    server = served(site)
    server.latency_seconds = 0.05
    client = JiraClient(open_site(JiraSettings.load()))

    def listed(position: JsonValue = None) -> list[tuple[Collection[str], JsonValue]]:
        # The present time divides the stretches.
        with use_clock(lambda: datetime(2025, 1, 2, tzinfo=UTC)):
            return list(id_listing.list_ids(client, IssueRange("created"), position))

    pages = listed()
    assert server.traffic.most_in_flight > 3
    # Full answers, and of each stretch one that is not full, and an empty one behind it.
    assert server.traffic.count("search") < 400 // 40 + 2 * (400 // 40 + 1) + 5
    read: set[str] = set()
    for ids, position in pages:
        read.update(ids)
        assert read.union(*(more for more, _ in listed(position))) == everything
    # As it was kept by an earlier version, which read one stretch.
    kept = KeysetPagination(client, IssueRange("created"), 40, fields=BARE_FIELDS)
    first = kept.next()
    assert first is not None
    assert {*first.ids}.union(*(ids for ids, _ in listed(first.cursor))) == everything
    with pytest.raises(ConfigurationError, match="no cursor of a list of Jira's issues"):
        listed({"stretches": 7})


async def test_what_a_listing_leaves_out_is_asked_for_before_it_counts_as_gone(
    served: Serve,
) -> None:
    site = generate(40, seed=4, personality="cloud")
    here = [str(row.id) for row in site.rows]
    served(site, JIRA_JQL="created < 0")  # lists none
    assert await gone(*here, "7") == ["7"]


@BOTH
async def test_too_many_gone_issues_look_like_a_permission_taken_away(
    served: Serve, personality: str
) -> None:
    served(generate(10, seed=4, personality=personality))
    stored = [str(number) for number in range(1, 40)]
    with pytest.raises(SourceProtocolError, match=r"39 of the 39.*accept_deletions=true"):
        await gone(*stored)
    assert len(await gone(*stored, accept_deletions=True)) == 39


async def test_a_refused_account_does_not_make_issues_look_gone(served: Serve) -> None:
    server = served(generate(10, seed=4, personality="cloud"))
    server.service.forbidden = True  # type: ignore[attr-defined]
    with pytest.raises(CredentialsError):
        await gone("7")


@pytest.mark.parametrize(
    ("setting", "mode", "params", "asked"),
    [
        ("always", "incremental", {}, True),
        ("full", "incremental", {}, False),
        ("full", "full", {}, True),
        ("never", "full", {}, False),
        ("always", "backfill", {}, False),
        ("always", "full", {"jql": "updated >= 0"}, False),
    ],
)
async def test_deletions_are_looked_for_in_the_runs_that_ask_for_it(
    served: Serve, setting: str, mode: Mode, params: dict[str, Any], asked: bool
) -> None:
    served(generate(5, seed=4, personality="cloud"), JIRA_FIND_DELETED=setting)
    plan = plan_of("jira", ["issues"], mode, start=None if mode == "full" else LONG_AGO, **params)
    jobs = list(scan_jobs(plan, await describe_backlog(plan)))
    assert [job.scan for job in jobs] == [True] * asked
