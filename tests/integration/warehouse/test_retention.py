"""Pages and jobs of old runs are summarised and removed; whatever may need them is kept."""

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from psycopg import errors
from structlog.testing import capture_logs

from temporaletl.control.operations.platform import Platform
from temporaletl.control.web import dashboard
from temporaletl.messages import BatchMetadata, BatchSummary, JobState, Window
from temporaletl.queuer.retention import keep_pruning
from temporaletl.rows import Event
from temporaletl.settings.platform import LedgerSettings, TemporalSettings
from temporaletl.warehouse import ledger, retention
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.reports import BatchReport, list_batches
from temporaletl.warehouse.retention import Removed, prune, stream_summaries
from temporaletl.warehouse.state import advance, last_cursors, read_states, set_watermark
from temporaletl.worker.loading import Lineage, Loader
from tests.documentation import text_of
from tests.integration.api.in_process import serving, warehouse_settings
from tests.integration.loading.jobs import Job, holding, make_event
from tests.integration.warehouse.batches import HOUR, NOON, finish, job, make_metadata, plan, rows
from tests.integration.warehouse.command import Etl, etl
from tests.waiting import until

__all__ = ["etl"]

#: Days after which a run's pages are removed, or its pages and its jobs.
OLD, OLDER = 40, 100
AFTER_OLD = Window(start=NOON, end=NOON + HOUR)


def keeping(pages: int = 30, jobs: int = 90) -> LedgerSettings:
    return LedgerSettings.model_validate({"pages_keep_days": pages, "jobs_keep_days": jobs})


def execute(warehouse: Warehouse, statement: str, *parameters: object) -> None:
    with warehouse.connection() as connection:
        connection.execute(statement.encode(), parameters)


def ran(
    warehouse: Warehouse,
    batch_id: str = "shop-1",
    *ends: JobState,
    ago: int = OLDER,
    metadata: BatchMetadata | None = None,
    error: str | None = None,
    end: bool = True,
) -> BatchSummary | None:
    """Run a batch, each job of two pages with one event each, that ended so many days ago."""
    batch = metadata or make_metadata(batch_id)
    if not read_states(warehouse):
        set_watermark(warehouse, "shop", "orders", "default", NOON - 4 * HOUR)
    planned = plan(warehouse, batch, [job(batch, n) for n in range(len(ends or ("completed",)))])
    for one, state in zip(planned, ends or ("completed",), strict=True):
        run_id = f"run-{batch_id}-{one.seq}"
        ledger.begin_job(warehouse, one, workflow_id=f"job/{one.job_id}", run_id=run_id)
        loader = Loader(warehouse, (Event,), Lineage(one, f"job/{one.job_id}", run_id, "1", "1.0"))
        for page in range(2):
            event = make_event(page, event_id=f"{batch_id}-{one.seq}-{page}")
            loader.load(Job.page_of(page, event))
        ledger.end_job(warehouse, one, state)
    summary = finish(warehouse, batch, error=error) if end else None
    if summary is not None:
        advance(warehouse, batch, summary)
    age(warehouse, batch_id, ago)
    return summary


def age(warehouse: Warehouse, batch_id: str, days: int) -> None:
    execute(
        warehouse,
        "UPDATE etl_batches SET created_at = created_at - %s, ended_at = ended_at - %s "
        "WHERE batch_id = %s",
        *(timedelta(days=days), timedelta(days=days), batch_id),
    )


def pages_of(warehouse: Warehouse) -> dict[str, int]:
    return dict(rows(warehouse, "SELECT batch_id, count(*) FROM etl_pages GROUP BY 1"))


def jobs_of(warehouse: Warehouse) -> dict[str, int]:
    return dict(rows(warehouse, "SELECT batch_id, count(*) FROM etl_jobs GROUP BY 1"))


def loaded_later(warehouse: Warehouse) -> None:
    """A run of today, so that no other is the last one of the stream."""
    ran(warehouse, "last", ago=0)


def reports(warehouse: Warehouse) -> list[BatchReport]:
    return [
        one.model_copy(update={"pages_removed_at": None, "jobs_removed_at": None})
        for one in list_batches(warehouse, ended=True, limit=100)
    ]


