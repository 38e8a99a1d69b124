"""Source `jira` against the fake site, over real HTTP, from the backlog to events."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl import (
    ConfigurationError,
    ETLInput,
    Window,
)
from temporaletl.external.jira.site import close_sites
from temporaletl.messages import Mode
from temporaletl.queuer.sources.jira.inputs import expand_backlog
from temporaletl.queuer.sources.jira.params import describe_backlog
from temporaletl.worker.sources.jira import transform
from temporaletl.worker.sources.jira.extract import issues
from tests.fakes.jira import expected_counts, generate, serve
from tests.fakes.jira.load import load
from tests.fakes.jira.service import OWN_FAULTS
from tests.fakes.jira.site import Limits, Site
from tests.integration.job_reading import (
    NO_TIMEOUT,
    NOW,
    QUICK,
    Read,
    Serve,
    hold_until_in_flight,
    plan_of,
    read,
    resumes_everywhere,
    serving,
    spread,
)

#: Importing them registers the strategies.
REGISTERED = (issues, transform)
BOTH = pytest.mark.parametrize("personality", ["cloud", "server"])
#: Small answers, so that few issues already need every kind of paging.
SMALL = Limits(
    inline_comments=4, inline_worklogs=3, detail_page=20, bulk_page=60, bulk_page_most=60
)
LONG_AGO = datetime(2023, 1, 1, tzinfo=UTC)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Serve a site, and set the environment so that the source reads it."""

    def variables(site: Site, url: str) -> dict[str, str]:
        credentials = (
            {"JIRA_EMAIL": "a@example.com", "JIRA_API_TOKEN": "x"}
            if site.cloud
            else {"JIRA_PERSONAL_TOKEN": "x"}
        )
        usual = {"JIRA_READ_TIMEOUT_SECONDS": NO_TIMEOUT, "JIRA_PAGE_SIZE": "20"}
        return {"JIRA_URL": url, **usual, **credentials}

    with serving(monkeypatch, tmp_path, serve, OWN_FAULTS, variables) as start:
        yield start
        close_sites()


async def jobs_of(mode: Mode = "full", **more: Any) -> list[ETLInput]:
    plan = plan_of("jira", ["issues"], mode, **more)
    jobs = expand_backlog(plan, await describe_backlog(plan))
    # Which issues are deleted is checked by itself: see test_jira_deletions.
    return [job for job in jobs if not job.scan]


def matches(found: Read, site: Site) -> bool:
    """Whether exactly the events there are were found."""
    types, counted = found.types, expected_counts(site)
    changed = sum(count for kind, count in types.items() if kind.endswith("_changed"))
    got = (
        types["issue_created"],
        changed,
        types["comment_created"],
        types["comment_updated"],
        types["worklog_created"],
        types["worklog_updated"],
    )
    return len(found.events) == counted.events and got == (
        counted.issues_created,
        counted.changelog_items,
        counted.comments_created,
        counted.comments_edited,
        counted.worklogs_created,
        counted.worklogs_edited,
    )


@BOTH
async def test_a_full_read_finds_everything_once(served: Serve, personality: str) -> None:
    site = generate(300, seed=1, personality=personality, limits=SMALL)
    served(site)
    jobs = await jobs_of(issues_per_job=90)
    assert len(jobs) > 3
    found = await read(jobs)
    assert matches(found, site)
    assert set(found.records.values()) == {1}
    assert not found.rejects


@BOTH
async def test_one_job_keeps_every_request_that_is_allowed_in_use(
    served: Serve, personality: str
) -> None:
    """What completes a page waits here until so much is under way, else for 10 seconds."""
    site = generate(120, seed=1, personality=personality, limits=SMALL)
    server = served(site, JIRA_CONCURRENCY="6")
    (job,) = await jobs_of()
    all_in_use = hold_until_in_flight(server, 6, passing=("search", "serverInfo"))
    assert matches(await read([job], size=10), site)
    assert all_in_use.is_set()
    assert server.traffic.most_in_flight == 6


@BOTH
@pytest.mark.parametrize("mode", ["full", "incremental"])
@pytest.mark.parametrize("kinds", [QUICK, *zip(OWN_FAULTS)], ids="+".join)
async def test_no_fault_hides_anything(
    served: Serve, personality: str, kinds: tuple[str, ...], mode: Mode
) -> None:
    site = generate(60, seed=2, personality=personality, limits=SMALL)
    server = served(site, *spread(kinds))
    start = LONG_AGO if mode == "incremental" else None
    found = await read(await jobs_of(mode, start=start), size=12)
    assert matches(found, site)
    assert server.traffic.during_pause == 0
    assert kinds != QUICK or server.faults.injected.keys() == set(QUICK)


