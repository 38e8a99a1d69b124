"""Freshness and the late watch, by what is committed; Temporal does not answer here."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleRange,
    ScheduleSpec,
)

import tests.integration.flows.numbers  # noqa: F401 - registers the source
from temporaletl.control.operations.freshness import StreamFreshness, freshness
from temporaletl.control.operations.health import Part, check_health
from temporaletl.control.operations.late_watch import announce_lateness
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.stored_connections import create_connection
from temporaletl.control.operations.timetable import Hours, Timetable
from temporaletl.errors import ConfigurationError, SettingsError
from temporaletl.notifications.delivery import Notifier
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.settings import TemporalSettings, WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.schedules import SeenSchedule, record_schedules, seen_schedules
from tests.integration.warehouse.batches import rows
from tests.webhooks import Webhooks, running_webhooks

HOUR = timedelta(hours=1)
LONG_AGO = datetime(2024, 5, 1, tzinfo=UTC)
HOURLY = Timetable(
    calendars=(Hours(days=frozenset(range(7)), hours=frozenset(range(24))),), timezone="UTC"
)


@pytest_asyncio.fixture
async def platform(postgres_url: str, warehouse: Warehouse) -> AsyncGenerator[Platform]:
    settings = WarehouseSettings.model_validate(
        {"database_url": postgres_url, "schema_name": warehouse.schema}
    )
    # Nothing listens on port 1.
    temporal = TemporalSettings.model_validate({"address": "127.0.0.1:1"})
    async with Platform(temporal, settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[Webhooks]:
    with running_webhooks() as opened:
        yield opened


@pytest.fixture
def webhooks(server: Webhooks) -> Webhooks:
    server.posts.clear()
    return server


def schedule(warehouse: Warehouse, timetable: Timetable | None = HOURLY, **given: Any) -> None:
    """Have Temporal list a schedule of the source of numbers."""
    seen = {
        "source": "numbers",
        "connection": "default",
        "streams": (),
        "mode": "incremental",
        "paused": False,
        "timetable": timetable and timetable.model_dump(mode="json"),
        "next_run": None,
        "created_at": LONG_AGO,
        "missed": 0,
        "skipped": 0,
    }
    record_schedules(warehouse, [SeenSchedule.model_validate({**seen, **given})])


def load(
    warehouse: Warehouse, age: timedelta, *, stream: str = "all", failed: bool = False
) -> None:
    """Put what a run leaves that has loaded a stream up to so long ago."""
    with warehouse.connection() as connection:
        connection.execute(
            """
            INSERT INTO etl_sync_state AS s (source, stream, connection, watermark,
                last_incremental_at, state)
            VALUES ('numbers', %(stream)s, 'default', clock_timestamp() - %(age)s::interval,
                CASE WHEN %(failed)s THEN NULL ELSE now() END,
                CASE WHEN %(failed)s THEN 'failed' ELSE 'completed' END)
            ON CONFLICT (source, stream, connection) DO UPDATE SET
                watermark = excluded.watermark, state = excluded.state, updated_at = now(),
                last_incremental_at = coalesce(excluded.last_incremental_at, s.last_incremental_at)
            """,
            {"age": age, "failed": failed, "stream": stream},
        )


async def sole(platform: Platform) -> StreamFreshness:
    [entry] = (await freshness(platform)).entries
    return entry


@pytest.mark.parametrize(
    ("hours", "age", "failed", "state"),
    [
        ("numbers=6", 5 * HOUR, False, "fresh"),
        ("numbers=6", 7 * HOUR, False, "late"),
        ("numbers=6", 5 * HOUR, True, "failed"),
        ("numbers=6", 7 * HOUR, True, "late"),
        ("numbers=6, numbers.all=8", 7 * HOUR, False, "fresh"),
        ("numbers=6", -HOUR, False, "late"),
        ("jira=6", 1_000 * HOUR, False, "not judged"),
    ],
)
async def test_a_stream_is_judged_by_its_watermark_and_its_bound(
    platform: Platform,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    hours: str,
    age: timedelta,
    failed: bool,
    state: str,
) -> None:
    monkeypatch.setenv("ETL_FRESH_WITHIN_HOURS", hours)
    load(warehouse, age, failed=failed)
    entries = (await freshness(platform)).entries
    [entry] = [one for one in entries if one.source == "numbers"]
    assert entry.state == state
    assert entry.late == (state == "late")
    assert ("failed" in entry.cause) == failed
    if state == "not judged":
        assert entry.due_at is None
        assert entry.origin == "no ETL_FRESH_WITHIN_HOURS, and no schedule"
    else:
        assert entry.fresh_within is not None
        assert entry.loaded_until is not None
        assert entry.due_at == entry.loaded_until + entry.fresh_within
        assert entry.origin == "ETL_FRESH_WITHIN_HOURS"


@pytest.mark.parametrize(
    ("given", "age", "state"),
    [
        ({}, HOUR / 2, "fresh"),
        ({}, 4 * HOUR, "late"),
        (
            {"created_at": datetime.now(UTC) + 24 * HOUR},
            400 * HOUR,
            "fresh",
        ),  # its first run is to come
        ({"paused": True}, 4 * HOUR, "not judged"),
        ({"mode": "backfill"}, 4 * HOUR, "not judged"),
        ({"streams": ("others",)}, 4 * HOUR, "not judged"),
        ({"timetable": None}, 4 * HOUR, "not judged"),
    ],
)
async def test_without_a_bound_a_stream_is_judged_by_its_schedule(
    platform: Platform, warehouse: Warehouse, given: dict[str, Any], age: timedelta, state: str
) -> None:
    schedule(warehouse, **given)
    load(warehouse, age)
    entry = await sole(platform)
    assert (entry.state, entry.late) == (state, state == "late")
    assert "schedule" in entry.origin


async def test_what_was_never_loaded_is_late_once_it_should_have_been(
    platform: Platform, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule(warehouse, created_at=datetime.now(UTC))
    entry = await sole(platform)
    assert (entry.state, entry.late) == ("not judged", False)
    assert entry.cause.startswith("not judged: its first load is due by ")
    schedule(warehouse)
    entry = await sole(platform)
    assert (entry.state, entry.late, entry.loaded_until) == ("never loaded", True, None)
    monkeypatch.setenv("ETL_FRESH_WITHIN_HOURS", "numbers=6")
    entry = await sole(platform)
    assert (entry.state, entry.late, entry.due_at) == ("never loaded", True, None)


async def test_the_schedules_that_were_listed_last_count_while_temporal_is_away(
    platform: Platform, warehouse: Warehouse
) -> None:
    schedule(warehouse)
    load(warehouse, 4 * HOUR)
    report = await freshness(platform)
    assert [entry.state for entry in report.entries] == ["late"]
    [fault] = report.faults
    assert fault.startswith("schedules are those of before: ")


async def test_a_connection_of_the_file_says_how_fresh_it_must_be(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "connections.toml"
    declared = '[acme]\nsource = "numbers"\nETL_FRESH_WITHIN_HOURS = {}\n'
    file.write_text(declared.format(2.5))
    monkeypatch.setenv("ETL_CONNECTIONS", str(file))
    entry = await sole(platform)
    assert (entry.connection, entry.state) == ("acme", "never loaded")
    assert entry.fresh_within == 2.5 * HOUR
    file.write_text(declared.format('"soon"'))
    report = await freshness(platform)
    assert report.entries == ()
    assert any("'soon' is no number of hours" in fault for fault in report.faults)


async def test_a_connection_of_the_warehouse_says_so_too_and_is_refused_where_that_is_wrong(
    platform: Platform,
) -> None:
    with pytest.raises(ConfigurationError, match=r"acme.*ETL_FRESH_WITHIN_HOURS: .* more than 0"):
        await create_connection(platform, "acme", "numbers", {"ETL_FRESH_WITHIN_HOURS": 0}, {})
    await create_connection(platform, "acme", "numbers", {"ETL_FRESH_WITHIN_HOURS": "all=3"}, {})
    entry = await sole(platform)
    assert (entry.connection, entry.fresh_within) == ("acme", 3 * HOUR)


async def test_a_wrong_bound_of_the_environment_is_named(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ("6", "numbers=", "numbers=-1", "numbers=1, numbers=2", "numbers=inf"):
        monkeypatch.setenv("ETL_FRESH_WITHIN_HOURS", wrong)
        with pytest.raises(SettingsError, match=r"^ETL_FRESH_WITHIN_HOURS is wrong: "):
            await freshness(platform)


async def test_lateness_is_announced_once_and_so_is_recovery(
    platform: Platform,
    warehouse: Warehouse,
    webhooks: Webhooks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETL_FRESH_WITHIN_HOURS", "numbers=6")
    notifier = Notifier(
        warehouse, NotificationSettings.model_validate({"notify_urls": webhooks.url("/200/a")})
    )

    async def kinds() -> list[str]:
        looks = [announce_lateness(platform, notifier) for _ in range(3)]
        found: list[str] = [
            event.kind for events in await asyncio.gather(*looks) for event in events
        ]
        await asyncio.to_thread(notifier.deliver)
        return found

    load(warehouse, HOUR)
    assert await kinds() == []
    load(warehouse, 7 * HOUR)
    assert await kinds() == ["late"]
    load(warehouse, 8 * HOUR)  # a backfill that failed: still the same lateness
    assert await kinds() == []
    load(warehouse, HOUR)
    assert await kinds() == ["recovered"]
    load(warehouse, 7 * HOUR)
    assert await kinds() == ["late"]
    late, recovered, again = [post.body for post in webhooks.posts]
    assert [late["type"], recovered["type"]] == ["stream.late", "stream.recovered"]
    assert late["text"].startswith("numbers is late: all loaded up to ")
    assert late["streams"][0]["stream"] == "all"
    assert late["id"] != again["id"]


async def test_late_streams_of_a_connection_are_one_event(
    platform: Platform, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_FRESH_WITHIN_HOURS", "numbers=6")
    notifier = Notifier(
        warehouse, NotificationSettings.model_validate({"notify_urls": "https://a.example/x"})
    )
    for stream in ("all", "others"):
        load(warehouse, 7 * HOUR, stream=stream)
    [event] = await announce_lateness(platform, notifier)
    assert [one["stream"] for one in event.data["streams"]] == ["all", "others"]  # type: ignore[index, union-attr, call-overload]
    # What is judged no more has not recovered, and is late anew when it is judged again; while
    # something is not known (Temporal does not answer here), nothing is forgotten.
    monkeypatch.delenv("ETL_FRESH_WITHIN_HOURS")
    assert await announce_lateness(platform, notifier) == []
    assert len(rows(warehouse, "SELECT FROM etl_late_streams")) == 2


def test_runs_that_a_schedule_misses_are_dated_when_their_number_grows(
    warehouse: Warehouse,
) -> None:
    schedule(warehouse, missed=5)
    assert seen_schedules(warehouse)[0].missed_at is None
    schedule(warehouse, missed=6)
    grown = seen_schedules(warehouse)[0].missed_at
    assert grown is not None
    schedule(warehouse, missed=6)
    assert seen_schedules(warehouse)[0].missed_at == grown
    record_schedules(warehouse, [])
    assert seen_schedules(warehouse) == []


async def test_runs_that_a_schedule_missed_are_a_fault_until_it_is_loaded_again(
    platform: Platform, warehouse: Warehouse
) -> None:
    async def part() -> Part:
        parts = (await check_health(platform)).parts
        [found] = [part for part in parts if part.name == "schedules"]
        return found

    load(warehouse, HOUR)
    schedule(warehouse, missed=3, skipped=1)
    assert (await part()).verdict == "unknown"  # Temporal does not answer here
    schedule(warehouse, missed=5, skipped=1)
    found = await part()
    assert (found.verdict, found.since) == ("degraded", seen_schedules(warehouse)[0].missed_at)
    assert found.detail.startswith("numbers has missed runs since it was last loaded: in all 5 ")
    load(warehouse, HOUR, failed=True)
    assert (await part()).verdict == "degraded"
    load(warehouse, HOUR)
    assert (await part()).verdict == "unknown"
    schedule(warehouse, missed=5, skipped=1, next_run=datetime.now(UTC) - HOUR)
    found = await part()
    assert found.detail == "Temporal has not started the run of numbers that is due"


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
    "other",
    [
        a_schedule(intervals=[ScheduleIntervalSpec(every=HOUR)]),
        a_schedule(ScheduleCalendarSpec(minute=[ScheduleRange(30)])),
        a_schedule(ScheduleCalendarSpec(day_of_month=[ScheduleRange(1)])),
        a_schedule(),
    ],
)
def test_other_times_are_no_timetable(other: Schedule) -> None:
    assert Timetable.of(other) is None