def test_totals_stay_and_each_row_still_leads_to_its_run(warehouse: Warehouse) -> None:
    ran(warehouse, "shop-1", "completed", "cancelled", "completed")
    loaded_later(warehouse)
    before, states = reports(warehouse), read_states(warehouse)
    sums = "sum({0}.pages), sum({0}.records), sum({0}.inserted), count(*)".format("j")
    of_jobs = rows(warehouse, f"SELECT {sums} FROM etl_jobs AS j WHERE batch_id = 'shop-1'")

    assert prune(warehouse, keeping()) == Removed(batches=2, pages=6, jobs=3)

    assert (pages_of(warehouse), jobs_of(warehouse)) == ({"last": 2}, {"last": 1})
    assert (reports(warehouse), read_states(warehouse)) == (before, states)
    [summary] = stream_summaries(warehouse, "shop-1")
    assert [(summary.pages, summary.records, summary.inserted, summary.jobs)] == of_jobs
    assert (summary.completed, summary.cancelled) == (2, 1)
    [query] = [
        part
        for part in re.findall(r"```sql\n(.*?)```", text_of("operating.md"), re.DOTALL)
        if "etl_stream_summaries" in part
    ]
    query = query.replace("workplace.", "").replace("'…'", "%s").replace("b.*", "b.batch_id")
    assert rows(warehouse, query, "shop-1-2-1") == [("shop-1",)]
    assert prune(warehouse, keeping()) == Removed()


@pytest.mark.parametrize(
    ("settings", "pages", "jobs"),
    [
        (keeping(), {"new": 2}, {"old": 1, "new": 1}),
        (keeping(pages=0), {"old": 2, "new": 2}, {"old": 1, "new": 1}),
        (keeping(jobs=0), {"new": 2}, {"older": 1, "old": 1, "new": 1}),
        (keeping(0, 0), {"older": 2, "old": 2, "new": 2}, {"older": 1, "old": 1, "new": 1}),
        (keeping(pages=365), {"old": 2, "new": 2}, {"old": 1, "new": 1}),
    ],
)
def test_what_goes_when_is_as_it_is_set(
    warehouse: Warehouse, settings: LedgerSettings, pages: dict[str, int], jobs: dict[str, int]
) -> None:
    for name, ago in (("older", OLDER), ("old", OLD), ("new", 1)):
        ran(warehouse, name, ago=ago)
    prune(warehouse, settings)
    assert (pages_of(warehouse), jobs_of(warehouse)) == (pages, jobs)


def failed_backfill(warehouse: Warehouse) -> None:
    ran(warehouse, "kept", "completed", "failed", metadata=make_metadata("kept", "backfill"))


def open_retry(warehouse: Warehouse) -> None:
    failed_backfill(warehouse)
    ran(warehouse, "retry", metadata=retry_of("kept"), end=False)
    execute(warehouse, "UPDATE etl_jobs SET state = 'completed' WHERE batch_id = 'kept'")


def retry_of(batch_id: str) -> BatchMetadata:
    whole = make_metadata("retry", "backfill")
    return whole.model_copy(update={"retries": batch_id})


def rejected(warehouse: Warehouse) -> None:
    ran(warehouse, "kept")
    execute(
        warehouse,
        "INSERT INTO etl_rejects (source, stream, reject_hash, stage, reason, batch_id, job_id,"
        " workflow_id, run_id) VALUES ('shop', 'orders', 1, 'load', 'bad', 'kept', 'j', 'w', 'r')",
    )


def scanned(warehouse: Warehouse) -> None:
    ran(warehouse, "kept")
    execute(warehouse, "INSERT INTO etl_scan_items VALUES ('kept', 0, '', 'begun')")


def failed_planning(warehouse: Warehouse) -> None:
    metadata = make_metadata("kept", "backfill")
    ran(warehouse, "kept", "planned", metadata=metadata, error="the source is down")


@pytest.mark.parametrize(
    "needed", [failed_backfill, open_retry, rejected, scanned, failed_planning]
)
def test_jobs_that_something_may_need_are_kept_and_the_pages_are_not(
    warehouse: Warehouse, needed: Callable[[Warehouse], None]
) -> None:
    needed(warehouse)
    loaded_later(warehouse)
    prune(warehouse, keeping())
    assert jobs_of(warehouse)["kept"] >= 1
    assert "kept" not in pages_of(warehouse)


