from datetime import datetime
from typing import Any

import pytest

from temporaletl.messages import BatchMetadata, JobState, Mode, Window
from temporaletl.warehouse import ledger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.plans import JobWriter
from temporaletl.warehouse.state import (
    SyncState,
    advance,
    advance_loaded,
    read_states,
    set_watermark,
)
from tests.integration.warehouse.batches import HOUR, NOON, begin, finish, job, make_metadata, plan

START = NOON - 4 * HOUR


def run(
    warehouse: Warehouse,
    *ends: tuple[JobState, Window],
    metadata: BatchMetadata | None = None,
    cancelled: bool = False,
    error: str | None = None,
) -> None:
    """Run a batch whose jobs cover these windows and end so; advance, twice for good measure."""
    batch = metadata or make_metadata()
    jobs = [job(batch, number, window) for number, (_, window) in enumerate(ends)]
    for planned, (state, _) in zip(plan(warehouse, batch, jobs), ends, strict=True):
        ledger.end_job(warehouse, planned, state)
    summary = finish(warehouse, batch, cancelled=cancelled, error=error)
    advance(warehouse, batch, summary)
    advance(warehouse, batch, summary)


def states(warehouse: Warehouse) -> dict[str, SyncState]:
    return {state.stream: state for state in read_states(warehouse, "shop")}


def watermark(warehouse: Warehouse) -> datetime | None:
    return states(warehouse)["orders"].watermark


def hour(number: int) -> Window:
    """An hour of the batch's window, from 0 to 3."""
    return Window(start=START + number * HOUR, end=START + (number + 1) * HOUR)


@pytest.fixture
def _loaded_before(warehouse: Warehouse) -> None:
    """Everything before the batch's window is loaded."""
    set_watermark(warehouse, "shop", "orders", "default", START)


@pytest.mark.usefixtures("_loaded_before")
def test_a_completed_batch_moves_the_watermark_to_the_end_of_its_window(
    warehouse: Warehouse,
) -> None:
    run(warehouse, *[("completed", hour(number)) for number in range(4)])
    found = states(warehouse)["orders"]
    assert (found.watermark, found.state, found.batch_id) == (NOON, "completed", "shop-1")
    assert found.last_incremental_at is not None
    assert found.last_full_at is None


@pytest.mark.usefixtures("_loaded_before")
def test_the_watermark_moves_when_all_is_loaded_though_a_scan_goes_on(warehouse: Warehouse) -> None:
    batch = make_metadata()
    begin(warehouse, batch)
    advance_loaded(warehouse, batch.batch_id, "orders")  # jobs may still come
    scan = job(batch, 1).model_copy(update={"scan": True})
    planned, _ = plan(warehouse, batch, [job(batch, 0), scan])
    advance_loaded(warehouse, batch.batch_id, "orders")
    assert watermark(warehouse) == START
    ledger.end_job(warehouse, planned, "completed")
    advance_loaded(warehouse, batch.batch_id, "orders")
    assert watermark(warehouse) == NOON


@pytest.mark.usefixtures("_loaded_before")
def test_a_batch_that_had_nothing_to_do_is_complete(warehouse: Warehouse) -> None:
    run(warehouse)
    assert watermark(warehouse) == NOON


@pytest.mark.usefixtures("_loaded_before")
@pytest.mark.parametrize("state", ["failed", "cancelled", "skipped"])
def test_the_watermark_stops_before_the_earliest_job_that_did_not_complete(
    warehouse: Warehouse, state: JobState
) -> None:
    run(
        warehouse,
        ("completed", hour(0)),
        ("completed", hour(3)),
        (state, hour(2)),
        (state, hour(1)),
    )
    found = states(warehouse)["orders"]
    assert found.watermark == START + HOUR
    assert found.last_incremental_at is None


@pytest.mark.usefixtures("_loaded_before")
def test_a_failed_job_without_a_start_holds_the_watermark(warehouse: Warehouse) -> None:
    run(warehouse, ("completed", hour(0)), ("failed", Window(end=NOON)), ("failed", hour(3)))
    assert watermark(warehouse) == START


@pytest.mark.usefixtures("_loaded_before")
def test_a_failed_job_that_reaches_back_does_not_move_the_watermark_back(
    warehouse: Warehouse,
) -> None:
    run(warehouse, ("failed", Window(start=START - HOUR, end=NOON)))
    assert watermark(warehouse) == START


@pytest.mark.usefixtures("_loaded_before")
def test_a_batch_that_was_not_planned_to_the_end_moves_nothing(warehouse: Warehouse) -> None:
    """Its earliest job says nothing: earlier ones may have been the next to be planned."""
    metadata = make_metadata()
    begin(warehouse, metadata)
    JobWriter(warehouse, metadata.batch_id).write([job(metadata, 0, hour(3))])
    advance(warehouse, metadata, finish(warehouse, metadata, cancelled=True))
    assert watermark(warehouse) == START


