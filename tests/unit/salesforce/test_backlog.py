"""What is planned for which window, and into which slices."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise

import pytest

from temporaletl import ETLInput, Window
from temporaletl.messages import Mode
from temporaletl.queuer.division import EPOCH
from tests.fakes.salesforce import Org, generate
from tests.fakes.salesforce.service import error
from tests.fakes.server import FakeServer
from tests.integration.job_reading import NOW, Serve, corrupt, plan_of, read
from tests.integration.salesforce_reading import STREAMS, holds, jobs_of, served

__all__ = ["served"]

START = datetime(2023, 1, 1, tzinfo=UTC)


@pytest.fixture
def server(served: Serve) -> FakeServer:
    return served(generate(60, seed=1))


def by_object(jobs: Sequence[ETLInput]) -> list[list[ETLInput]]:
    def of(job: ETLInput) -> str:
        return f"{job.params['object']} {job.params['deleted']}"

    return [list(found) for _, found in groupby(sorted(jobs, key=of), of)]


def planned(mode: str, **more: object) -> set[tuple[object, ...]]:
    names = ("object", "stamp", "deleted", "bounded")
    jobs = jobs_of(mode, **more)  # type: ignore[arg-type]
    return {tuple(job.params[name] for name in names) for job in jobs}


@pytest.mark.parametrize(
    ("mode", "start", "stamp"),
    [
        ("full", None, "CreatedDate"),
        ("incremental", None, "CreatedDate"),
        ("incremental", START, "SystemModstamp"),
    ],
)
@pytest.mark.usefixtures("server")
def test_every_object_of_a_stream_is_a_job(mode: str, start: datetime, stamp: str) -> None:
    assert planned(mode, start=start, streams=("cases",)) == {
        ("Case", stamp, False, False),
        ("CaseHistory", "CreatedDate", False, True),
        ("CaseComment", stamp, False, False),
    }


def test_a_backfill_looks_for_creations_and_for_deletions(served: Serve) -> None:
    served(generate(200, seed=7))
    assert planned("backfill", start=START, streams=("cases",)) == {
        ("Case", "CreatedDate", False, True),
        ("Case", "SystemModstamp", True, True),
        ("CaseHistory", "CreatedDate", False, True),
        ("CaseComment", "CreatedDate", False, True),
    }


@pytest.mark.usefixtures("server")
def test_only_the_streams_that_were_asked_for_are_planned() -> None:
    assert {job.stream for job in jobs_of(streams=("tasks", "events"))} == {"tasks", "events"}
    assert {job.stream for job in jobs_of()} == set(STREAMS)


def test_employees_are_rows_of_the_object_that_is_set(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SF_EMPLOYEE_OBJECT", "Employee__c")
    expected = {("Employee__c", "SystemModstamp", False, False)}
    assert planned("full", streams=("employees",)) == expected
    assert not server.traffic.requested()


def test_an_empty_window_is_no_job_and_no_request(server: FakeServer) -> None:
    assert jobs_of("incremental", start=NOW, end=NOW) == []
    assert not server.traffic.requested()


@pytest.mark.usefixtures("server")
def test_jobs_carry_their_window_and_what_a_person_set() -> None:
    for job in jobs_of("incremental", start=START, page_size=300):
        assert job.window == Window(start=START, end=NOW)
        assert job.params["page_size"] == 300
    assert plan_of("salesforce", ["cases"]).windows["cases"].start is None


@pytest.mark.parametrize(
    ("mode", "start"), [("full", None), ("incremental", START), ("backfill", START)]
)
@pytest.mark.parametrize("faults", [(), ("ties:0.5",), ("changing-rows:0.2",)])
async def test_slices_meet_and_hold_every_row_once(
    served: Serve, mode: Mode, start: datetime | None, faults: tuple[str, ...]
) -> None:
    org = generate(60, seed=1)
    served(org, *faults)
    jobs = jobs_of(mode, start=start, rows_per_job=25)
    whole = Window(start=start, end=NOW)
    for of_object in by_object(jobs):
        slices = sorted(of_object, key=lambda job: job.window.start or EPOCH)
        assert slices[0].window.start == whole.start
        assert slices[-1].window.end == whole.end
        assert all(one.window.end == other.window.start for one, other in pairwise(slices))
        assert all(each.params["bounded"] for each in slices[:-1])
    assert len(jobs) > 16
    found = await read(jobs)
    assert holds(found, org)
    if mode != "backfill" and not (faults and start):  # a row that changes moves to the last slice
        assert set(found.records.values()) == {1}


async def test_a_stamp_on_the_edge_of_two_slices_is_in_the_second(served: Serve) -> None:
    org, edges = Org(), [START + timedelta(minutes=n) for n in range(120)]
    by_the_ms = (timedelta(0), timedelta(milliseconds=1), timedelta(milliseconds=-1))
    for at in edges:
        for beside in by_the_ms:
            org.add("Task", at + beside, Subject="x")
    served(org)
    jobs = jobs_of("incremental", start=START - timedelta(days=1), rows_per_job=20)
    assert len(jobs) > 10
    cuts = {job.window.start for job in jobs} - {START - timedelta(days=1)}
    assert all(cut.microsecond == cut.second == 0 for cut in cuts if cut)
    assert cuts & {*edges}
    found = await read(jobs)
    assert len(found.records) == len(org.all("Task"))
    assert set(found.records.values()) == {1}


def test_an_object_of_few_pages_is_one_job_and_is_counted_once(served: Serve) -> None:
    server = served(generate(60, seed=1), SF_PAGE_SIZE="200")
    jobs = jobs_of()
    assert len(jobs) == 8
    assert all(job.params["counted"] for job in jobs)
    assert server.traffic.count("/queryAll") == 8


def org_of_tasks(*per_month: int) -> Org:
    org = generate(0)
    for number, rows in enumerate(per_month):
        month = datetime(2023, 1 + number, 1, tzinfo=UTC)
        for row in range(rows):
            org.add("Task", month + row * timedelta(days=27) / rows, Subject="x")
    return org


@pytest.mark.parametrize(
    ("per_month", "jobs", "requests"),
    [
        ([40] * 10, 10, 1),  # as many as keep the requests busy, after a single answer
        ([80, 40], 2, 1),  # what is a little more than a job's is not counted again for that
        ([160, 10, 10, 10, 10], 5, 8),  # a month of very many is
    ],
)
def test_months_are_counted_in_one_request_and_only_large_ones_further(
    served: Serve, per_month: list[int], jobs: int, requests: int
) -> None:
    server = served(org_of_tasks(*per_month))
    planned = jobs_of(streams=("tasks",))
    assert len(planned) == jobs
    assert server.traffic.count("/queryAll") == requests


async def test_the_jobs_of_most_rows_come_first(served: Serve) -> None:
    org = org_of_tasks(10, 70, 30, 60)
    for number in range(50):
        org.add("Event", START + timedelta(hours=number), Subject="x")
    served(org)
    rows = [sum((await read([job])).records.values()) for job in jobs_of()]
    assert rows == [70, 60, 50, 30, 10]


@pytest.mark.parametrize("code", ["QUERY_TIMEOUT", "MALFORMED_QUERY"])
async def test_what_is_not_counted_by_months_is_counted_and_divided_by_time(
    served: Serve, code: str
) -> None:
    org = generate(60, seed=1)
    server = served(org)
    refusal = error(400, code, "no groups")
    corrupt(server, lambda r, a: refusal if "GROUP BY" in r.first("q") else a)
    jobs = jobs_of(rows_per_job=25)
    assert len(jobs) > 16
    found = await read(jobs)
    assert holds(found, org)
    assert set(found.records.values()) == {1}


def test_without_rows_there_is_no_job(served: Serve) -> None:
    served(generate(0))
    assert jobs_of() == []


async def test_what_cannot_be_counted_is_one_job_that_tells(served: Serve) -> None:
    org = generate(60, seed=1)
    org.absent.add("CaseComment")
    served(org, "query-timeout:each")
    jobs = jobs_of(rows_per_job=25, streams=("cases",))
    assert [job.params["counted"] for job in jobs] == [False] * 3


async def test_slices_of_many_rows_are_read_in_bulk(served: Serve) -> None:
    org = generate(60, seed=1)
    server = served(org, SF_BULK_ABOVE_ROWS="10")
    found = await read(jobs_of(rows_per_job=25))
    assert holds(found, org)
    assert set(found.records.values()) == {1}
    assert server.traffic.count("/results") > 12