@pytest.mark.parametrize("state", ["running", "pausing", "paused", "cancelling"])
def test_of_a_run_that_has_not_ended_everything_is_kept(warehouse: Warehouse, state: str) -> None:
    ran(warehouse, "open", end=False)
    execute(warehouse, "UPDATE etl_batches SET state = %s", state)
    loaded_later(warehouse)
    assert prune(warehouse, keeping(1, 1)) == Removed()
    assert (pages_of(warehouse)["open"], jobs_of(warehouse)["open"]) == (2, 1)


def test_a_run_that_ended_in_the_future_by_a_wrong_clock_is_kept(warehouse: Warehouse) -> None:
    ran(warehouse, "shop-1", ago=-400)
    loaded_later(warehouse)
    assert prune(warehouse, keeping(1, 1)) == Removed()


def test_the_next_run_begins_where_it_would_have(warehouse: Warehouse) -> None:
    ran(warehouse, "shop-1")
    following = make_metadata("shop-2", orders=AFTER_OLD)
    before = read_states(warehouse), last_cursors(warehouse, following)
    assert before[1] == {"orders": 2}
    prune(warehouse, keeping())
    assert (read_states(warehouse), last_cursors(warehouse, following)) == before
    ran(warehouse, "shop-2", metadata=following, ago=0)
    [state] = read_states(warehouse)
    assert (state.watermark, state.batch_id) == (AFTER_OLD.end, "shop-2")
    # It is the last one no more.
    assert prune(warehouse, keeping()).jobs == 1


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_jobs_that_failed_go_once_a_later_run_has_loaded_their_window(
    warehouse: Warehouse, mode: Any
) -> None:
    ran(warehouse, "shop-1", "failed", metadata=make_metadata("shop-1", mode))
    ran(warehouse, "shop-2", "failed", metadata=make_metadata("shop-2", mode), ago=0)
    assert prune(warehouse, keeping()).jobs == 0
    ran(warehouse, "shop-3", metadata=make_metadata("shop-3", mode), ago=0)
    assert prune(warehouse, keeping()).jobs == 1


def test_a_retry_goes_after_what_it_has_loaded(warehouse: Warehouse) -> None:
    ran(warehouse, "kept", "failed", metadata=make_metadata("kept", "backfill"))
    ran(warehouse, "retry", metadata=retry_of("kept"))
    execute(
        warehouse,
        "UPDATE etl_batches SET ended_at = ended_at - interval '1 day' WHERE batch_id = 'kept'",
    )
    assert prune(warehouse, keeping()) == Removed(batches=4, pages=4, jobs=2)