@BOTH
@pytest.mark.parametrize(
    "faults",
    [
        ("changing-rows:0.3", "short-page:0.2", "empty-page:0.2"),
        ("expired-page-token:0.2", "repeated-page-token:0.2", "total-too-large:0.2"),
    ],
)
async def test_faults_within_a_long_run_of_ties_hide_nothing(
    served: Serve, personality: str, faults: tuple[str, ...]
) -> None:
    site = generate(80, seed=4, personality=personality, limits=SMALL)
    server = served(site, "ties:0.8", *faults)
    found = await read(await jobs_of("incremental", start=LONG_AGO), size=8)
    assert matches(found, site)
    assert sum(server.faults.injected.values()) > 0


@BOTH
async def test_reading_goes_on_from_every_cursor(served: Serve, personality: str) -> None:
    site = generate(60, seed=5, personality=personality, limits=SMALL)
    served(site, "ties:0.4")
    for mode, start in (("full", None), ("incremental", LONG_AGO)):
        (job,) = await jobs_of(mode, start=start)  # type: ignore[arg-type]
        assert await resumes_everywhere(job, 9) > 1


@BOTH
async def test_an_incremental_read_has_what_changed_and_no_upper_bound(
    served: Serve, personality: str
) -> None:
    site = generate(120, seed=6, personality=personality)
    served(site)
    times = sorted(row.updated for row in site.rows)
    start = datetime.fromtimestamp(times[-30] / 1000, UTC)
    site.edit.touch(site.rows[0].id, at=int((NOW + timedelta(days=1)).timestamp() * 1000))
    found = await read(await jobs_of("incremental", start=start, issues_per_job=10))
    expected = {str(row.id) for row in site.rows if row.updated >= start.timestamp() * 1000}
    assert expected <= set(found.records)
    assert len(found.records) < 40
    assert str(site.rows[0].id) in found.records


@BOTH
async def test_a_backfill_reads_every_issue_that_may_have_an_event_in_it(
    served: Serve, personality: str
) -> None:
    site = generate(200, seed=7, personality=personality)
    served(site)
    window = Window(
        start=datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC), end=datetime(2024, 3, 1, tzinfo=UTC)
    )
    assert window.end is not None
    everything = await read(await jobs_of())
    jobs = await jobs_of("backfill", start=window.start, end=window.end, issues_per_job=30)
    found = await read(jobs)
    wanted = {id_ for id_, event in everything.events.items() if event.event_time_utc in window}
    assert wanted
    assert wanted <= set(found.events)
    assert len(found.records) < len(everything.records)


@BOTH
async def test_filters_hold_for_the_count_and_the_pages(served: Serve, personality: str) -> None:
    site = generate(120, seed=8, personality=personality)
    project = site.rows[0].project
    served(site, JIRA_JQL=f"project = {project} OR project = {project}")
    found = await read(await jobs_of(jql="issuetype is not EMPTY"))
    assert set(found.records) == {str(row.id) for row in site.rows if row.project == project}


@BOTH
async def test_a_query_that_jira_refuses_is_a_setting_to_correct(
    served: Serve, personality: str
) -> None:
    served(generate(5, seed=1, personality=personality), JIRA_JQL="colour = red")
    with pytest.raises(ConfigurationError, match=r"colour.*JIRA_JQL"):
        await jobs_of()


@BOTH
async def test_an_issue_deleted_after_it_was_found_is_as_it_was_found(
    served: Serve, personality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(30, seed=9, personality=personality, limits=SMALL)
    served(site)
    gone = str(site.rows[3].id)
    find = site.find
    monkeypatch.setattr(site, "find", lambda text: None if text == gone else find(text))
    found = await read(await jobs_of())
    assert found.records[gone] == 1
    assert len(found.records) == 30


RECORDED = ["devlake_cloud_issues", "jirametrics_issues", "tidev_issues"]


def counted(path: Path) -> tuple[int, int, int]:
    """Count issues, changed fields and comments in a file, by their own ids."""
    issues: set[str] = set()
    histories: dict[tuple[str, str], int] = {}
    comments: set[tuple[str, str]] = set()
    for line in path.read_bytes().splitlines():
        each = json.loads(line)
        issues.add(each["id"])
        for history in (each.get("changelog") or {}).get("histories", ()):
            histories[each["id"], history["id"]] = len(history["items"])
        for comment in (each["fields"].get("comment") or {}).get("comments", ()):
            comments.add((each["id"], comment["id"]))
    return len(issues), sum(histories.values()), len(comments)


@BOTH
@pytest.mark.parametrize("name", RECORDED)
async def test_recorded_issues_are_found_whole(
    served: Serve, recorded: Path, personality: str, name: str
) -> None:
    path = recorded / "jira" / f"{name}.jsonl"
    site = load([path], personality=personality, limits=SMALL)
    served(site)
    found = await read(await jobs_of())
    types = found.types
    changed = sum(count for kind, count in types.items() if kind.endswith("_changed"))
    assert (types["issue_created"], changed, types["comment_created"]) == counted(path)
    assert matches(found, site)
    assert not found.rejects
