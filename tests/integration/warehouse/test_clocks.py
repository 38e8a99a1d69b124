"""Watermarks, reservations and cool-downs survive clocks that were wrong for a while."""

from datetime import UTC, datetime, timedelta

import pytest

from temporaletl.messages import Window
from temporaletl.warehouse.budget import block_source, remaining_cool_down, reserve_requests
from temporaletl.warehouse.clock import warehouse_now
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ledger import end_job
from temporaletl.warehouse.state import (
    advance,
    read_states,
    set_watermark,
    trusted_watermarks,
    watermarks_ahead,
)
from tests.integration.warehouse.batches import HOUR, finish, job, make_metadata, plan, rows

DAY = timedelta(days=1)


def execute(warehouse: Warehouse, statement: str, *values: object) -> None:
    with warehouse.connection() as connection:
        connection.execute(statement.encode(), values)


def run(
    warehouse: Warehouse, batch_id: str, end: datetime, *, began: datetime | None = None
) -> None:
    """Load a window up to `end` in a batch that began then, and move the watermark."""
    metadata = make_metadata(batch_id, orders=Window(end=end))
    for planned in plan(warehouse, metadata, [job(metadata, 0)]):
        end_job(warehouse, planned, "completed")
    if began is not None:
        execute(
            warehouse, "UPDATE etl_batches SET created_at = %s WHERE batch_id = %s", began, batch_id
        )
    advance(warehouse, metadata, finish(warehouse, metadata))


def stored(warehouse: Warehouse) -> datetime | None:
    (state,) = read_states(warehouse, "shop")
    return state.watermark


def trusted(warehouse: Warehouse) -> datetime | None:
    return trusted_watermarks(warehouse, "shop", "default")[1]["orders"]


def test_no_watermark_passes_the_warehouses_own_clock(warehouse: Warehouse) -> None:
    run(warehouse, "a", datetime.now(UTC) + 3 * HOUR)
    watermark = stored(warehouse)
    assert watermark is not None
    assert watermark <= warehouse_now(warehouse)
    assert watermarks_ahead(warehouse) == []


def test_a_watermark_that_is_ahead_is_named_and_the_ledger_says_what_is_loaded(
    warehouse: Warehouse,
) -> None:
    honest = datetime.now(UTC) - 2 * HOUR
    run(warehouse, "a", honest)
    execute(warehouse, "UPDATE etl_sync_state SET watermark = now() + interval '3 hours'")
    assert [state.stream for state in watermarks_ahead(warehouse, "shop")] == ["orders"]
    assert trusted(warehouse) == honest
    # The next run repairs it.
    later = honest + HOUR
    run(warehouse, "b", later)
    assert stored(warehouse) == later


def test_batches_of_an_empty_window_show_nothing_to_be_loaded(warehouse: Warehouse) -> None:
    """They are what was run while the watermark was ahead."""
    honest = datetime.now(UTC) - 2 * HOUR
    run(warehouse, "a", honest)
    execute(warehouse, "UPDATE etl_sync_state SET watermark = now() + interval '3 hours'")
    empty = make_metadata("b", orders=Window(start=honest + HOUR, end=honest + HOUR))
    plan(warehouse, empty, [])
    finish(warehouse, empty)
    assert trusted(warehouse) == honest


def test_a_watermark_that_was_ahead_of_its_batch_is_not_trusted_when_its_time_has_come(
    warehouse: Warehouse,
) -> None:
    began = datetime.now(UTC) - 5 * HOUR
    run(warehouse, "a", began + 4 * HOUR, began=began)
    assert stored(warehouse) == began + 4 * HOUR
    assert trusted(warehouse) == began


def test_a_watermark_ahead_without_any_ledger_begins_anew(warehouse: Warehouse) -> None:
    set_watermark(warehouse, "shop", "orders", "default", datetime.now(UTC) + DAY)
    assert trusted(warehouse) is None


def test_an_honest_watermark_is_trusted_and_one_set_by_hand_too(warehouse: Warehouse) -> None:
    end = datetime.now(UTC) - HOUR
    run(warehouse, "a", end)
    assert trusted(warehouse) == end
    set_watermark(warehouse, "shop", "orders", "default", end - DAY)
    assert trusted(warehouse) == end - DAY
    set_watermark(warehouse, "shop", "orders", "default", None)
    assert trusted(warehouse) is None


def test_reservations_and_cool_downs_of_a_wrong_clock_block_nobody(
    warehouse: Warehouse,
) -> None:
    reserve_requests(warehouse, "shop", "default", 10, 1)
    execute(
        warehouse,
        "UPDATE etl_budgets SET granted_until = now() + interval '1 day',"
        " closed_until = now() + interval '1 day'",
    )
    assert remaining_cool_down(warehouse, "shop", "default") is None
    assert reserve_requests(warehouse, "shop", "default", 10, 1) < timedelta(seconds=5)
    block_source(warehouse, "shop", "default", timedelta(minutes=20))
    delay = remaining_cool_down(warehouse, "shop", "default")
    assert delay is not None
    assert timedelta(minutes=19) < delay <= timedelta(minutes=20)


@pytest.mark.parametrize("delay", [timedelta(days=36_500), timedelta(hours=2)])
def test_no_cool_down_is_longer_than_the_longest_wait(
    warehouse: Warehouse, delay: timedelta
) -> None:
    block_source(warehouse, "shop", "default", delay)
    ((remaining,),) = rows(warehouse, "SELECT closed_until - now() FROM etl_budgets")
    assert timedelta(minutes=59) < remaining < timedelta(minutes=75)
