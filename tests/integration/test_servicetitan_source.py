"""Source `servicetitan` against the fake tenant, over real HTTP, from the backlog to rows."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from temporaletl import (
    ETLInput,
    SourceProtocolError,
    SourceUnavailableError,
    TransformContext,
)
from temporaletl.messages import Mode
from temporaletl.strategies import resolve
from temporaletl.worker.loading.rejects import storable_json
from temporaletl.worker.sources.servicetitan.query import ServiceTitanQuery
from temporaletl.worker.transforming import Transformed, transform_record
from tests.fakes.servicetitan import expected_counts, generate, load
from tests.fakes.servicetitan.service import OWN_FAULTS
from tests.integration.job_reading import (
    QUICK,
    Serve,
    abandon_second_page,
    pages_of,
    read,
    resumes_everywhere,
    spread,
)
from tests.integration.servicetitan_reading import STREAMS, bare, is_whole, jobs_of, served

__all__ = ["served"]

BOTH = pytest.mark.parametrize("paging", ["export", "list"])
LONG_AGO = datetime(2018, 1, 1, tzinfo=UTC)


@BOTH
async def test_a_full_read_finds_everything_inactive_ones_as_well(
    served: Serve, paging: str
) -> None:
    tenant = generate(130, seed=1)
    served(tenant)
    found = await read(jobs_of(paging=paging))
    assert is_whole(found, tenant)
    counts = expected_counts(tenant)
    for stream in STREAMS:
        rows: list[Any] = list(found.rows[stream].values())
        assert len(rows) == counts.records[stream] == 130
        assert sum(not row.active for row in rows) == counts.inactive[stream] > 0
    invoices: list[Any] = list(found.rows["invoices"].values())
    assert sum((row.total for row in invoices), Decimal(0)) == counts.invoiced
    assert not found.rejects


async def test_a_feed_gives_each_record_once(served: Serve) -> None:
    tenant = generate(130, seed=1)
    server = served(tenant)
    found = await read(jobs_of(streams=["jobs"]))
    assert found.records.total() == 130
    assert server.traffic.count("export/jobs") == 7


async def test_a_list_is_walked_with_few_questions_more_than_it_has_pages(served: Serve) -> None:
    tenant = generate(130, seed=1)
    server = served(tenant)
    found = await read(jobs_of(streams=["jobs"], paging="list"))
    assert found.records.total() == 130
    # Two about the order, and a record of overlap on each page.
    assert server.traffic.count("/jobs") <= 2 + 8
    asked = server.traffic.requested("/jobs")
    assert {each.request.first("active") for each in asked} == {"Any"}


@BOTH
@pytest.mark.parametrize("mode", ["full", "incremental"])
@pytest.mark.parametrize("kinds", [QUICK, *zip(OWN_FAULTS)], ids="+".join)
async def test_no_fault_hides_anything(
    served: Serve, kinds: tuple[str, ...], mode: Mode, paging: str
) -> None:
    tenant = generate(70, seed=2)
    streams = ["customers", "invoices"]
    start = LONG_AGO if mode == "incremental" else None
    # What the feed withholds would be left to the next run.
    tenant.withheld_seconds = 0
    if "ties" in kinds:
        tenant.shape_ties(0.2, 1)
    served(tenant)
    expected = await read(jobs_of(mode, start=start, paging=paging, streams=streams))
    size = 2 if kinds == QUICK else 20  # requests enough for each of them
    server = served(
        tenant,
        *spread(kinds),
        seed=1,
        service={"export_rows": size},
        SERVICETITAN_PAGE_SIZE=str(size),
    )
    found = await read(jobs_of(mode, start=start, paging=paging, streams=streams))
    for stream in streams:
        assert bare(found.rows[stream]) == bare(expected.rows[stream])
        assert len(found.rows[stream]) == 70
    assert server.traffic.during_pause == 0
    assert kinds != QUICK or server.faults.injected.keys() == set(QUICK)
    assert not found.rejects


@pytest.mark.parametrize("kind", ["hang", "429-date"])
async def test_no_long_wait_hides_anything_of_a_list(served: Serve, kind: str) -> None:
    tenant = generate(60, seed=3)
    served(tenant, f"{kind}:0.2:3", SERVICETITAN_READ_TIMEOUT_SECONDS="0.5")
    assert is_whole(await read(jobs_of(paging="list")), tenant)


@pytest.mark.parametrize("order", ["kept", "ignored", "refused"])
@pytest.mark.parametrize(
    "faults",
    [
        (),
        ("unstable-ties:1", "short-page:0.2", "empty-page:0.2"),
        ("changing-rows:0.5", "more-at-end:0.5", "short-page:0.2"),
    ],
)
async def test_a_list_is_read_whole_whatever_becomes_of_its_order(
    served: Serve, order: str, faults: tuple[str, ...]
) -> None:
    tenant = generate(90, seed=4)
    tenant.shape_ties(0.6)
    streams = ["customers", "estimates"]
    served(tenant, *faults, service={"order": order}, SERVICETITAN_PAGE_SIZE="8")
    found = await read(jobs_of("incremental", start=LONG_AGO, paging="list", streams=streams))
    for stream in streams:
        assert set(found.rows[stream]) == set(tenant.collections[stream].rows)


async def test_a_list_that_counts_more_than_it_gave_is_read_again(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By id, and so also by time: nothing shows that the list ignores its order, but its end.
    tenant = generate(40, seed=5)
    collection = tenant.collections["customers"]
    rows = collection.sorted("id")
    for row in rows:
        tenant.change("customers", row, at=row.created)
    tenant.change("customers", rows[7], at=rows[-1].created + 1)
    server = served(tenant, SERVICETITAN_PAGE_SIZE="8", service={"order": "kept"})
    original = collection.sorted
    monkeypatch.setattr(collection, "sorted", lambda _order, *, salt: original("id", salt=salt))
    found = await read(jobs_of(paging="list", streams=["customers"]))
    assert set(found.rows["customers"]) == set(collection.rows)
    assert server.traffic.count("/customers") > 40 / 8 + 3


@BOTH
@pytest.mark.parametrize("order", ["kept", "ignored"])
async def test_reading_goes_on_from_every_cursor(served: Serve, paging: str, order: str) -> None:
    tenant = generate(60, seed=5)
    tenant.shape_ties(0.5)
    served(tenant, service={"order": order, "export_rows": 9}, SERVICETITAN_PAGE_SIZE="9")
    for mode, start in (("full", None), ("incremental", LONG_AGO)):
        (job,) = jobs_of(mode, start=start, paging=paging, streams=["jobs"])  # type: ignore[arg-type]
        assert await resumes_everywhere(job) > 4


async def test_an_export_that_has_ended_asks_nothing_more(served: Serve) -> None:
    server = served(generate(30, seed=1))
    (job,) = jobs_of(streams=["jobs"])
    found = await read([job])
    server.traffic.clear()
    async with pages_of(job, found.stream_cursors["jobs"][-1]) as pages:
        assert [page async for page in pages] == []
    assert server.traffic.requests == 0


@BOTH
async def test_an_empty_tenant_gives_no_rows(served: Serve, paging: str) -> None:
    served(generate(0))
    found = await read(jobs_of(paging=paging))
    assert is_whole(found, generate(0))


@BOTH
async def test_a_backfill_reads_every_record_that_may_have_changed_in_it(
    served: Serve, paging: str
) -> None:
    tenant = generate(200, seed=7)
    served(tenant)
    start, end = datetime(2021, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2021, 9, 1, tzinfo=UTC)
    found = await read(jobs_of("backfill", start=start, end=end, paging=paging))
    everything = await read(jobs_of(paging=paging))
    for stream in STREAMS:
        all_rows: dict[int, Any] = dict(everything.rows[stream])
        wanted = {
            id_
            for id_, row in all_rows.items()
            if row.modified_on >= start and row.created_on < end
        }
        assert wanted == set(found.rows[stream])
        assert 0 < len(wanted) < 200
    # The next incremental run must not go on where a backfill ended.
    assert all("reached" not in cursors[-1] for cursors in found.stream_cursors.values())


@BOTH
async def test_a_window_begins_with_the_moment_itself(served: Serve, paging: str) -> None:
    tenant = generate(40, seed=8)
    tenant.withheld_seconds = 0
    rows = tenant.collections["jobs"].sorted("modified")
    moment = datetime(2025, 8, 1, 12, 0, 0, 123456, tzinfo=UTC)
    exact = int(moment.timestamp()) * 10**7 + 1_234_560
    for row, at in zip(rows, (exact - 1, exact, exact + 1), strict=False):
        tenant.change("jobs", row, at=at)
    served(tenant)
    found = await read(jobs_of("incremental", start=moment, paging=paging, streams=["jobs"]))
    assert set(found.rows["jobs"]) == {rows[1].id, rows[2].id}


@BOTH
async def test_a_window_without_a_span_is_no_job(served: Serve, paging: str) -> None:
    server = served(generate(5))
    start = end = datetime(2025, 1, 1, tzinfo=UTC)
    assert jobs_of("incremental", start=start, end=end, paging=paging) == []
    assert server.traffic.requests == 0


async def test_one_job_for_each_stream_that_was_asked_for(served: Serve) -> None:
    served(generate(5))
    jobs = jobs_of("incremental", start=LONG_AGO, streams=["invoices", "jobs"])
    assert [job.stream for job in jobs] == ["invoices", "jobs"]
    assert jobs == jobs_of("incremental", start=LONG_AGO, streams=["invoices", "jobs"])
    assert {job.params["paging"] for job in jobs} == {"export"}


@BOTH
async def test_a_bad_record_is_a_reject_of_its_own(served: Serve, paging: str) -> None:
    tenant = generate(50, seed=9)
    tenant.withheld_seconds = 0
    invoices = tenant.collections["invoices"].sorted("modified")
    tenant.change("invoices", invoices[10], at=invoices[10].modified, total="12,50")
    tenant.change("invoices", invoices[20], at=invoices[20].modified, id="nine")
    tenant.change("invoices", invoices[30], at=invoices[30].modified, modifiedOn="yesterday")
    served(tenant)
    (job,) = jobs_of(paging=paging, streams=["invoices"])
    made = await transformed(job)
    assert len(made.rows) == 47
    rejects = {reject.key: reject for reject in made.rejects}
    total, id_, time = (rejects[f"INV-{invoices[n].number}"] for n in (10, 20, 30))
    assert (total.stage, id_.stage, time.stage) == ("extract", "extract", "transform")
    assert "$.total" in total.reason
    assert "$.id" in id_.reason
    assert time.reason == "modifiedOn is not a time: 'yesterday'"
    # Once corrected, what a reject kept becomes the row it should have been.
    for reject, corrected in ((total, {"total": "12.50"}), (id_, {"id": 9})):
        payload = json.loads(storable_json(reject.payload)) | corrected
        again = Transformed()
        context = TransformContext(job=job, query=ServiceTitanQuery(paging="export"))
        transform_record(resolve("servicetitan", "invoices"), context, payload, again)
        (row,) = again.rows
        assert not again.rejects
        assert row.reference_number == reject.key  # type: ignore[attr-defined]
    assert json.loads(storable_json(time.payload))["modifiedOn"] == "yesterday"


async def transformed(job: ETLInput) -> Transformed:
    """Read a job as a segment does."""
    made = Transformed()
    strategies = resolve("servicetitan", job.stream)
    async with pages_of(job) as pages:
        async for page in pages:
            made.rejects.extend(page.rejects)
            for record in page.records:
                context = TransformContext(job=job, query=ServiceTitanQuery(paging="export"))
                transform_record(strategies, context, record, made)
    return made


async def test_what_is_no_record_at_all_is_kept(served: Serve, tmp_path: Any) -> None:
    record = {"id": 1, "modifiedOn": "2024-01-01T00:00:00Z", "name": "A\u0000B", "balance": 10.10}
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"stream": "customers", "record": record}))
    served(load([path]))
    found = await read(jobs_of(streams=["customers"]))
    (row,) = found.rows["customers"].values()
    assert (row.balance, row.name) == (Decimal("10.1"), "A\u0000B")


async def test_a_feed_that_never_takes_its_tokens_is_a_broken_promise(served: Serve) -> None:
    server = served(generate(50, seed=1))
    server.service.feed_tokens_expired = True  # type: ignore[attr-defined]
    with pytest.raises(SourceProtocolError, match="export of jobs refuses its own tokens"):
        await read(jobs_of(streams=["jobs"]))


@BOTH
async def test_a_server_without_headway_is_given_up(served: Serve, paging: str) -> None:
    kind = "repeated-token" if paging == "export" else "empty-page"
    served(generate(50, seed=1), f"{kind}:1")
    (job,) = jobs_of(streams=["jobs"], paging=paging)
    with pytest.raises(SourceUnavailableError, match=r"leads in circles|gives nothing"):
        await transformed(job)


async def test_settings_reach_the_requests(served: Serve) -> None:
    server = served(generate(3), SERVICETITAN_INCLUDE_RECENT_CHANGES="true")
    await read(jobs_of(streams=["jobs"]))
    (asked,) = server.traffic.requested("export/jobs")
    assert asked.request.first("includeRecentChanges") == "true"
    await read(jobs_of(streams=["jobs"], paging="list", page_size=2))
    assert server.traffic.requested("/jobs")[-1].request.first("pageSize") == "2"


async def test_an_abandoned_list_ends_at_once(served: Serve) -> None:
    server = served(generate(60, seed=1))
    (job,) = jobs_of(streams=["jobs"], paging="list")
    await abandon_second_page(job, server, "/jobs", number=3)


async def test_pages_of_a_list_know_when_they_were_requested(served: Serve) -> None:
    served(generate(60, seed=1))
    (job,) = jobs_of(streams=["jobs"], paging="list")
    began = datetime.now(UTC)
    async with pages_of(job) as pages:
        times = [page.extracted_at async for page in pages]
    assert times == sorted(times)
    assert began <= times[0] <= datetime.now(UTC)
