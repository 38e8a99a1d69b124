"""One run after another on data that changes: together they hold what a full load would."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from temporaletl.external.servicetitan.settings import OVERLAP
from tests.fakes.server import FakeServer
from tests.fakes.servicetitan import Tenant
from tests.fakes.servicetitan.timestamps import SECOND, ticks
from tests.integration.job_reading import Serve
from tests.integration.servicetitan_reading import STREAMS, Runs, Time, is_whole, served, tenant_of

__all__ = ["served"]

BOTH = pytest.mark.parametrize("paging", ["export", "list"])


async def after_a_run(
    served: Serve, paging: str = "export"
) -> tuple[Time, Tenant, FakeServer, Runs]:
    time = Time()
    tenant = tenant_of(time)
    server = served(tenant)
    runs = Runs(time, paging)
    await runs.run()
    return time, tenant, server, runs


@BOTH
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_runs_after_each_other_hold_what_a_full_load_would(
    served: Serve, paging: str, seed: int
) -> None:
    time, drawn = Time(), random.Random(seed)  # noqa: S311
    tenant = tenant_of(time, seed=seed)
    served(tenant, service={"export_rows": 7}, SERVICETITAN_PAGE_SIZE="7")
    runs = Runs(time, paging)
    for _ in range(5):
        for stream in STREAMS:
            rows = list(tenant.collections[stream].rows.values())
            for row in drawn.sample(rows, 8):
                tenant.change(stream, row, summary=f"changed {drawn.random()}")
            tenant.deactivate(stream, drawn.choice(rows))
            tenant.add(stream, summary="new")
            tied = time()
            for row in drawn.sample(rows, 12):
                tenant.change(stream, row, at=tied, summary="all at once")
            time.pass_(seconds=drawn.randrange(200))
        await runs.run()
        time.pass_(minutes=drawn.randrange(20))
    time.pass_(hours=1)
    await runs.run()
    assert is_whole(runs.table, tenant)


@BOTH
async def test_what_is_stored_late_is_found_by_the_next_run(served: Serve, paging: str) -> None:
    time, tenant, _, runs = await after_a_run(served, paging)
    time.pass_(minutes=30)
    # A transaction that took long: its records bear times that were read up to already.
    late = time() - 50 * 60 * SECOND
    for stream in STREAMS:
        tenant.add(stream, at=late, summary="late")
        tenant.change(stream, next(iter(tenant.collections[stream].rows.values())), at=late)
    time.pass_(minutes=30)
    await runs.run()
    assert is_whole(runs.table, tenant)


@BOTH
async def test_records_of_the_moment_where_a_run_ended_are_not_lost(
    served: Serve, paging: str
) -> None:
    time, tenant, _, runs = await after_a_run(served, paging)
    assert runs.watermark is not None
    edge = ticks(runs.watermark)
    for at in (edge - 1, edge, edge + 1):
        tenant.add("jobs", at=at, summary="at the edge")
    time.pass_(hours=2)
    await runs.run()
    assert is_whole(runs.table, tenant)


async def test_deleted_records_arrive_as_inactive_through_the_feed(served: Serve) -> None:
    time, tenant, _, runs = await after_a_run(served)
    gone = next(row for row in tenant.collections["customers"].rows.values() if row.active)
    time.pass_(hours=1)
    tenant.delete("customers", gone)
    time.pass_(hours=1)
    found = await runs.run()
    row: Any = found.rows["customers"][gone.id]
    assert row.active is False
    assert is_whole(runs.table, tenant)


async def test_the_next_export_goes_on_with_the_last_token(served: Serve) -> None:
    time, _tenant, server, runs = await after_a_run(served)
    last = runs.table.last
    assert all(cursor["ended"] and cursor["token"] for cursor in last.values())
    server.traffic.clear()
    time.pass_(hours=1)
    found = await runs.run()
    # Nothing new: a token again, which is kept without a record.
    assert found.records.total() == 0
    asked = {each.request.first("from") for each in server.traffic.requested("export/")}
    assert asked == {cursor["token"] for cursor in last.values()}
    assert len(asked) == len(STREAMS)
    assert all(runs.table.last[stream]["token"] for stream in STREAMS)


async def test_a_token_that_has_expired_meanwhile_gives_way_to_the_date(served: Serve) -> None:
    time, tenant, server, runs = await after_a_run(served)
    watermark = runs.watermark
    service: Any = server.service
    service.expired_feed_tokens |= {cursor["token"] for cursor in runs.table.last.values()}
    tenant.add("jobs", summary="new")
    time.pass_(hours=1)
    server.traffic.clear()
    await runs.run()
    assert is_whole(runs.table, tenant)
    assert watermark is not None
    since = (watermark - OVERLAP).isoformat().replace("+00:00", "Z")
    asked = [each.request.first("from") for each in server.traffic.requested("export/jobs")]
    assert asked[1] == since


async def test_a_watermark_set_back_is_read_from(served: Serve) -> None:
    time, tenant, _, runs = await after_a_run(served)
    runs.watermark = datetime(2019, 1, 1, tzinfo=UTC)
    time.pass_(hours=1)
    found = await runs.run()
    assert is_whole(found, tenant)
    runs.watermark = None
    time.pass_(hours=1)
    assert is_whole(await runs.run(), tenant)


async def test_a_token_of_another_tenant_is_not_used(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    first, second = tenant_of(time), tenant_of(time, seed=2)
    second.number = 7654321
    served(first)
    runs = Runs(time, "export")
    await runs.run()
    server = served(second)
    time.pass_(hours=1)
    await runs.run()
    asked = [each.request.first("from") for each in server.traffic.requested("export/")]
    assert all(text.startswith("2025-") for text in asked)
    monkeypatch.setenv("SERVICETITAN_TENANT_ID", "1")


async def test_the_way_of_paging_can_change_from_run_to_run(served: Serve) -> None:
    time = Time()
    tenant = tenant_of(time)
    served(tenant)
    runs = Runs(time, "export")
    for paging in ("export", "list", "export", "export", "list"):
        runs.paging = paging
        await runs.run()
        tenant.add("invoices", summary=paging)
        time.pass_(minutes=45)
    await runs.run()
    assert is_whole(runs.table, tenant)


@BOTH
async def test_records_changed_while_they_are_read_are_had_in_the_end(
    served: Serve, paging: str
) -> None:
    time = Time()
    tenant = tenant_of(time, records=80)
    server = served(
        tenant,
        "changing-rows:0.6",
        "unstable-ties:1",
        "ties:0.4",
        service={"export_rows": 7},
        SERVICETITAN_PAGE_SIZE="7",
    )
    runs = Runs(time, paging)
    await runs.run()
    server.faults.clear()
    time.pass_(hours=1)
    await runs.run()
    assert is_whole(runs.table, tenant)
