"""The Bulk API 2.0: large jobs of source `salesforce`, against the fake org."""

from datetime import timedelta

import pytest

from temporaletl import ConfigurationError, ETLInput, NotReadyError, SourceProtocolError
from temporaletl.external.salesforce.org import close_orgs
from temporaletl.worker.sources.salesforce import extract
from temporaletl.worker.sources.salesforce.bulk import BulkJobFailedError
from tests.fakes.salesforce import generate
from tests.fakes.salesforce.service import OWN_FAULTS, SalesforceService
from tests.fakes.server import FakeServer
from tests.integration.job_reading import (
    QUICK,
    Read,
    Serve,
    abandon_second_page,
    pages_of,
    read,
    resumed_everywhere,
    spread,
)
from tests.integration.salesforce_reading import holds, jobs_of, served
from tests.waiting import until

__all__ = ["served"]

BULK = {"SF_BULK_ABOVE_ROWS": "10", "SF_BULK_PAGE_ROWS": "25"}


def service_of(server: FakeServer) -> SalesforceService:
    assert isinstance(server.service, SalesforceService)
    return server.service


def cases(jobs: list[ETLInput]) -> ETLInput:
    return next(job for job in jobs if job.params["object"] == "Case")


async def test_the_bulk_path_gives_the_same_rows_as_rest(served: Serve) -> None:
    org = generate(120, seed=1)
    served(org)
    by_rest = await read(jobs_of())
    close_orgs()
    server = served(org, **BULK)
    jobs = jobs_of()
    planned = server.traffic.count("queryAll")
    in_bulk = await read(jobs)
    assert in_bulk.events == by_rest.events
    assert holds(in_bulk, org)
    assert set(in_bulk.records.values()) == {1}
    assert service_of(server).job_numbers == len(jobs) >= 8
    # Beside counts and probes, nothing was read by REST.
    assert server.traffic.count("queryAll") == planned + 2 * len(jobs)


async def test_only_jobs_of_many_rows_are_done_in_bulk(served: Serve) -> None:
    org = generate(40, seed=2)
    server = served(org, SF_BULK_ABOVE_ROWS=str(len(org.all("CaseHistory")) - 1))
    assert holds(await read(jobs_of()), org)
    assert service_of(server).job_numbers == 1
    close_orgs()
    assert holds(await read(jobs_of(bulk_above_rows=10_000)), org)
    assert service_of(server).job_numbers == 1


OWN = [kind for kind in OWN_FAULTS if kind not in {"bulk-failed", "bulk-aborted"}]


@pytest.mark.parametrize("kinds", [QUICK, *zip(OWN)], ids="+".join)
async def test_no_fault_hides_anything_in_bulk(served: Serve, kinds: tuple[str, ...]) -> None:
    org = generate(60, seed=3)
    server = served(org, *spread(kinds), seed=3, **BULK)
    found = await read(jobs_of())
    assert holds(found, org)
    assert not found.rejects
    assert server.traffic.during_pause == 0
    assert kinds != QUICK or server.faults.injected.keys() == set(QUICK)


async def test_reading_goes_on_within_the_job_that_is_there(served: Serve) -> None:
    org = generate(100, seed=5)
    server = served(org, **BULK)
    job = cases(jobs_of(rows_per_job=1_000))
    begun = service_of(server).job_numbers
    async for before, rest in resumed_everywhere(job):
        assert before.events.keys().isdisjoint(rest.events)
    assert len(before.cursors) == 5  # the job's creation, and four pieces
    assert service_of(server).job_numbers == begun + 2


async def test_the_next_piece_is_requested_before_anybody_wants_it(served: Serve) -> None:
    server = served(generate(100, seed=5), **BULK)
    async with pages_of(cases(jobs_of(rows_per_job=1_000))) as pages:
        begun, first = [await anext(pages) for _ in range(2)]
        assert (len(begun.records), len(first.records)) == (0, 25)
        await until(lambda: server.traffic.count("/results") >= 2)


async def test_a_job_that_is_gone_is_begun_anew(served: Serve) -> None:
    org = generate(100, seed=6)
    server = served(org, **BULK)
    job = cases(jobs_of(rows_per_job=1_000))
    found = Read()
    async with pages_of(job) as pages:
        async for page in pages:
            found.add(job, page)
            if len(found.cursors) == 3:
                break
    service_of(server).jobs.clear()
    async with pages_of(job, found.cursors[-1]) as pages:
        async for page in pages:
            found.add(job, page)
    assert len(found.records) == 100
    assert service_of(server).job_numbers == 2


