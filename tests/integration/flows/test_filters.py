"""Filters and watermarks: what a run leaves out is loaded by the next one that does not."""

from dataclasses import replace
from datetime import datetime

import pytest
from pydantic import JsonValue

from temporaletl.strategies import planners
from temporaletl.warehouse.state import SyncState, read_states
from tests.integration.flows.services import Services


def values(services: Services) -> set[int]:
    return {
        int(event_id.split(":")[-1]) for (event_id,) in services.rows("SELECT event_id FROM events")
    }


def state(services: Services) -> SyncState:
    (found,) = read_states(services.warehouse, "numbers")
    return found


def watermark(services: Services) -> datetime:
    found = state(services).watermark
    assert found is not None
    return found


async def test_what_the_first_run_left_out_is_loaded_by_the_next(services: Services) -> None:
    await services.run("incremental", size=6, least=4)
    assert values(services) == {4, 5}
    assert state(services).scope == {"least": 4}
    summary = await services.run("incremental", size=6)
    assert (summary.rows.inserted, values(services)) == (4, set(range(6)))
    assert summary.windows["all"].start is None
    assert state(services).scope == {}
    later = await services.run("incremental", size=6)
    assert later.windows["all"].start == summary.windows["all"].end


@pytest.mark.parametrize("mode", ["full", "incremental"])
async def test_a_run_with_filters_of_its_own_moves_no_watermark_and_says_so(
    services: Services, mode: str
) -> None:
    await services.run("full", size=2)
    before = state(services)
    summary = await services.run(mode, size=6, least=4)
    assert summary.state == "completed"
    (note,) = summary.notes
    assert "leave out what the watermark of all stands for" in note.note
    after = state(services)
    assert (after.watermark, after.scope) == (before.watermark, before.scope)
    assert after.last_full_at == before.last_full_at
    summary = await services.run("incremental", size=6)
    assert summary.windows["all"].start == before.watermark


async def test_a_schedule_with_filters_of_its_own_goes_on_from_its_watermark(
    services: Services,
) -> None:
    first = await services.run("incremental", size=6, least=4)
    second = await services.run("incremental", size=6, least=4)
    assert second.windows["all"].start == first.windows["all"].end
    assert (second.notes, watermark(services)) == ((), second.windows["all"].end)


async def test_what_settings_newly_let_through_is_read_from_the_beginning(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope: dict[str, JsonValue] = {"NUMBERS_FILTER": "odd"}
    own = replace(planners.get("numbers"), scope=lambda: scope)
    monkeypatch.setattr(planners, "get", lambda _: own)
    first = await services.run("incremental", size=6)
    assert state(services).scope == scope
    scope["NUMBERS_FILTER"] = "all"
    second = await services.run("incremental", size=6)
    assert (first.windows["all"].start, second.windows["all"].start) == (None, None)
    assert state(services).scope == {"NUMBERS_FILTER": "all"}
    third = await services.run("incremental", size=6)
    assert third.windows["all"].start == second.windows["all"].end


async def test_a_watermark_set_by_hand_stands_for_whatever_is_loaded_next(
    services: Services,
) -> None:
    await services.run("incremental", size=6, least=4)
    services.rows_changed(
        "UPDATE etl_sync_state SET scope = NULL"
    )  # as one from before filters counted
    before = watermark(services)
    summary = await services.run("incremental", size=6)
    assert summary.windows["all"].start == before
    assert state(services).scope == {}
