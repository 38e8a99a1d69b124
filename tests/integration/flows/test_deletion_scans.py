"""Deletion scans under Temporal: across segments and runs, and in nobody's way."""

from datetime import UTC, datetime
from typing import Any

import pytest

from temporaletl.accounts import AccountView, account_view, account_views
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.warehouse.state import read_states
from tests.integration.flows import numbers
from tests.integration.flows.services import Services, running


def ids(services: Services) -> list[str]:
    return [row[0] for row in services.rows("SELECT event_id FROM events ORDER BY event_id")]


def of_jobs(*jobs: int) -> list[str]:
    return sorted(f"{job}:{value}" for job in jobs for value in range(2))


async def test_what_is_listed_no_more_is_deleted(services: Services) -> None:
    await services.run(jobs=12, size=2)
    here = [job for job in range(12) if job not in (1, 7)]
    summary = await services.run(jobs=1, size=2, here=here)
    assert (summary.state, summary.deleted, summary.jobs.completed) == ("completed", 4, 2)
    assert ids(services) == of_jobs(*here)


async def test_a_scan_goes_on_over_any_number_of_segments(services: Services) -> None:
    await services.run(jobs=12, size=2)
    here = list(range(11))
    numbers.scanned.clear()
    async with running(services.client, services.warehouse, segment_seconds=0.000001) as hasty:
        summary = await hasty.run(jobs=0, size=2, here=here)
    assert (summary.state, summary.deleted) == ("completed", 2)
    # Nothing is listed twice but what was under way when a segment ended.
    assert sorted(set(numbers.scanned)) == here
    assert ids(services) == of_jobs(*here)


async def test_a_scan_whose_time_is_over_goes_on_in_the_next_run(services: Services) -> None:
    await services.run(jobs=5, size=2)
    async with running(
        services.client, services.warehouse, deletion_scan_minutes=0.0000001
    ) as hurried:
        for listed in (1, 2):
            summary = await hurried.run(jobs=0, size=2, here=[0, 1, 2, 3])
            assert (summary.state, summary.deleted) == ("completed", 0)
            (note,) = summary.notes
            assert f"goes on in the next run: {listed} are listed so far" in note.note
    summary = await services.run(jobs=0, size=2, here=[0, 1, 2, 3])
    assert (summary.state, summary.deleted, summary.notes) == ("completed", 2, ())
    assert ids(services) == of_jobs(0, 1, 2, 3)


async def test_daily_scans_go_on_in_incremental_runs_until_one_is_finished(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "scans_in", ["daily"])
    await services.run("incremental", jobs=3, size=2)
    numbers.scanned.clear()
    async with running(
        services.client, services.warehouse, deletion_scan_minutes=0.0000001
    ) as hurried:
        summary = await hurried.run("incremental", jobs=0, size=2, here=[0, 1])
        assert (summary.deleted, numbers.scanned) == (0, [0])
    for _ in range(2):
        await services.run("incremental", jobs=0, size=2, here=[0, 1])
    assert numbers.scanned == [0, 1]
    assert ids(services) == of_jobs(0, 1)
    services.rows_changed("UPDATE etl_scans SET finished_at = now() - interval '1 day'")
    await services.run("incremental", jobs=0, size=2, here=[0])
    assert ids(services) == of_jobs(0)


async def test_a_scan_that_fails_holds_no_watermark_back_and_deletes_nothing(
    services: Services,
) -> None:
    await services.run("incremental", jobs=3, size=2)
    before = datetime.now(UTC)
    summary = await services.run("incremental", jobs=3, size=2, here=[0], scan_fails=True)
    assert (summary.state, summary.jobs.completed, summary.jobs.failed) == ("failed", 3, 1)
    assert "the list cannot be had" in summary.failures[0].error
    (state,) = read_states(services.warehouse, "numbers")
    assert state.watermark is not None
    assert state.watermark > before
    assert ids(services) == of_jobs(0, 1, 2)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What the source's account sees at present."""
    containers = {"A", "B"}
    monkeypatch.setattr(account_views, "_entries", dict(account_views._entries))
    account_view("numbers")(lambda: AccountView("me", containers=frozenset(containers)))
    return containers


async def test_a_run_that_is_shown_less_loads_moves_no_watermark_and_deletes_nothing(
    services: Services, seen: set[str]
) -> None:
    async def run(*, fails: bool, **more: Any) -> tuple[BatchSummary, datetime | None]:
        request = QueuerInput(
            source="numbers", params={"jobs": 3, "size": 2, "here": [0, 1]}, **more
        )
        summary = await (await services.start(request)).result()
        assert (summary.state, summary.jobs.failed) == (
            ("failed", 1) if fails else ("completed", 0)
        )
        (state,) = read_states(services.warehouse, "numbers")
        return summary, state.watermark

    await services.run("incremental", jobs=3, size=2)
    _, before = await run(fails=False)
    seen.discard("B")
    summary, held = await run(fails=True)
    assert held == before
    assert "'B'" in summary.failures[0].error
    assert "the watermark stays" in summary.notes[0].note
    assert ids(services) == of_jobs(0, 1, 2)
    summary, moved = await run(fails=False, accept_view=True)
    assert moved is not None
    assert before is not None
    assert moved > before
    assert summary.notes == ()


async def test_a_run_that_is_shown_less_takes_no_list_for_complete(
    services: Services, seen: set[str]
) -> None:
    await services.run(jobs=2, size=3, complete=True)
    seen.discard("B")
    services.rows_changed("UPDATE etl_account_views SET containers = '{A,B}', accounts = '{me}'")
    summary = await services.run(jobs=2, size=3, complete=True, missing=1)
    assert (summary.state, summary.deleted) == ("completed", 0)
    assert "nothing is deleted" in summary.notes[0].note
    assert len(services.rows("SELECT FROM events")) == 6
    seen.add("B")
    summary = await services.run(jobs=2, size=3, complete=True, missing=1)
    assert (summary.deleted, summary.notes) == (2, ())