async def test_results_that_are_always_gone_fail_the_job(served: Serve) -> None:
    served(generate(30, seed=7), "bulk-gone:1", **BULK)
    with pytest.raises(SourceProtocolError, match="gone before they were read"):
        await read([cases(jobs_of(rows_per_job=1_000))])


@pytest.mark.parametrize(
    ("kind", "words"), [("bulk-failed", "Failed: QUERY_TIMEOUT"), ("bulk-aborted", "Aborted")]
)
async def test_a_job_that_fails_is_an_error_and_not_an_empty_success(
    served: Serve, kind: str, words: str
) -> None:
    served(generate(30, seed=8), f"{kind}:1", **BULK)
    with pytest.raises(BulkJobFailedError, match=rf"Case ended as {words}.*SF_BULK_ABOVE_ROWS"):
        await read([cases(jobs_of(rows_per_job=1_000))])


async def test_a_slow_job_is_waited_for_in_bounded_looks(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = generate(30, seed=9)
    server = served(org, **BULK)
    service_of(server).bulk_looks = 12
    monkeypatch.setattr(extract, "_LOOK", timedelta(seconds=0.01))
    found = await read([cases(jobs_of(rows_per_job=1_000))])
    assert len(found.records) == 30
    # Whoever waits does not keep the other jobs from asking, and is not taken to stand still.
    assert {type(error) for error in found.interruptions} == {NotReadyError}
    texts = [str(cursor) for cursor in found.cursors]
    assert len(texts) > 3
    assert len(set(texts)) == len(texts)
    assert service_of(server).job_numbers == 1


async def test_a_job_that_takes_for_ever_is_aborted(served: Serve) -> None:
    server = served(generate(30, seed=9), SF_BULK_TIMEOUT_MINUTES="0.0001", **BULK)
    service = service_of(server)
    service.bulk_looks = 10_000
    with pytest.raises(ConfigurationError, match="SF_BULK_TIMEOUT_MINUTES"):
        await read([cases(jobs_of(rows_per_job=1_000))])
    assert [job.state for job in service.jobs.values()] == ["Aborted"]


async def test_fields_that_the_user_may_not_see_are_left_out_in_bulk(served: Serve) -> None:
    org = generate(30, seed=10)
    org.hidden = {("Case", "Description"), ("User", "TimeZoneSidKey")}
    served(org, **BULK)
    found = await read(jobs_of())
    assert len(found.events) > 100
    assert {event.timezone for event in found.events.values()} == {"UTC"}


async def test_what_the_bulk_api_does_not_have_is_read_by_rest(served: Serve) -> None:
    org = generate(30, seed=10)
    org.not_in_bulk = {"CaseHistory"}
    server = served(org, **BULK)
    assert holds(await read(jobs_of()), org)
    assert {job.query.object for job in service_of(server).jobs.values()} >= {"Case", "Task"}
    assert all(job.query.object != "CaseHistory" for job in service_of(server).jobs.values())


async def test_rows_too_many_to_be_counted_are_read_in_bulk(served: Serve) -> None:
    org = generate(30, seed=10)
    server = served(org, "query-timeout:1:7")  # of the planning, and of the job
    assert len((await read([cases(jobs_of(streams=("cases",)))])).records) == 30
    assert service_of(server).job_numbers == 1


async def test_a_session_that_ends_during_a_bulk_job_is_renewed(served: Serve) -> None:
    org = generate(100, seed=11)
    server = served(org, **BULK)
    service = service_of(server)
    job = cases(jobs_of(rows_per_job=1_000))
    found = Read()
    async with pages_of(job) as pages:
        async for page in pages:
            found.add(job, page)
            service.doors.sessions.clear()
    assert len(found.records) == 100
    assert service.doors.opened <= 6


async def test_an_abandoned_bulk_extraction_ends_at_once(served: Serve) -> None:
    server = served(generate(60, seed=12), **BULK)
    job = cases(jobs_of(rows_per_job=1_000))
    await abandon_second_page(job, server, "/jobs/query")
