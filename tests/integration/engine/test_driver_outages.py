"""Runs of the local engine that are given up, break off, or are cancelled in an outage."""

from collections.abc import Callable
from typing import Any

import pytest

from temporaletl.engine import driver
from temporaletl.engine.driven import MOST_ADOPTIONS
from temporaletl.errors import WarehouseUnavailableError
from temporaletl.temporal.attempts import UNEXPECTED_ATTEMPTS
from temporaletl.warehouse import ownership, run_control, runs
from temporaletl.warehouse.connection import Warehouse
from tests.integration.engine.driving import (
    SLOW,
    batch_state,
    driven,
    lapse,
    owned,
    requested,
    rested,
    until_ended,
    until_pages,
)
from tests.integration.engine.running import select
from tests.waiting import until


async def test_a_run_given_up_in_an_outage_is_driven_on_once_it_is_over(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    away: set[str] = set()
    renewed = 0

    def unless_away(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **named: Any) -> Any:
            nonlocal renewed
            if name in away:
                raise WarehouseUnavailableError("away")
            renewed += name == "renew_ownership"
            return work(*given, **named)

        return called

    for name in ("adopt_run", "renew_ownership", "read_ownership"):
        monkeypatch.setattr(driver, name, unless_away(name, getattr(driver, name)))
    run = requested(warehouse, **SLOW)
    rests = rested(warehouse)
    async with driven(warehouse):
        await until_pages(warehouse, 3)
        away |= {"adopt_run", "renew_ownership", "read_ownership"}
        await until(rests)
        before = renewed
        # Whichever of the two is first when the warehouse is back.
        away -= {"renew_ownership", "read_ownership"}
        await until(lambda: renewed > before)
        away.clear()
        await until_ended(warehouse, run)
    assert batch_state(warehouse)[0] == "completed"
    assert select(warehouse, "SELECT sum(inserted), sum(unchanged) FROM etl_jobs") == [(160, 0)]


async def test_a_run_that_breaks_off_is_taken_up_again_by_its_own_process(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 0
    end_run = runs.end_run

    def faulty(*given: Any, **named: Any) -> bool:
        nonlocal failures
        failures += 1
        if failures <= UNEXPECTED_ATTEMPTS:
            raise ValueError("nobody expects it")
        return end_run(*given, **named)

    monkeypatch.setattr(runs, "end_run", faulty)
    run = requested(warehouse)
    async with driven(warehouse):
        assert (await until_ended(warehouse, run)).error is None
    assert select(warehouse, "SELECT epoch FROM etl_runs") == [(2,)]


async def test_a_run_cancelled_while_its_batch_is_entered_leaves_none_open(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 0

    def lost_answer(*given: Any) -> None:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise WarehouseUnavailableError("away")
        return show_control(*given)

    show_control = ownership.show_control
    monkeypatch.setattr(ownership, "show_control", lost_answer)
    run = requested(warehouse, **SLOW)
    async with driven(warehouse):
        await until(lambda: failures == 1)
        run_control.want(warehouse, run, "cancel", None)
        await until_ended(warehouse, run)
    assert batch_state(warehouse)[0] == "cancelled"


async def test_a_paused_run_outlives_any_number_of_its_owners(warehouse: Warehouse) -> None:
    run = requested(warehouse)
    run_control.want(warehouse, run, "pause", None)
    for _ in range(MOST_ADOPTIONS + 1):
        owned(warehouse, run)
        lapse(warehouse)
    run_control.want(warehouse, run, "run", None)
    async with driven(warehouse):
        assert (await until_ended(warehouse, run)).error is None