def test_two_that_prune_at_once_remove_everything_once(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCHES_AT_ONCE", 2)
    for number in range(12):
        ran(warehouse, f"shop-{number}")
    loaded_later(warehouse)
    with ThreadPoolExecutor() as threads:
        both = [threads.submit(prune, warehouse, keeping()) for _ in range(2)]
        found = [one.result(timeout=60) for one in both]
    assert found[0] + found[1] == Removed(batches=24, pages=24, jobs=12)
    assert (pages_of(warehouse), jobs_of(warehouse)) == ({"last": 2}, {"last": 1})
    assert rows(warehouse, "SELECT count(*), sum(pages) FROM etl_stream_summaries") == [(12, 24)]


def test_what_others_hold_is_left_for_another_time(warehouse: Warehouse) -> None:
    for number in range(3):
        ran(warehouse, f"shop-{number}")
    loaded_later(warehouse)
    with holding(warehouse, "SELECT FROM etl_batches WHERE batch_id = 'shop-1' FOR UPDATE"):
        assert prune(warehouse, keeping()).jobs == 2
    assert prune(warehouse, keeping()).jobs == 1


@pytest.mark.parametrize(("batches", "at_most"), [(1, 10_000), (100, 1), (100, 3)])
def test_one_that_is_killed_leaves_each_run_whole_and_the_next_goes_on(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, batches: int, at_most: int
) -> None:
    monkeypatch.setattr(retention, "BATCHES_AT_ONCE", batches)
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", at_most)
    for number in range(5):
        ran(warehouse, f"shop-{number}")
    loaded_later(warehouse)
    before = reports(warehouse)
    steps = 0

    def killed_at_the_second(_: float) -> bool:
        nonlocal steps
        steps += 1
        if steps == 2:  # in a transaction of its own, as the process would have died in it
            with warehouse.connection() as dying:
                dying.execute("DELETE FROM etl_pages WHERE batch_id = 'shop-4'")
                dying.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return False

    with pytest.raises(Exception, match=r"terminat|broke|closed"):
        prune(warehouse, keeping(), pause=killed_at_the_second)
    left = pages_of(warehouse)
    assert 1 < len(left) < 6
    assert set(left.values()) == {2}
    assert reports(warehouse) == before
    prune(warehouse, keeping())
    assert (pages_of(warehouse), jobs_of(warehouse)) == ({"last": 2}, {"last": 1})
    assert reports(warehouse) == before


def test_a_step_that_fails_removes_nothing(warehouse: Warehouse) -> None:
    ran(warehouse, "shop-1")
    loaded_later(warehouse)

    def fail(connection: Connection) -> None:
        connection.execute("SELECT 1 / 0")

    with pytest.raises(errors.DivisionByZero):
        prune(warehouse, keeping(), effect=fail)
    assert (pages_of(warehouse)["shop-1"], jobs_of(warehouse)["shop-1"]) == (2, 1)
    assert stream_summaries(warehouse, "shop-1") == []


async def test_services_prune_until_they_are_told_to_end(warehouse: Warehouse) -> None:
    ran(warehouse, "shop-1")
    loaded_later(warehouse)
    with capture_logs() as logs:
        pruning = asyncio.create_task(keep_pruning(warehouse, keeping()))
        await until(lambda: any(one["event"] == "ledger_pruned" for one in logs))
        pruning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pruning
    [line] = [one for one in logs if one["event"] == "ledger_pruned"]
    assert (line["pages"], line["jobs"]) == (2, 1)


def test_commands_say_what_is_due_remove_it_and_show_what_is_left_of_a_run(
    etl: Etl, warehouse: Warehouse
) -> None:
    ran(warehouse, "shop-1", "completed", "failed")
    execute(warehouse, "UPDATE etl_batches SET engine = 'local'")
    loaded_later(warehouse)
    shown = json.loads(etl("ledger", "show", "--json")[1])
    assert shown["due"]["jobs"] == {"runs": 1, "pages": 4, "jobs": 2}
    assert {"etl_pages", "etl_jobs", "etl_batches"} <= {one["table"] for one in shown["tables"]}
    for dry in (("ledger", "show"), ("ledger", "prune", "--dry-run")):
        status, out, _ = etl(*dry)
        assert status == 0
        assert "jobs of runs that ended more than 90 days ago, due: 4 pages and 2 jobs" in out
    assert sum(pages_of(warehouse).values()) == 6
    assert "summarised and removed: 4 pages and 2 jobs" in etl("ledger", "prune")[1]
    assert "nothing is due" in etl("ledger", "prune")[1]
    entries = json.loads(etl("audit", "list", "--json")[1])
    assert [one["action"] for one in entries] == ["ledger.prune"]
    assert entries[0]["details"] == {"pages_keep_days": 30, "jobs_keep_days": 90}

    status, out, _ = etl("status", "shop-1")
    assert status == 0
    assert out.count("summarised on") == 2
    assert "2 planned: 1 completed, 1 failed" in out
    assert "orders" in out
    status, _, err = etl("retry", "shop-1")
    assert status != 0
    assert "nothing of shop-1 is still to be loaded: its jobs were summarised on" in err


async def test_api_and_dashboard_say_when_and_show_the_streams(
    warehouse: Warehouse, postgres_url: str
) -> None:
    ran(warehouse, "shop-1")
    execute(warehouse, "UPDATE etl_batches SET engine = 'local'")
    loaded_later(warehouse)
    prune(warehouse, keeping())
    temporal = TemporalSettings.model_validate({"enabled": False})
    platform = Platform(temporal, warehouse_settings(postgres_url, warehouse.schema))
    async with serving(platform, fronts=(dashboard.install,)) as served:
        found = (await served("GET", "/api/v1/runs/shop-1")).json()
        assert found["run"]["jobs_removed_at"] >= found["run"]["pages_removed_at"]
        assert found["run"]["rows"]["inserted"] == 2
        [stream] = found["streams"]
        assert (stream["stream"], stream["pages"], stream["inserted"]) == ("orders", 2, 2)
        for noun in ("jobs", "pages"):
            answer = await served("GET", f"/api/v1/runs/shop-1/{noun}")
            assert (answer.status_code, answer.json()["items"]) == (200, [])
        page = (await served("GET", "/runs/shop-1")).text
        assert page.count("summarised on") == 2
        assert ">orders<" in page
        assert "No job was planned" not in page
