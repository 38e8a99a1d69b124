"""Source `jira` from a dataset in a real Trino: the backlog, the issues, the people."""

import asyncio
import contextlib
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from temporaletl import (
    ConfigurationError,
    Identity,
    PageRequest,
    RecordError,
    TransformContext,
)
from temporaletl.queuer.sources.jira.people import identify
from temporaletl.testing.scans import MemoryScan
from temporaletl.worker.scanning import scanned_pages
from temporaletl.worker.sources.jira.extract.deletions import scan_issues
from temporaletl.worker.sources.jira.query import JiraQuery
from temporaletl.worker.sources.jira.transform import transform
from tests.fakes.jira import generate
from tests.integration.jira_dataset import (
    BOTH,
    DAY,
    SHORT,
    WHOLE,
    Dataset,
    copied,
    issue,
    jobs_of,
    over_the_api,
    read,
    without_api,
)
from tests.integration.job_reading import plan_of


@BOTH
@pytest.mark.parametrize("kind", ["varchar", "json"])
def test_the_dataset_gives_the_events_that_the_api_gives(
    dataset: Dataset, personality: str, kind: str
) -> None:
    site = generate(60, seed=1, personality=personality, limits=WHOLE)
    dataset.fill(copied(dataset.serve(site, with_credentials=True), site), kind=kind)
    expected = over_the_api(dataset, lambda: read(jobs_of()))
    without_api(dataset)
    found = read(jobs_of())
    assert found.events == expected.events
    assert sorted(found.records.elements()) == sorted(str(row.id) for row in site.rows)
    assert not found.rejects


@BOTH
def test_lists_that_the_dataset_cut_off_are_completed_over_the_api(
    dataset: Dataset, personality: str
) -> None:
    site = generate(50, seed=2, personality=personality, limits=SHORT)
    server = dataset.serve(site, with_credentials=True)
    issues = copied(server, site)
    for each in issues:
        each["changelog"]["histories"] = each["changelog"]["histories"][:2]
    dataset.fill(issues)
    expected = over_the_api(dataset, lambda: read(jobs_of()))
    found = read(jobs_of())
    assert found.events == expected.events
    assert not found.rejects


def test_without_the_api_what_is_there_is_loaded_and_what_is_missing_is_told(
    dataset: Dataset,
) -> None:
    site = generate(50, seed=2, personality="cloud", limits=SHORT)
    issues = copied(dataset.serve(site), site)
    dataset.fill(issues)
    found = read(jobs_of())
    assert found.records.total() == 50
    lacking = {}
    for each in issues:
        comment, worklog = each["fields"]["comment"], each["fields"]["worklog"]
        missing = []
        for listed, name in ((comment, "comments"), (worklog, "worklogs")):
            if listed["total"] > len(listed[name]):
                missing.append(f"{listed['total'] - len(listed[name])} of {listed['total']} {name}")
        if missing:
            lacking[each["key"]] = f"{', '.join(missing)} are not in the dataset"
    assert lacking
    assert {reject.key: reject.reason.split(";")[0] for reject in found.rejects} == lacking
    held = sum(len(each["fields"]["comment"]["comments"]) for each in issues)
    types = [event.event_type for event in found.events.values()]
    assert types.count("comment_created") == held
    (job,) = jobs_of()
    payload = json.loads(bytes(found.rejects[0].payload))
    # A replay cannot bring what is missing, and must not take the issue for whole.
    with pytest.raises(RecordError, match="were not all read"):
        transform(payload, TransformContext(job=job, query=JiraQuery()))


def test_a_time_with_any_offset_is_the_moment_it_means(dataset: Dataset) -> None:
    dataset.fill([issue(1, DAY)])
    (event,) = read(jobs_of()).events.values()
    assert event.event_time_utc == datetime(2024, 5, 1, 8, tzinfo=UTC)
    assert event.parent_item_id == "P-1"


def test_an_incremental_run_looks_back_as_far_as_the_dataset_may_be_late(
    dataset: Dataset,
) -> None:
    dataset.set(JIRA_TRINO_OVERLAP_HOURS="5")
    dataset.fill([issue(n, DAY + timedelta(hours=n)) for n in range(1, 25)])
    found = read(jobs_of("incremental", start=DAY + timedelta(hours=20)))
    assert sorted(map(int, found.records.elements())) == [*range(15, 25)]


