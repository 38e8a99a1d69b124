"""What `run_batch` promises, into a real PostgreSQL and without Temporal."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import structlog

from temporaletl.errors import ConfigurationError, RateLimitedError, SourceUnavailableError
from temporaletl.messages import ETLInput, JobProgress, RunPolicy
from temporaletl.secrets import REDACTED, forget_secrets, remember_secret
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.run_log import read_log
from tests.integration.engine.running import (
    FIRST,
    LIMITS,
    Heard,
    keys,
    run,
    select,
    watermark,
)
from tests.integration.flows import numbers


async def test_a_full_batch_loads_everything_and_moves_the_watermark(warehouse: Warehouse) -> None:
    heard = Heard()
    summary = await run(warehouse, jobs=3, pages=2, size=10, listener=heard)
    assert summary.state == "completed"
    assert (summary.jobs.planned, summary.jobs.completed) == (3, 3)
    assert (summary.rows.inserted, summary.records) == (60, 60)
    assert keys(warehouse) == {f"{job}:{value}" for job in range(3) for value in range(20)}
    assert watermark(warehouse) == FIRST
    assert (heard.jobs, heard.pages) == (3, 6)
    assert sorted(heard.ended) == [(seq, "completed", None) for seq in range(3)]
    ledger = select(warehouse, "SELECT state, ended_at IS NOT NULL FROM etl_batches")
    assert ledger == [("completed", True)]


async def test_an_empty_database_is_all_it_needs(warehouse: Warehouse) -> None:
    with warehouse.connection() as connection:
        connection.execute(f"DROP SCHEMA {warehouse.schema} CASCADE")
    assert (await run(warehouse, size=10)).rows.inserted == 10


async def test_a_repeat_changes_nothing(warehouse: Warehouse) -> None:
    await run(warehouse, size=10)
    again = await run(warehouse, size=10, scheduled=FIRST + timedelta(hours=1))
    assert (again.rows.inserted, again.rows.updated, again.rows.unchanged) == (0, 0, 10)


async def test_an_incremental_batch_begins_at_the_watermark(warehouse: Warehouse) -> None:
    await run(warehouse)
    later = FIRST + timedelta(days=1)
    summary = await run(warehouse, mode="incremental", scheduled=later)
    window = summary.windows["all"]
    assert (window.start, window.end) == (FIRST, later)
    assert watermark(warehouse) == later


async def test_a_backfill_moves_no_watermark(warehouse: Warehouse) -> None:
    await run(warehouse)
    day = timedelta(days=1)
    summary = await run(
        warehouse, mode="backfill", date_start=FIRST - day, date_end=FIRST, scheduled=FIRST + day
    )
    assert summary.state == "completed"
    assert watermark(warehouse) == FIRST


async def test_a_job_that_fails_is_named_and_stops_no_other(warehouse: Warehouse) -> None:
    heard = Heard()
    summary = await run(warehouse, jobs=3, poisoned=1, size=5, listener=heard)
    assert summary.state == "failed"
    assert (summary.jobs.completed, summary.jobs.failed) == (2, 1)
    (failure,) = summary.failures
    assert failure.error == "job 1 is poisoned"
    assert len(keys(warehouse)) == 10
    assert watermark(warehouse) is None, "it moved past a failed job"
    assert heard.failed == [], "what a person must change first was tried again"
    (error,) = [error for _, state, error in heard.ended if state == "failed"]
    assert isinstance(error, ConfigurationError)


async def test_a_source_that_breaks_off_goes_on_from_its_cursor(warehouse: Warehouse) -> None:
    heard = Heard()
    summary = await run(warehouse, pages=4, size=5, flaky_page=0, listener=heard)
    assert summary.state == "completed"
    assert summary.rows.inserted == 20
    ((error, pause),) = heard.failed
    assert isinstance(error, SourceUnavailableError)
    assert pause == LIMITS.policy.initial_interval


async def test_a_source_that_stays_away_fails_the_job_after_all_attempts(
    warehouse: Warehouse,
) -> None:
    heard = Heard()
    numbers.outages.add("engine")
    try:
        summary = await run(warehouse, outage="engine", listener=heard)
    finally:
        numbers.outages.remove("engine")
    assert summary.jobs.failed == 1
    assert summary.failures[0].error == "the source is out of order"
    pauses = [pause / LIMITS.policy.initial_interval for _, pause in heard.failed]
    assert pauses == [1, 2], "three attempts have two pauses, each twice the one before"


@pytest.mark.parametrize("configured", [False, True], ids=["no configuration", "the host's own"])
async def test_what_nobody_expects_is_told_without_secrets(
    warehouse: Warehouse, capsys: pytest.CaptureFixture[str], *, configured: bool
) -> None:
    structlog.reset_defaults()
    remember_secret(numbers.SECRET)
    if configured:
        structlog.configure(processors=structlog.get_config()["processors"])
    try:
        summary = await run(warehouse, odd=True)
    finally:
        structlog.reset_defaults()
        forget_secrets()
    told = capsys.readouterr()
    assert summary.jobs.failed == 1
    assert "secret" not in told.out + told.err + summary.model_dump_json()
    log = told.out if configured else told.err
    assert "attempt_failed" in log
    assert f"KeyError: 'no {REDACTED}'" in log
    assert ("batch_ended" in told.out) is configured, "the host's configuration says how much"
    if not configured:
        assert told.out == ""


async def test_a_rate_limit_is_waited_for(warehouse: Warehouse) -> None:
    heard = Heard()
    began = asyncio.get_running_loop().time()
    summary = await run(warehouse, limited=1.5, size=5, listener=heard)
    assert asyncio.get_running_loop().time() - began >= 1.5
    assert (summary.state, summary.rows.inserted) == ("completed", 5)
    ((error, pause),) = heard.failed
    assert isinstance(error, RateLimitedError)
    assert pause == timedelta(seconds=1.5)


async def test_a_longer_wait_than_allowed_fails_the_job(warehouse: Warehouse) -> None:
    limits = replace(LIMITS, longest_wait=timedelta(seconds=1))
    summary = await run(warehouse, limited=3600, limits=limits)
    assert summary.failures[0].error == "too many requests"


async def test_jobs_run_so_many_at_once(warehouse: Warehouse) -> None:
    running: set[int] = set()
    most = 0

    class Watching(Heard):
        def page_loaded(self, job: ETLInput, progress: JobProgress) -> None:
            nonlocal most
            if progress.pages == 1:
                running.add(job.seq)
                most = max(most, len(running))
            if progress.pages == 3:
                running.discard(job.seq)

    limits = replace(LIMITS, jobs_at_once=2)
    summary = await run(
        warehouse, jobs=6, pages=3, size=1, page_seconds=0.05, limits=limits, listener=Watching()
    )
    assert summary.jobs.completed == 6
    assert most == 2


async def test_cancelling_ends_at_the_page_boundary(warehouse: Warehouse) -> None:
    cancel = asyncio.Event()
    heard = Heard(on_page=lambda _job, progress: cancel.set() if progress.pages == 2 else None)
    summary = await run(
        warehouse,
        jobs=3,
        pages=500,
        size=2,
        page_seconds=0.01,
        limits=replace(LIMITS, jobs_at_once=1),
        cancel=cancel,
        listener=heard,
    )
    assert summary.state == "cancelled"
    assert summary.jobs.cancelled == 3
    assert summary.rows.inserted == len(keys(warehouse)) == 2 * heard.pages
    assert watermark(warehouse) is None
    states = select(warehouse, "SELECT DISTINCT state, ended_at IS NOT NULL FROM etl_jobs")
    assert states == [("cancelled", True)]


async def test_cancelling_ends_the_planning_and_the_waits(warehouse: Warehouse) -> None:
    endless: list[dict[str, Any]] = [{"jobs": 1000, "plan_seconds": 60.0}, {"limited": 60.0}]
    for params in endless:
        cancel = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, cancel.set)
        summary = await run(warehouse, cancel=cancel, **params)
        assert summary.state == "cancelled"


async def test_a_cancelled_task_closes_the_books(warehouse: Warehouse) -> None:
    began = asyncio.Event()
    heard = Heard(on_page=lambda _job, _progress: began.set())
    task = asyncio.create_task(
        run(warehouse, pages=1000, size=1, page_seconds=0.01, listener=heard)
    )
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert select(warehouse, "SELECT state FROM etl_batches") == [("cancelled",)]
    assert select(warehouse, "SELECT DISTINCT state FROM etl_jobs") == [("cancelled",)]


async def test_a_batch_that_cannot_be_planned_is_in_the_books(warehouse: Warehouse) -> None:
    with pytest.raises(ConfigurationError, match="jobs must not be negative"):
        await run(warehouse, jobs=-1)
    ((state, summary),) = select(warehouse, "SELECT state, summary FROM etl_batches")
    assert state == "failed"
    assert summary["error"] == "numbers: jobs must not be negative"


async def test_a_request_that_makes_no_sense_is_in_no_books(warehouse: Warehouse) -> None:
    with pytest.raises(ConfigurationError, match="no stream 'none'"):
        await run(warehouse, streams=("none",))
    with pytest.raises(ConfigurationError, match=r"date_start: .*time zone"):
        await run(warehouse, mode="backfill", date_start=FIRST.replace(tzinfo=None))
    with pytest.raises(ConfigurationError, match=r"scheduled: .*time zone"):
        await run(warehouse, scheduled=FIRST.replace(tzinfo=None))
    assert select(warehouse, "SELECT count(*) FROM etl_batches") == [(0,)]


@pytest.mark.parametrize("end", ["date_start", "date_end"])
async def test_a_backfill_of_time_that_has_not_come_is_in_no_books(
    warehouse: Warehouse, end: str
) -> None:
    now = datetime.now(UTC)
    span: dict[str, Any] = {
        "date_start": now - timedelta(days=2),
        "date_end": now + timedelta(days=2),
    }
    span[end] = now + timedelta(days=1)
    with pytest.raises(ConfigurationError, match=r"the span's (start|end) .* has not come yet"):
        await run(warehouse, mode="backfill", **span)
    assert select(warehouse, "SELECT count(*) FROM etl_batches") == [(0,)]


async def test_runs_of_two_connections_at_one_time_are_told_apart_by_their_ids(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "connections.toml"
    file.write_text('[acme]\nsource = "numbers"\n')
    monkeypatch.setenv("ETL_CONNECTIONS", str(file))
    elsewhere = FIRST.astimezone(timezone(timedelta(hours=5)))
    for connection in ("default", "acme"):
        await run(warehouse, connection=connection, scheduled=elsewhere)
    ids = select(warehouse, "SELECT workflow_id FROM etl_batches ORDER BY connection DESC")
    assert ids == [
        ("engine/numbers-full-20260101T000000.000000Z",),
        ("engine/numbers@acme-full-20260101T000000.000000Z",),
    ]


async def test_a_listener_that_fails_ends_the_batch(warehouse: Warehouse) -> None:
    def fail(_job: ETLInput, _progress: JobProgress) -> None:
        raise ValueError("the bar is full")

    with pytest.raises(ValueError, match="the bar is full"):
        await run(warehouse, pages=100, listener=Heard(on_page=fail))
    ((state, summary),) = select(warehouse, "SELECT state, summary FROM etl_batches")
    assert state == "failed"
    assert summary["error"] == "ValueError: the bar is full"


async def test_a_job_that_takes_too_long_fails(warehouse: Warehouse) -> None:
    policy = RunPolicy(job_timeout=timedelta(milliseconds=300))
    summary = await run(
        warehouse, pages=1000, size=1, page_seconds=0.02, limits=replace(LIMITS, policy=policy)
    )
    assert summary.jobs.failed == 1
    assert "did not end within" in summary.failures[0].error


async def test_what_is_logged_of_a_batch_is_kept_once_it_has_ended(warehouse: Warehouse) -> None:
    summary = await run(warehouse, jobs=2, size=3, poisoned=1)
    kept = read_log(warehouse, summary.batch_id, limit=100)
    found = {line.event: line for line in kept.lines}
    assert found.keys() >= {"batch_planned", "page_loaded", "job_ended", "batch_ended"}
    assert found["batch_ended"].fields["state"] == "failed"
    assert found["page_loaded"].job_id
    assert (kept.earlier, kept.dropped) == (False, 0)