@pytest.mark.usefixtures("_loaded_before")
@pytest.mark.parametrize("how", [{"error": "nobody could be notified"}, {"cancelled": True}])
def test_what_was_loaded_counts_however_the_batch_ended(
    warehouse: Warehouse, how: dict[str, Any]
) -> None:
    run(warehouse, ("completed", hour(0)), **how)
    assert watermark(warehouse) == NOON


def test_the_first_batch_begins_without_a_watermark(warehouse: Warehouse) -> None:
    run(
        warehouse,
        ("completed", Window(end=NOON)),
        metadata=make_metadata(orders=Window(end=NOON)),
    )
    assert watermark(warehouse) == NOON


def test_a_first_batch_that_fails_leaves_no_watermark(warehouse: Warehouse) -> None:
    run(warehouse, ("failed", Window(end=NOON)), metadata=make_metadata(orders=Window(end=NOON)))
    found = states(warehouse)["orders"]
    assert (found.watermark, found.state) == (None, "failed")


def test_a_complete_full_batch_sets_the_watermark_and_its_time(warehouse: Warehouse) -> None:
    whole = make_metadata(mode="full", orders=Window(end=NOON))
    run(warehouse, ("completed", Window(end=NOON)), metadata=whole)
    found = states(warehouse)["orders"]
    assert found.watermark == NOON
    assert found.last_full_at is not None
    assert found.last_incremental_at is None


@pytest.mark.usefixtures("_loaded_before")
def test_a_full_batch_with_a_failed_slice_moves_nothing(warehouse: Warehouse) -> None:
    """Its slices need not be slices of the time that the watermark counts."""
    whole = make_metadata(mode="full", orders=Window(end=NOON))
    run(warehouse, ("completed", hour(0)), ("failed", hour(3)), metadata=whole)
    assert watermark(warehouse) == START


def test_a_backfill_leaves_no_trace_in_the_state(warehouse: Warehouse) -> None:
    run(warehouse, ("completed", hour(0)), metadata=make_metadata(mode="backfill"))
    assert read_states(warehouse) == []


def test_a_watermark_never_goes_backwards(warehouse: Warehouse) -> None:
    set_watermark(warehouse, "shop", "orders", "default", NOON + HOUR)
    run(warehouse, *[("completed", hour(number)) for number in range(4)])
    assert watermark(warehouse) == NOON + HOUR


@pytest.mark.parametrize("back", [None, START - 9 * HOUR])
@pytest.mark.usefixtures("_loaded_before")
def test_a_watermark_set_back_while_a_batch_runs_stays_there(
    warehouse: Warehouse, back: datetime | None
) -> None:
    """What lies between it and the batch's window was not loaded by that batch."""
    metadata = make_metadata()
    [planned] = plan(warehouse, metadata, [job(metadata, 0)])
    set_watermark(warehouse, "shop", "orders", "default", back)
    ledger.end_job(warehouse, planned, "completed")
    advance(warehouse, metadata, finish(warehouse, metadata))
    assert watermark(warehouse) == back


def test_a_batch_that_begins_in_the_middle_gives_no_watermark_where_there_was_none(
    warehouse: Warehouse,
) -> None:
    run(warehouse, ("completed", hour(0)))
    assert watermark(warehouse) is None


def test_a_stream_that_fails_holds_up_no_other_stream_or_connection(warehouse: Warehouse) -> None:
    metadata = make_metadata(orders=Window(end=NOON), refunds=Window(end=NOON - HOUR))
    set_watermark(warehouse, "shop", "orders", "second", START)
    run(warehouse, ("failed", Window(end=NOON)), metadata=metadata)
    found = {(s.stream, s.connection): s.watermark for s in read_states(warehouse)}
    assert found == {
        ("orders", "default"): None,
        ("orders", "second"): START,
        ("refunds", "default"): NOON - HOUR,
    }


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_a_later_batch_replaces_the_state_and_keeps_the_other_modes_time(
    warehouse: Warehouse, mode: Mode
) -> None:
    run(
        warehouse,
        ("completed", Window(end=NOON)),
        metadata=make_metadata(mode=mode, orders=Window(end=NOON)),
    )
    before = states(warehouse)["orders"]
    other: Mode = "full" if mode == "incremental" else "incremental"
    run(
        warehouse,
        ("completed", Window(end=NOON + HOUR)),
        metadata=make_metadata("shop-2", other, orders=Window(end=NOON + HOUR)),
    )
    after = states(warehouse)["orders"]
    assert (after.batch_id, after.watermark) == ("shop-2", NOON + HOUR)
    assert after.last_full_at is not None
    assert after.last_incremental_at is not None
    assert {before.last_full_at, before.last_incremental_at} - {None} <= {
        after.last_full_at,
        after.last_incremental_at,
    }


def test_a_watermark_set_by_hand_says_so(warehouse: Warehouse) -> None:
    set_watermark(warehouse, "shop", "orders", "default", NOON)
    found = states(warehouse)["orders"]
    assert (found.watermark, found.state) == (NOON, "set by hand")
    assert read_states(warehouse, "store") == []
