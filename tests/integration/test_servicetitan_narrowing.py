"""Records that ServiceTitan cannot render: all others are loaded, and each of them is told."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes.exchange import Request, Response
from tests.fakes.servicetitan.timestamps import SECOND
from tests.integration.job_reading import Serve, read, resumed_everywhere
from tests.integration.servicetitan_reading import (
    POISONED,
    Runs,
    Time,
    ids,
    in_order,
    jobs_of,
    mark_of,
    poison,
    served,
    tenant_of,
    tenant_with,
)

__all__ = ["served"]

BOTH = pytest.mark.parametrize("paging", ["export", "list"])
LONG_AGO = datetime(2018, 1, 1, tzinfo=UTC)


@BOTH
@pytest.mark.parametrize("size", [1, 7, 50])
@pytest.mark.parametrize("place", [0, 1, 6, 31, 59])
async def test_one_record_costs_no_other(served: Serve, paging: str, size: int, place: int) -> None:
    tenant = tenant_with(60)
    server = served(tenant, service={"export_rows": 7}, SERVICETITAN_PAGE_SIZE=str(size))
    bad = in_order(tenant)[place]
    poison(server, tenant, bad)
    found = await read(jobs_of(streams=[POISONED], paging=paging))
    assert set(found.rows[POISONED]) == ids(tenant, bad)
    assert not found.interruptions
    reject, *others = found.rejects
    assert "cannot give one of the jobs" in reject.reason
    # Behind the last one the feed does not go on by date.
    assert len(others) == (paging == "export" and place == 59)
    assert "answered 500" in reject.reason
    assert reject.payload["stream"] == POISONED
    behind, followed = reject.payload["behind_id"], reject.payload["followed_by_id"]
    assert (behind or 0) < bad.id < (followed or bad.id + 1)
    # The last one is alone in the span that was left.
    assert behind or followed or (size, place) == (1, 59)


@BOTH
async def test_it_costs_a_bounded_number_of_questions(served: Serve, paging: str) -> None:
    tenant = tenant_with(600)
    server = served(tenant, service={"export_rows": 200}, SERVICETITAN_PAGE_SIZE="200")
    poison(server, tenant, in_order(tenant)[317])
    found = await read(jobs_of(streams=[POISONED], paging=paging))
    assert len(found.rows[POISONED]) == 599
    assert server.traffic.requests < 120


@BOTH
async def test_neighbours_are_told_one_by_one(served: Serve, paging: str) -> None:
    tenant = tenant_with(60)
    server = served(tenant, service={"export_rows": 7})
    rows = in_order(tenant)
    bad = [rows[10], rows[11], rows[40], rows[42]]
    poison(server, tenant, *bad)
    found = await read(jobs_of(streams=[POISONED], paging=paging))
    assert set(found.rows[POISONED]) == ids(tenant, *bad)
    assert len(found.rejects) == len(bad)


@BOTH
@pytest.mark.parametrize("order", ["kept", "ignored", "refused"])
@pytest.mark.parametrize("faults", [(), ("unstable-ties:1", "short-page:0.2"), ("502:0.1",)])
async def test_records_of_one_time_and_lists_without_an_order(
    served: Serve, paging: str, order: str, faults: tuple[str, ...]
) -> None:
    tenant = tenant_with(40, ties=0.5)
    server = served(
        tenant, *faults, service={"order": order, "export_rows": 9}, SERVICETITAN_PAGE_SIZE="9"
    )
    rows = in_order(tenant)
    bad = [rows[8], rows[30]]
    poison(server, tenant, *bad)
    found = await read(jobs_of("incremental", start=LONG_AGO, streams=[POISONED], paging=paging))
    assert set(found.rows[POISONED]) == ids(tenant, *bad)
    assert len(found.rejects) >= len(bad)


@BOTH
@pytest.mark.parametrize("seed", [1, 2, 3, 38, 57, 148])
async def test_no_fault_besides_hides_anything(served: Serve, paging: str, seed: int) -> None:
    tenant = tenant_with(80, ties=0.3)
    server = served(
        tenant,
        "502:0.1",
        "changing-rows:0.3",
        "unstable-ties:1",
        "more-at-end:0.3",
        "short-page:0.1",
        "empty-page:0.1",
        seed=seed,
        service={"export_rows": 7},
        SERVICETITAN_PAGE_SIZE="7",
    )
    rows = in_order(tenant)
    bad = [rows[5], rows[33]]
    poison(server, tenant, *bad)
    found = await read(jobs_of(streams=[POISONED], paging=paging))
    assert set(found.rows[POISONED]) == ids(tenant, *bad)
    assert found.rejects


@BOTH
@pytest.mark.parametrize("order", ["kept", "ignored"])
async def test_narrowing_goes_on_from_every_cursor(served: Serve, paging: str, order: str) -> None:
    tenant = tenant_with(36, ties=0.3)
    server = served(tenant, service={"order": order, "export_rows": 9}, SERVICETITAN_PAGE_SIZE="9")
    rows = in_order(tenant)
    bad = [rows[12], rows[30]]
    poison(server, tenant, *bad)
    (job,) = jobs_of(streams=[POISONED], paging=paging)
    async for first, rest in resumed_everywhere(job):
        assert set(first.rows[POISONED] | rest.rows[POISONED]) == ids(tenant, *bad)
        assert len(first.rejects + rest.rejects) >= len(bad)
    assert len(first.stream_cursors[POISONED]) >= 4


async def test_the_feed_goes_on_behind_it_and_keeps_its_token(served: Serve) -> None:
    tenant = tenant_with(60)
    rows = in_order(tenant)
    gone = rows[50]
    # Where it was, but only the feed still tells of it.
    gone.deleted = True
    server = served(tenant, service={"export_rows": 7})
    poison(server, tenant, rows[17])
    found = await read(jobs_of("incremental", start=LONG_AGO, streams=[POISONED]))
    assert set(found.rows[POISONED]) == ids(tenant, rows[17])
    assert found.rows[POISONED][gone.id].active is False
    assert found.last[POISONED]["token"]
    assert found.last[POISONED]["reached"]
    assert "around" not in found.last[POISONED]


async def test_a_record_whose_place_in_the_feed_is_not_that_of_its_time_costs_no_other(
    served: Serve,
) -> None:
    tenant = tenant_with(60)
    rows = in_order(tenant)
    bad = rows[17]
    bad.feed = rows[44].feed + 1
    server = served(tenant, service={"export_rows": 7})
    poison(server, tenant, bad)
    found = await read(jobs_of("incremental", start=LONG_AGO, streams=[POISONED]))
    assert set(found.rows[POISONED]) == ids(tenant, bad)
    told = {reject.payload.get("position") for reject in found.rejects}
    # Behind its time the feed fails once more, where the list shows no reason.
    assert len(told) == 2
    assert None in told


async def test_what_the_feed_alone_tells_is_told_as_a_whole(served: Serve) -> None:
    tenant = tenant_with(40)
    bad = in_order(tenant)[17]
    bad.deleted = True
    server = served(tenant, service={"export_rows": 7})
    poison(server, tenant, bad)
    found = await read(jobs_of("incremental", start=LONG_AGO, streams=[POISONED]))
    assert set(found.rows[POISONED]) == ids(tenant, bad)
    (reject,) = found.rejects
    assert "cannot give the rest of the export of jobs" in reject.reason
    assert reject.payload.keys() == {"stream", "export_from"}
    # The next one begins by date.
    assert found.last[POISONED].keys() == {"paging", "site", "ended"}


async def test_what_is_stored_late_is_not_lost_where_the_feed_was_left_at_its_end(
    served: Serve,
) -> None:
    time = Time()
    # The present is the real one: behind a date so near, the feed may still get what is older.
    time.now = datetime.now(UTC)
    tenant = tenant_of(time)
    server = served(tenant, service={"export_rows": 7}, SERVICETITAN_PAGE_SIZE="7")
    minute = 60 * SECOND
    recent = [tenant.add(POISONED, at=time() - (25 - n) * minute) for n in range(12)]
    for row in recent:
        row.feed = row.modified
    poison(server, tenant, recent[2])
    runs = Runs(time, "export")
    await runs.run()
    assert set(runs.table.rows[POISONED]) == ids(tenant, recent[2])
    assert "token" not in runs.table.last[POISONED]
    late = tenant.add(POISONED, at=recent[1].modified)
    late.feed = late.modified
    time.pass_(minutes=5)
    await runs.run()
    assert late.id in runs.table.rows[POISONED]
    assert set(runs.table.rows[POISONED]) == ids(tenant, recent[2])


@BOTH
async def test_a_record_that_is_well_again_is_loaded_by_the_next_run(
    served: Serve, paging: str
) -> None:
    time = Time()
    tenant = tenant_of(time)
    server = served(tenant, service={"export_rows": 7}, SERVICETITAN_PAGE_SIZE="7")
    runs = Runs(time, paging)
    await runs.run()
    for _ in range(3):
        time.pass_(hours=1)
        bad = tenant.add(POISONED, summary="bad")
        poison(server, tenant, bad)
        time.pass_(seconds=5)
        good = [tenant.add(POISONED, summary="good").id for _ in range(9)]
        time.pass_(hours=1)
        found = await runs.run()
        assert set(good) <= set(found.rows[POISONED])
        assert bad.id not in found.rows[POISONED]
        assert found.rejects
        late = tenant.add(POISONED, at=time() - 20 * 60 * SECOND, summary="late")
        time.pass_(minutes=20)
        await runs.run()
        assert late.id in runs.table.rows[POISONED]
        server.unservable.clear()
        tenant.change(POISONED, bad)
        time.pass_(hours=1)
        await runs.run()
        assert set(runs.table.rows[POISONED]) == ids(tenant)


@BOTH
async def test_a_record_that_spoils_the_whole_answer_is_gone_around_as_well(
    served: Serve, paging: str
) -> None:
    tenant = tenant_with(40)
    server = served(tenant, service={"export_rows": 7}, SERVICETITAN_PAGE_SIZE="9")
    bad = in_order(tenant)[12]
    mark = mark_of(tenant, bad)
    service: Any = server.service
    honest: Callable[[Request], Response] = service.answer

    def answer(request: Request) -> Response:
        given = honest(request)
        if mark in given.body:
            given.body = given.body[: given.body.index(mark) + 20]
        return given

    service.answer = answer
    found = await read(jobs_of(streams=[POISONED], paging=paging))
    assert set(found.rows[POISONED]) == ids(tenant, bad)
    (reject,) = found.rejects
    assert "no JSON" in reject.reason


@BOTH
async def test_an_answer_that_is_too_large_is_asked_for_in_parts(
    served: Serve, paging: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = tenant_with(60)
    rows = in_order(tenant)
    huge = rows[33]
    tenant.change(POISONED, huge, at=huge.modified, notes="x" * 40_000)
    huge.feed = huge.modified
    monkeypatch.setenv("ETL_ANSWER_LIMIT_MEGABYTES", "0.02")
    served(tenant, service={"export_rows": 5}, SERVICETITAN_PAGE_SIZE="50")
    found = await read(jobs_of(streams=[POISONED], paging=paging))
    assert set(found.rows[POISONED]) == ids(tenant, huge)
    (reject,) = found.rejects
    assert "ETL_ANSWER_LIMIT_MEGABYTES" in reject.reason
