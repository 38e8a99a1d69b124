"""Freshness as it is judged by bounds and timetables, and the settings of both."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleRange,
    ScheduleSpec,
)

from temporaletl.control.operations.freshness import (
    Bounds,
    FreshnessSettings,
    StreamFreshness,
    judge,
)
from temporaletl.control.operations.timetable import Calendar, Timetable
from temporaletl.errors import SettingsError
from temporaletl.queuer.scheduling import cron_calendars
from temporaletl.settings.fresh_within import FreshWithin, parse_by_source, parse_fresh_within
from temporaletl.warehouse.freshness import Loads, StreamLoads
from temporaletl.warehouse.schedules import SeenSchedule

HOUR = timedelta(hours=1)
NOW = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
HOURLY = Timetable(calendars=(Calendar(days=frozenset(range(7)), hours=frozenset(range(24))),))
SHOP = ("shop", "default")


def judged(
    age: timedelta | None,
    *,
    within: str | None = None,
    schedule: dict[str, Any] | None = None,
    others: Sequence[dict[str, Any]] = (),
    failed: bool = False,
) -> StreamFreshness:
    """The stream `orders` of the source `shop`, which is loaded up to so long ago."""
    loads = StreamLoads(
        source="shop",
        connection="default",
        stream="orders",
        loaded_until=None if age is None else NOW - age,
        last_loaded_at=None if age is None else NOW - age,
        last_outcome="failed" if failed else "complete",
        batch_id="shop-1",
        error="the site is away" if failed else None,
    )
    seen = {
        "source": "shop",
        "connection": "default",
        "streams": (),
        "mode": "incremental",
        "paused": False,
        "timetable": HOURLY.model_dump(mode="json"),
        "next_run": None,
        "created_at": NOW - 1_000 * HOUR,
        "missed": 0,
        "skipped": 0,
    }
    scheduled = [] if schedule is None else [schedule, *others]
    bounds = Bounds(
        {} if within is None else {SHOP: parse_by_source(within)["shop"]},
        {SHOP: [SeenSchedule.model_validate(seen | one) for one in scheduled]},
        {},
        HOUR,
        (),
    )
    [entry] = judge(bounds, Loads([loads], NOW)).entries
    return entry


@pytest.mark.parametrize(
    ("within", "age", "failed", "state"),
    [
        ("shop=6", 5 * HOUR, False, "fresh"),
        ("shop=6", 6 * HOUR, False, "late"),
        ("shop=6", 5 * HOUR, True, "failed"),
        ("shop=6", 7 * HOUR, True, "late"),
        ("shop=6, shop.orders=8", 7 * HOUR, False, "fresh"),
        ("shop.others=8", 7 * HOUR, False, "not judged"),
        ("shop=6", -HOUR, False, "late"),  # ahead of the clock
        ("shop=6", None, False, "never loaded"),
        (None, 1_000 * HOUR, True, "not judged"),
    ],
)
def test_a_stream_is_judged_by_its_watermark_and_its_bound(
    within: str | None, age: timedelta | None, failed: bool, state: str
) -> None:
    entry = judged(age, within=within, failed=failed)
    assert entry.state == state
    assert entry.late == (state in ("late", "never loaded"))
    assert ("the site is away" in entry.cause) == failed
    if state == "not judged":
        assert entry.due_at is None
        assert entry.origin == "no ETL_FRESH_WITHIN_HOURS, and no schedule"
        return
    assert entry.origin == "ETL_FRESH_WITHIN_HOURS"
    assert entry.fresh_within is not None
    if entry.loaded_until is not None:
        assert entry.due_at == entry.loaded_until + entry.fresh_within


@pytest.mark.parametrize(
    ("given", "age", "state"),
    [
        ({}, HOUR / 2, "fresh"),
        # Loaded by the run of ten: that of eleven had until twelve.
        ({}, 2.5 * HOUR, "late"),
        ({}, 2.4 * HOUR, "fresh"),
        ({"created_at": NOW}, 400 * HOUR, "fresh"),  # its first run is to come
        ({"created_at": NOW}, None, "not judged"),
        ({}, None, "never loaded"),
        ({"paused": True}, 4 * HOUR, "not judged"),
        ({"mode": "backfill"}, 4 * HOUR, "not judged"),
        ({"streams": ("others",)}, 4 * HOUR, "not judged"),
        ({"timetable": None}, 4 * HOUR, "not judged"),
    ],
)
def test_without_a_bound_a_stream_is_judged_by_its_schedule(
    given: dict[str, Any], age: timedelta | None, state: str
) -> None:
    entry = judged(age, schedule=given)
    assert (entry.state, entry.late) == (state, state in ("late", "never loaded"))
    assert "schedule" in entry.origin
    # A bound of its own wins.
    assert judged(HOUR, within="shop=2", schedule=given).state == "fresh"


@pytest.mark.parametrize(
    ("others", "origin", "due"),
    [
        # Loaded at half past eleven: the run of one has an hour.
        ([{}], "schedule often,", 1.5),
        ([{"streams": ("orders",)}], "schedule often,", 1.5),
        ([{"streams": ("others",)}], "the schedule,", 15.5),
        ([{"paused": True}], "the schedule,", 15.5),
        ([{"filtered": True}], "the schedule,", 15.5),
        ([{"timetable": None}], "the schedule,", 15.5),
    ],
)
def test_of_several_schedules_the_one_counts_that_is_due_first(
    others: list[dict[str, Any]], origin: str, due: float
) -> None:
    nightly = Timetable(calendars=(Calendar(days=frozenset(range(7)), hours=frozenset({3})),))
    known = {"timetable": nightly.model_dump(mode="json")}
    named = [{"name": "often", **other} for other in others]
    entry = judged(HOUR, schedule=known, others=named)
    assert entry.origin.startswith(origin)
    assert entry.due_at == NOW + due * HOUR


def test_where_no_schedule_counts_each_says_why() -> None:
    other = {"name": "full_load", "streams": ("others",)}
    entry = judged(HOUR, schedule={"paused": True}, others=[other])
    assert entry.cause.startswith(
        "not judged: no ETL_FRESH_WITHIN_HOURS, and the schedule is paused and schedule full_load "
        "leaves this stream out"
    )


def test_a_schedule_for_weekdays_does_not_wait_over_a_weekend_for_tuesdays_run() -> None:
    weekdays = Timetable(calendars=(Calendar(days=frozenset(range(1, 6)), hours=frozenset({3})),))
    known = {"timetable": weekdays.model_dump(mode="json")}
    tuesday = judged(NOW - datetime(2024, 4, 30, 2, 55, tzinfo=UTC), schedule=known)
    assert tuesday.due_at == datetime(2024, 5, 1, 4, tzinfo=UTC)  # Wednesday's, and an hour
    assert tuesday.state == "late"


def test_a_load_between_two_times_of_a_schedule_does_not_stand_for_the_next_run() -> None:
    nightly = Timetable(calendars=(Calendar(days=frozenset(range(7)), hours=frozenset({3})),))
    known = {"timetable": nightly.model_dump(mode="json")}
    by_hand = judged(NOW - datetime(2024, 4, 30, 22, tzinfo=UTC), schedule=known)
    assert by_hand.due_at == datetime(2024, 5, 1, 4, tzinfo=UTC)
    by_the_run = judged(NOW - datetime(2024, 5, 1, 2, 50, tzinfo=UTC), schedule=known)
    assert by_the_run.due_at == datetime(2024, 5, 2, 4, tzinfo=UTC)


def test_hours_are_read_for_all_streams_and_for_single_ones() -> None:
    assert parse_fresh_within("6") == FreshWithin(6 * HOUR)
    assert parse_fresh_within("6, worklogs = 1.5") == FreshWithin(
        6 * HOUR, {"worklogs": 1.5 * HOUR}
    )
    both = parse_by_source("jira=6,jira.worklogs=24,trino.a=1")
    assert both["jira"] == FreshWithin(6 * HOUR, {"worklogs": 24 * HOUR})
    assert both["trino"].of("b") is None
    assert parse_by_source("") == {}


@pytest.mark.parametrize("wrong", ["6", "a=", "a=x", "a=0", "a=-1", "a=1, a=2", "a=inf", "a.=1"])
def test_a_wrong_bound_of_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("ETL_FRESH_WITHIN_HOURS", wrong)
    with pytest.raises(SettingsError, match=r"^ETL_FRESH_WITHIN_HOURS is wrong: "):
        FreshnessSettings.load()


def a_schedule(*calendars: ScheduleCalendarSpec, **spec: Any) -> Schedule:
    action = ScheduleActionStartWorkflow("QueuerFlow", id="x", task_queue="q")
    return Schedule(action=action, spec=ScheduleSpec(calendars=calendars, **spec))


def weekly(days: tuple[int, int], *hours: int) -> ScheduleCalendarSpec:
    return ScheduleCalendarSpec(
        day_of_week=[ScheduleRange(*days)], hour=[ScheduleRange(hour) for hour in hours]
    )


def test_a_timetable_has_the_hours_of_the_week_in_its_zone() -> None:
    found = Timetable.of(a_schedule(weekly((1, 5), 3, 15), time_zone_name="Europe/London"))
    assert found is not None
    friday = datetime(2024, 5, 3, 13, tzinfo=UTC)
    assert found.nth_due(friday, 1) == datetime(2024, 5, 3, 14, tzinfo=UTC)
    assert found.nth_due(friday, 2) == datetime(2024, 5, 6, 2, tzinfo=UTC)
    assert found.nth_due(datetime(2024, 5, 3, 14, tzinfo=UTC), 1).hour == 14  # inclusive
    sunday = Timetable.of(a_schedule(weekly((7, 7), 0)))
    assert sunday is not None
    assert sunday.nth_due(friday, 1) == datetime(2024, 5, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "hour", "start", "due"),
    [  # as a server's ListScheduleMatchingTimes has them
        ("Europe/London", 1, "2024-03-30T12", ["04-01T00", "04-02T00"]),
        ("Europe/London", 1, "2024-10-26T12", ["10-27T01", "10-28T01"]),
        ("America/New_York", 2, "2024-03-09T12", ["03-11T06", "03-12T06"]),
        ("America/New_York", 1, "2024-11-02T12", ["11-03T05", "11-03T06", "11-04T06"]),
        ("Australia/Sydney", 2, "2024-04-06T01", ["04-06T16", "04-07T16"]),
    ],
)
def test_changes_of_the_clocks_are_as_temporal_has_them(
    zone: str, hour: int, start: str, due: list[str]
) -> None:
    found = Timetable.of(a_schedule(weekly((0, 6), hour), time_zone_name=zone))
    assert found is not None
    times = found.due(datetime.fromisoformat(f"{start}:00Z"))
    assert [f"{next(times):%m-%dT%H}" for _ in due] == due


@pytest.mark.parametrize(
    ("found", "due"),
    [
        (a_schedule(*cron_calendars("*/20 8-9 * * mon")), ["06T08:00", "06T08:20", "06T08:40"]),
        # By day of the month or of the week, as cron has it.
        (a_schedule(*cron_calendars("30 4 5 * 1")), ["05T04:30", "06T04:30", "13T04:30"]),
        (a_schedule(*cron_calendars("0 0 1 jan *")), ["01T00:00", "01T00:00"]),
        (
            a_schedule(intervals=[ScheduleIntervalSpec(every=timedelta(minutes=90))]),
            ["01T00:00", "01T01:30", "01T03:00"],
        ),
        (
            a_schedule(intervals=[ScheduleIntervalSpec(every=HOUR, offset=HOUR / 4)]),
            ["01T00:15", "01T01:15"],
        ),
    ],
)
def test_a_timetable_has_the_times_of_cron_and_of_intervals(
    found: Schedule, due: list[str]
) -> None:
    timetable = Timetable.of(found)
    assert timetable is not None
    assert Timetable.model_validate(timetable.model_dump(mode="json")) == timetable
    times = timetable.due(datetime(2025, 1, 1, tzinfo=UTC))
    assert [f"{next(times):%dT%H:%M}" for _ in due] == due


@pytest.mark.parametrize(
    "other",
    [
        a_schedule(ScheduleCalendarSpec(second=[ScheduleRange(30)])),
        a_schedule(cron_expressions=["0 * * * *"]),
        a_schedule(intervals=[ScheduleIntervalSpec(every=HOUR), ScheduleIntervalSpec(every=HOUR)]),
        a_schedule(*cron_calendars("0 0 30 2 *")),
        a_schedule(),
    ],
)
def test_other_times_are_no_timetable(other: Schedule) -> None:
    assert Timetable.of(other) is None
