"""Freshness and the late watch, by what is committed; Temporal does not answer here."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import tests.integration.flows.numbers  # noqa: F401 - registers the source
from temporaletl.control.operations.freshness import StreamFreshness, freshness
from temporaletl.control.operations.health import Part, check_health
from temporaletl.control.operations.late_watch import announce_lateness
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.stored_connections import create_connection
from temporaletl.control.operations.timetable import Calendar, Timetable
from temporaletl.errors import ConfigurationError
from temporaletl.messages import JobState, Window
from temporaletl.notifications.delivery import Notifier
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ledger import end_job
from temporaletl.warehouse.schedules import SeenSchedule, record_schedules, seen_schedules
from temporaletl.warehouse.state import advance
from tests.integration.warehouse.batches import finish, job, make_metadata, plan, rows
from tests.webhooks import Webhooks, running_webhooks

HOUR = timedelta(hours=1)
LONG_AGO = datetime(2024, 5, 1, tzinfo=UTC)
HOURLY = Timetable(
    calendars=(Calendar(days=frozenset(range(7)), hours=frozenset(range(24))),), timezone="UTC"
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


async def test_what_runs_have_committed_is_judged_and_why_the_last_one_failed_is_told(
    platform: Platform, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_FRESH_WITHIN_HOURS", "numbers=6")
    until = datetime.now(UTC) - HOUR

    def run(number: int, state: JobState, error: str | None = None) -> None:
        window = Window(start=until - HOUR if number > 1 else None, end=until)
        metadata = make_metadata(f"numbers-{number}", all=window)
        metadata = metadata.model_copy(update={"source": "numbers"})
        [only] = plan(warehouse, metadata, [job(metadata, 0)])
        end_job(warehouse, only, state, error)
        advance(warehouse, metadata, finish(warehouse, metadata))

    run(1, "completed")
    entry = await sole(platform)
    assert (entry.stream, entry.state, entry.loaded_until) == ("all", "fresh", until)
    run(2, "failed", "the site is away")
    entry = await sole(platform)
    assert (entry.state, entry.loaded_until) == ("failed", until)
    assert entry.cause.endswith("; its last run failed: the site is away")
    run(3, "completed")
    assert (await sole(platform)).state == "fresh"


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
