"""The backlog as ranges, and those as jobs."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from temporaletl import ConfigurationError, Plan, Window
from temporaletl.external.jira.site import IssueRange, as_ms
from temporaletl.messages import Mode
from temporaletl.queuer.sources.jira import params
from temporaletl.queuer.sources.jira.division import Counts, divide, issues_per_job
from temporaletl.queuer.sources.jira.inputs import expand_backlog
from temporaletl.queuer.sources.jira.params import Backlog, range_of
from temporaletl.worker.sources.jira.query import JiraQuery
from tests.integration import job_reading

NOW = datetime(2025, 3, 1, 12, 0, 30, tzinfo=UTC)
MINUTE = 60_000


class CountedSite:
    """Counts issues created and updated at the given times; Cloud counts loosely."""

    def __init__(self, times: list[int], *, cloud: bool = False, factor: float = 1) -> None:
        self.times = times
        self.cloud = cloud
        self.factor = factor
        self.counts = 0
        self.shows = True  # its first and its last issue

    def count(self, issues: IssueRange) -> int:
        self.counts += 1
        return int(len(self.held(issues)) * self.factor)

    def held(self, issues: IssueRange) -> list[int]:
        jql = issues.jql()
        low = [int(each) for each in re.findall(r">= (-?\d+)", jql)]
        high = [int(each) for each in re.findall(r"< (-?\d+)", jql)]
        return [
            time
            for time in self.times
            if all(time >= each for each in low) and all(time < each for each in high)
        ]

    def ends(self, issues: IssueRange) -> tuple[int, int] | None:
        times = self.held(issues)
        return (min(times), max(times)) if times else None

    async def start(self, function: Any, *args: Any) -> Any:
        return await asyncio.to_thread(function, *args)


def divided(
    site: CountedSite, whole: IssueRange, size: int, *, now: datetime = NOW
) -> tuple[IssueRange, ...]:
    async def count(issues: IssueRange) -> int:
        return site.count(issues)

    async def ends(issues: IssueRange) -> tuple[int, int] | None:
        return site.ends(issues) if site.shows else None

    counts = Counts(count, ends, exact=not site.cloud)
    return asyncio.run(divide(counts, whole, as_ms(now), lambda _: size))


SPREAD = [as_ms(datetime(2020, 1, 1, tzinfo=UTC)) + n * 7_777_777 for n in range(10_000)]
CROWDED = [as_ms(datetime(2024, 1, 1, tzinfo=UTC)) + n // 50 * 500 for n in range(10_000)]


OLD = [as_ms(datetime(1930, 1, 1, tzinfo=UTC)) + n * 77_777_777 for n in range(3_000)]


@pytest.mark.parametrize("times", [SPREAD, CROWDED, SPREAD + CROWDED, OLD, OLD[:200] + SPREAD])
@pytest.mark.parametrize("factor", [1, 0.9, 1.2])
@pytest.mark.parametrize("shows", [True, False])
def test_ranges_hold_every_issue_once(times: list[int], factor: float, *, shows: bool) -> None:
    site = CountedSite(times, cloud=True, factor=factor)
    site.shows = shows
    ranges = divided(site, IssueRange("created"), 1_000)
    held = [time for each in ranges for time in site.held(each)]
    assert sorted(held) == sorted(times)
    assert ranges[0].from_ms is None
    assert ranges[-1].to_ms is None
    assert [each.to_ms for each in ranges[:-1]] == [each.from_ms for each in ranges[1:]]
    assert site.counts < 400


def test_ranges_are_of_a_size() -> None:
    site = CountedSite(SPREAD)
    sizes = [len(site.held(each)) for each in divided(site, IssueRange("created"), 1_000)]
    assert max(sizes) <= 1_000
    assert len(sizes) <= 20


def test_ranges_of_issues_from_before_1970_are_of_a_size_too() -> None:
    site = CountedSite(OLD + SPREAD)
    sizes = [len(site.held(each)) for each in divided(site, IssueRange("created"), 1_000)]
    assert max(sizes) <= 1_000
    assert sum(sizes) == 13_000


def test_a_later_batch_has_the_same_bounds() -> None:
    site, later = CountedSite(SPREAD), NOW + timedelta(days=40)
    ranges = divided(site, IssueRange("created"), 1_000)
    assert divided(site, IssueRange("created"), 1_000, now=later) == ranges


@pytest.mark.parametrize(
    ("count", "size"), [(100, 500), (5_000, 500), (12_000, 1_000), (40_000, 4_000), (10**6, 4_000)]
)
def test_jobs_are_as_large_as_keeps_every_request_busy(count: int, size: int) -> None:
    assert issues_per_job(count, 6) == size


def test_the_parts_of_a_range_are_counted_at_once() -> None:
    site, begun, waves = CountedSite(SPREAD), 0, 0

    async def count(issues: IssueRange) -> int:
        nonlocal begun, waves
        begun += 1
        waves += begun == site.counts + 1  # the first of those that wait together
        await asyncio.sleep(0)
        return site.count(issues)

    async def ends(issues: IssueRange) -> tuple[int, int] | None:
        return site.ends(issues)

    counts = Counts(count, ends, exact=True)
    asyncio.run(divide(counts, IssueRange("created"), as_ms(NOW), lambda _: 999))
    assert waves <= 3 < site.counts / 6


def test_bounds_that_are_given_stay() -> None:
    low, high = SPREAD[100] // MINUTE * MINUTE, SPREAD[9_000] // MINUTE * MINUTE
    ranges = divided(CountedSite(SPREAD), IssueRange("created", from_ms=low, to_ms=high), 1_000)
    assert (ranges[0].from_ms, ranges[-1].to_ms) == (low, high)


def test_few_issues_are_one_range() -> None:
    site = CountedSite(SPREAD[:100])
    assert divided(site, IssueRange("created"), 1_000) == (IssueRange("created"),)
    assert site.counts == 1


def test_only_an_exact_count_can_say_that_there_is_nothing() -> None:
    assert divided(CountedSite([]), IssueRange(), 10) == ()
    assert divided(CountedSite([], cloud=True), IssueRange(), 10) == (IssueRange(),)


START = datetime(2025, 2, 1, 10, 0, 59, 999_000, tzinfo=UTC)
END = datetime(2025, 2, 2, 10, 0, 0, 1_000, tzinfo=UTC)
FLOOR, CEILING = as_ms(START) // MINUTE * MINUTE, as_ms(END) // MINUTE * MINUTE + MINUTE


@pytest.mark.parametrize(
    ("mode", "start", "expected"),
    [
        ("full", None, IssueRange("created")),
        ("incremental", None, IssueRange("created")),
        ("incremental", START, IssueRange("updated", from_ms=FLOOR)),
        ("backfill", START, IssueRange("created", to_ms=CEILING, updated_from_ms=FLOOR)),
        ("backfill", None, IssueRange("created", to_ms=CEILING)),
    ],
)
def test_each_mode_has_its_range(mode: str, start: datetime | None, expected: IssueRange) -> None:
    assert range_of(Window(start=start, end=END), mode, ()) == expected


def plan_of(mode: Mode, **given: Any) -> Plan:
    start = NOW - timedelta(days=1)
    return job_reading.plan_of("jira", ["issues"], mode, **{"start": start, "end": NOW, **given})


async def test_jobs_say_what_the_worker_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [as_ms(NOW) - n * MINUTE for n in range(500)]
    site = CountedSite(times)
    monkeypatch.setenv("JIRA_URL", "https://jira.example")
    monkeypatch.setenv("JIRA_PERSONAL_TOKEN", "x")
    monkeypatch.setenv("JIRA_JQL", "project = A")
    monkeypatch.setattr(params, "open_site", lambda _: site)
    plan = plan_of("incremental", jql="labels = x", issues_per_job=100)
    backlog = await params.describe_backlog(plan)
    jobs = list(expand_backlog(plan, backlog))
    assert 5 <= len(jobs) <= 10
    assert all(job.window == plan.windows["issues"] for job in jobs)
    read = [JiraQuery.from_dict(job.params).issues("project = A") for job in jobs]
    assert tuple(read) == backlog.ranges
    assert read[0].filters == ("project = A", "labels = x")
    assert (read[0].order, read[-1].to_ms) == ("updated", None)


async def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(ConfigurationError, match="projects"):
        await params.describe_backlog(plan_of("full", projects=["A"]))
    with pytest.raises(ConfigurationError, match="ORDER BY"):
        await params.describe_backlog(plan_of("full", jql="project = A order by key"))


async def test_a_batch_without_the_stream_has_no_backlog() -> None:
    plan = job_reading.plan_of("jira", [])
    assert await params.describe_backlog(plan) == Backlog(())


async def test_an_empty_window_asks_jira_nothing() -> None:
    time = NOW - timedelta(days=400)
    plan = plan_of("incremental", start=time, end=time)
    assert await params.describe_backlog(plan) == Backlog(())