def test_late_arrivals_and_changes_are_found_by_the_next_run(dataset: Dataset) -> None:
    old = [issue(n, DAY + timedelta(hours=n)) for n in range(30)]
    dataset.fill(old)
    first = read(jobs_of())
    late = issue(99, DAY + timedelta(hours=20))
    changed = issue(3, DAY + timedelta(hours=40), summary="changed")
    tied = [issue(n, DAY + timedelta(hours=40)) for n in (100, 101)]
    dataset.fill([*(each for each in old if each["id"] != "3"), late, changed, *tied])
    second = read(jobs_of("incremental", start=DAY + timedelta(hours=30)))
    whole = read(jobs_of())
    assert first.events | second.events == whole.events
    assert whole.records.total() == 33


@pytest.mark.parametrize("size", [1, 4])
def test_reading_goes_on_from_every_cursor_also_among_ties(dataset: Dataset, size: int) -> None:
    dataset.fill([issue(n, DAY + timedelta(hours=n // 5)) for n in range(12)])
    (job,) = jobs_of("incremental", start=DAY)
    whole = read([job], size=size)
    assert whole.records.total() == 12
    for pages in range(1, len(whole.cursors), 4 if size == 1 else 1):
        first = read([job], size=size, pages=pages)
        rest = read([job], size=size, cursor=first.cursors[-1])
        assert first.events | rest.events == whole.events


def test_a_backlog_is_divided_into_jobs_that_hold_every_issue_once(dataset: Dataset) -> None:
    dataset.fill(
        [issue(n, DAY, created=f"2024-0{1 + n % 9}-01T10:00:00.000+0000") for n in range(45)]
    )
    jobs = jobs_of(issues_per_job=10)
    assert len(jobs) > 3
    assert sorted(map(int, read(jobs).records.elements())) == [*range(45)]


def test_a_backfill_reads_what_may_have_happened_in_it(dataset: Dataset) -> None:
    dataset.fill(
        [
            issue(1, DAY, created="2024-01-01T00:00:00.000+0000"),
            issue(2, DAY, created="2025-09-01T00:00:00.000+0000"),
            issue(3, DAY - timedelta(days=90), created="2024-01-01T00:00:00.000+0000"),
        ]
    )
    found = read(jobs_of("backfill", start=DAY - timedelta(days=1), end=DAY + timedelta(days=1)))
    assert found.records == {"1": 1}


def test_nothing_new_is_no_job(dataset: Dataset) -> None:
    dataset.fill([issue(1, DAY)])
    assert jobs_of("incremental", start=DAY + timedelta(days=9)) == []


def test_a_backlog_counted_in_the_dataset_hides_nothing_from_the_api(dataset: Dataset) -> None:
    """The dataset may be behind: that it has nothing new says nothing about Jira."""
    site = generate(30, seed=3, personality="server")
    dataset.serve(site, with_credentials=True)
    dataset.fill([])
    dataset.set(JIRA_EXTRACT_FROM="api", JIRA_BACKLOG_FROM="trino")
    assert read(jobs_of()).records.total() == 30


def test_a_backlog_counted_by_the_api_can_be_read_from_the_dataset(dataset: Dataset) -> None:
    site = generate(30, seed=3, personality="cloud", limits=WHOLE)
    dataset.fill(copied(dataset.serve(site, with_credentials=True), site))
    dataset.set(JIRA_BACKLOG_FROM="api")
    jobs = jobs_of(issues_per_job=10)
    assert len(jobs) > 1
    assert sorted(read(jobs).records.elements()) == sorted(str(row.id) for row in site.rows)


def test_what_is_no_issue_is_rejected_and_kept(dataset: Dataset) -> None:
    good = issue(1, DAY)
    row = (good["id"], None, good["self"], json.dumps(good["fields"]), None)
    dataset.fill_rows(
        [
            row,
            ("2", "P-2", None, "{not json", None),
            ("3", "P-3", None, None, None),
            ("4", "P-4", None, '{"created": [], "updated": "never"}', None),
        ]
    )
    found = read(jobs_of())
    assert found.records == {"1": 1}
    assert {event.parent_item_id for event in found.events.values()} == {"1"}
    reasons = {reject.key: reject.reason for reject in found.rejects}
    assert set(reasons) == {"P-2", "P-3", "P-4"}
    assert reasons["P-3"] == "column fields is null"
    assert "fields.created" in reasons["P-4"]
    assert {r.key: r.payload["fields"] for r in found.rejects}["P-2"] == "{not json"


def test_half_an_emoji_costs_nothing_else(dataset: Dataset) -> None:
    text = json.dumps(issue(1, DAY, summary="half \ud83d one")["fields"])
    dataset.fill_rows([("1", "P-1", None, text, '{"histories": [], "total": 0}')])
    (event,) = read(jobs_of()).events.values()
    assert event.event_properties["summary"] == "half \ufffd one"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("1 AS id", "no column fields; it has id"),
        ("1 AS id, ROW(1) AS fields", "column fields is a row"),
    ],
)
def test_a_table_that_holds_no_issues_is_a_setting_to_correct(
    dataset: Dataset, columns: str, told: str
) -> None:
    dataset.trino.execute(f"CREATE TABLE {dataset.table} AS SELECT {columns}")
    with pytest.raises(ConfigurationError, match=rf"JIRA_TRINO_ISSUES\).*{told}"):
        jobs_of()


@pytest.mark.usefixtures("dataset")
def test_no_table_there_is_a_setting_to_correct() -> None:
    with pytest.raises(ConfigurationError, match=r"JIRA_TRINO_ISSUES.*does not exist"):
        jobs_of()


def test_a_jql_is_refused_where_nobody_understands_it(dataset: Dataset) -> None:
    dataset.fill([issue(1, DAY)])
    with pytest.raises(ConfigurationError, match="parameter jql"):
        jobs_of(jql="project = A")


def gone_of(stored: frozenset[str]) -> list[str]:
    async def run() -> list[str]:
        (job,) = jobs
        query = JiraQuery.from_dict(job.params)
        scan = MemoryScan(lambda: [f"{each}:created" for each in stored])
        request = PageRequest(job=job, query=query)
        async with contextlib.aclosing(scanned_pages(scan_issues, scan, request)) as pages:
            async for page in pages:
                scan.take(page)
        return [prefix.removesuffix(":") for prefix in scan.deleted]

    jobs = jobs_of(scan=True)
    return asyncio.run(run())


def test_issues_that_left_the_dataset_are_gone(dataset: Dataset) -> None:
    dataset.fill([issue(n, DAY) for n in range(1, 10)])
    assert gone_of(frozenset(map(str, range(1, 12)))) == ["10", "11"]


def test_jira_has_the_last_word_on_what_is_gone(dataset: Dataset) -> None:
    site = generate(9, seed=4, personality="cloud", limits=WHOLE)
    issues = copied(dataset.serve(site, with_credentials=True), site)
    dataset.fill(issues[2:])
    stored = frozenset({*(each["id"] for each in issues), "999999"})
    assert gone_of(stored) == ["999999"]


def people() -> list[Identity]:
    return list(identify(plan_of("jira", [])))


def test_people_come_from_the_dataset_where_issues_do(dataset: Dataset) -> None:
    users = f"memory.test.users_{uuid.uuid4().hex[:12]}"
    dataset.trino.execute(
        f"""
        CREATE TABLE {users} AS SELECT * FROM (VALUES
          ('a1', 'ada@example.com', 'Ada', 'Europe/Helsinki'), ('b2', NULL, NULL, 'Mars/Base'),
          (NULL, 'x@example.com', 'Nobody', NULL)
        ) AS t (accountId, email, display_name, timeZone)
        """
    )
    dataset.set(JIRA_TRINO_USERS=users)
    assert sorted(people(), key=lambda each: each.person) == [
        Identity(
            source_kind_id="jira",
            person="a1",
            email="ada@example.com",
            name="Ada",
            timezone="Europe/Helsinki",
        ),
        Identity(source_kind_id="jira", person="b2"),
    ]


def test_a_table_that_holds_no_people_is_a_setting_to_correct(dataset: Dataset) -> None:
    dataset.fill([])
    dataset.set(JIRA_TRINO_USERS=dataset.table.replace("issues_", "nobody_"))
    with pytest.raises(ConfigurationError, match=r"JIRA_TRINO_USERS.*does not exist"):
        people()


@pytest.mark.usefixtures("dataset")
def test_no_table_of_people_is_no_people() -> None:
    assert people() == []
