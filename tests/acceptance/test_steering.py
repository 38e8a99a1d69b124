"""Runs that are paused, resumed, cancelled or started twice, and modes: rows are as expected."""

import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporaletl.messages import BatchSummary
from temporaletl.temporal.connect import open_client
from tests.acceptance.jira_run import (
    PROMISED_SECONDS,
    Run,
    count_events,
    events_by_id,
    expected_kinds,
    stored_kinds,
    timestamps,
)
from tests.acceptance.platform import Platform, access_to, platform_in
from tests.fakes.jira import Site, generate, serve
from tests.fakes.server import FakeServer
from tests.waiting import until

_ISSUES = 150
_SLOW_SECONDS = 0.15


@pytest.fixture(scope="module")
def site() -> Site:
    return generate(_ISSUES, seed=12, personality="cloud")


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[FakeServer]:
    with serve(site) as server:
        yield server


@pytest.fixture(scope="module")
def platform(server: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    environment = {
        **access_to(server),
        # Many small pages, so that there is much to be paused in.
        "JIRA_PAGE_SIZE": "4",
        # The one job that loads is what is steered.
        "JIRA_FIND_DELETED": "never",
        "ETL_ROWS_PER_PAGE": "50",
        "ETL_SEGMENT_SECONDS": "2",
    }
    with platform_in(tmp_path_factory.mktemp("steering"), environment) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(platform: Platform) -> Client:
    return await open_client(platform.temporal.endpoint)


@pytest_asyncio.fixture
async def jira(
    platform: Platform, server: FakeServer, client: Client
) -> AsyncGenerator[FakeServer]:
    """The fake Jira without latency or faults, an empty warehouse, and no run left behind."""
    if platform.rows("SELECT to_regclass('events')") != [(None,)]:
        platform.execute("TRUNCATE events")
    platform.execute("TRUNCATE etl_sync_state")
    yield server
    server.latency_seconds = 0
    server.faults.clear()
    async for left in client.list_workflows("ExecutionStatus = 'Running'"):
        try:
            await client.get_workflow_handle(left.id).terminate("left behind by a test")
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:  # else it has just ended
                raise


async def test_a_paused_run_rests_and_goes_on_to_the_end(
    platform: Platform, client: Client, site: Site, jira: FakeServer
) -> None:
    jira.latency_seconds = _SLOW_SECONDS
    run = await Run.begin(platform, client)
    await run.pause()
    assert 0 < count_events(platform) < expected_kinds(site).total()

    jira.latency_seconds = 0
    run.signal("resume")
    summary = await run.summary()
    assert summary.state == "completed"
    assert summary.rows.inserted == count_events(platform)
    assert stored_kinds(platform) == expected_kinds(site)


async def test_a_worker_that_is_killed_while_its_run_pauses_leaves_it_paused(
    platform: Platform, client: Client, site: Site, jira: FakeServer
) -> None:
    jira.latency_seconds = _SLOW_SECONDS
    run = await Run.begin(platform, client)
    platform.kill("worker")
    run.signal("pause")
    # Nobody has told the ledger otherwise: the segment has a worker until its heartbeat is missed.
    assert run.state() == "pausing"
    platform.start_service("worker")
    await until(lambda: run.state() == "paused")
    batch = f"batch_id = (SELECT batch_id FROM etl_batches WHERE workflow_id = '{run.workflow_id}')"
    assert platform.rows(f"SELECT DISTINCT state FROM etl_jobs WHERE {batch}") == [("paused",)]
    await until(
        lambda: platform.rows(f"SELECT state FROM etl_batches WHERE {batch}") == [("paused",)]
    )

    jira.latency_seconds = 0
    run.signal("resume")
    assert (await run.summary()).state == "completed"
    assert stored_kinds(platform) == expected_kinds(site)


#: A front of one's own, on operations alone: starts a run, watches it, pauses it, lets it end.
_FRONT = """
import asyncio

from temporaletl.control.operations.control import control_run
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.progress import follow
from temporaletl.control.operations.runs import run_request, start_run
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings


async def main() -> None:
    async with Platform(TemporalSettings.load(), WarehouseSettings.load()) as platform:
        run = await start_run(platform, run_request("jira", mode="full"))
        paused = False
        async for snapshot in follow(platform, run):
            print(snapshot.state, snapshot.loaded, flush=True)
            if snapshot.loaded and not paused:
                await control_run(platform, run.workflow_id, "pause")
                paused = True
            elif snapshot.state == "paused":
                await control_run(platform, run.workflow_id, "resume")
        print(run.ending.result().summary.model_dump_json())


asyncio.run(main())
"""


def test_a_front_of_thirty_lines_starts_watches_and_pauses_a_run(
    platform: Platform, site: Site, jira: FakeServer
) -> None:
    assert len(_FRONT.strip().splitlines()) <= 30
    jira.latency_seconds = _SLOW_SECONDS
    ended = subprocess.run(
        [sys.executable, "-P", "-c", _FRONT],
        env=platform.environment,
        cwd=platform.folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    *watched, last = ended.stdout.splitlines()
    states = [line.partition(" ")[0] for line in watched]
    assert "paused" in states
    assert "running" in states[states.index("paused") :]
    summary = BatchSummary.model_validate_json(last)
    assert (summary.state, stored_kinds(platform)) == ("completed", expected_kinds(site))


async def test_a_run_that_is_followed_says_until_when_its_source_wants_no_requests(
    platform: Platform, jira: FakeServer
) -> None:
    jira.latency_seconds = _SLOW_SECONDS
    jira.faults.retry_after = timedelta(minutes=10)
    with platform.etl_running("run", "jira", "--mode", "full", "--wait") as command:
        await until(lambda: count_events(platform) > 0)
        jira.faults.add("429:1")
        assert command.stderr is not None
        message = next(line for line in command.stderr if "; waiting: " in line)
    jira.faults.clear()
    # It goes on, and none of its source starts before it has ended.
    [(workflow_id,)] = platform.rows(
        "SELECT workflow_id FROM etl_runs ORDER BY requested_at DESC LIMIT 1"
    )
    assert platform.etl("cancel", workflow_id).returncode == 0
    await until(lambda: not platform.rows("SELECT FROM etl_runs WHERE ended_at IS NULL"))
    platform.execute("DELETE FROM etl_budgets")
    # The worker keeps to this `Retry-After` for some seconds, whatever the warehouse says.
    platform.services["worker"].end()
    platform.start_service("worker")
    assert "waiting: jira is rate-limited" in message


async def test_pause_takes_effect_while_the_source_asks_to_be_left_alone(
    platform: Platform, client: Client, site: Site, jira: FakeServer
) -> None:
    jira.latency_seconds = _SLOW_SECONDS
    run = await Run.begin(platform, client)
    jira.faults.retry_after = timedelta(minutes=10)
    before = jira.faults.injected["429"]
    jira.faults.add("429:1")
    await until(lambda: jira.faults.injected["429"] > before)
    await run.pause()

    # Now Temporal waits, and the source gets no request.
    refused = jira.faults.injected["429"]
    run.signal("resume")
    await until(run.waits_in_timer)
    assert jira.faults.injected["429"] == refused
    await run.pause()

    jira.faults.clear()
    jira.latency_seconds = 0
    # All workers would send no request for these ten minutes, the one that got the answer also
    # by its own memory.
    platform.execute("DELETE FROM etl_budgets")
    platform.services["worker"].end()
    platform.start_service("worker")
    run.signal("resume")
    summary = await run.summary()
    assert summary.state == "completed"
    assert stored_kinds(platform) == expected_kinds(site)


async def test_a_cancelled_run_tells_what_it_loaded(
    platform: Platform, site: Site, jira: FakeServer
) -> None:
    jira.latency_seconds = _SLOW_SECONDS
    with platform.etl_running("run", "jira", "--mode", "full", "--wait", "--json") as command:
        await until(lambda: count_events(platform) > 0)
        [(workflow_id,)] = platform.rows(
            "SELECT workflow_id FROM etl_batches ORDER BY created_at DESC LIMIT 1"
        )
        began = monotonic()
        assert platform.etl("cancel", workflow_id).returncode == 0
        answer, _ = command.communicate(timeout=PROMISED_SECONDS)
        assert monotonic() - began < PROMISED_SECONDS
    assert command.returncode == 1
    summary = BatchSummary.model_validate_json(answer)
    assert summary.state == "cancelled"
    assert (summary.jobs.planned, summary.jobs.cancelled) == (1, 1)
    assert 0 < summary.rows.inserted == count_events(platform) < expected_kinds(site).total()
    assert platform.rows("SELECT watermark FROM etl_sync_state WHERE watermark IS NOT NULL") == []


async def test_two_full_runs_at_once(platform: Platform, site: Site, jira: FakeServer) -> None:
    jira.latency_seconds = _SLOW_SECONDS / 3
    words = ("run", "jira", "--mode", "full", "--force", "--wait", "--json")
    with ExitStack() as exits:
        both = [exits.enter_context(platform.etl_running(*words)) for _ in range(2)]
        answers = [command.communicate(timeout=90) for command in both]
    assert [command.returncode for command in both] == [0, 0], answers
    summaries = [BatchSummary.model_validate_json(answer) for answer, _ in answers]
    assert [summary.state for summary in summaries] == ["completed", "completed"]
    assert len({summary.batch_id for summary in summaries}) == 2
    assert sum(summary.rows.inserted for summary in summaries) == count_events(platform)
    assert stored_kinds(platform) == expected_kinds(site)


@pytest.mark.usefixtures("jira")
def test_incremental_loads_exactly_what_is_new(platform: Platform, site: Site) -> None:
    now = int(datetime.now(UTC).timestamp()) * 1000
    commented, moved = site.rows[3].key, site.rows[7].key
    comment = site.edit.add_comment(commented, "first thoughts", at=now - 400_000)
    assert platform.load("jira", "--mode", "full").state == "completed"
    before = events_by_id(platform)
    assert platform.load("jira").rows.inserted == 0

    # Of the present: to load takes minutes where the machine is busy.
    at = int(datetime.now(UTC).timestamp()) * 1000 - 120_000
    project = site.rows[0].project
    new = site.edit.add_issue(project, "An issue of today", at=at)
    site.edit.add_comment(new.key, "a comment", at=at + 1_000)
    site.edit.edit_comment(commented, comment["id"], "second thoughts", at=at + 2_000)
    site.edit.transition(moved, "Blocked", at=at + 3_000)
    summary = platform.load("jira")

    after = events_by_id(platform)
    found = sorted(
        (kind, key, round(time.timestamp() * 1000) - at)
        for event_id, (kind, key, time) in after.items()
        if event_id not in before
    )
    assert found == sorted(
        [
            ("issue_created", new.key, 0),
            ("comment_created", new.key, 1_000),
            ("comment_updated", commented, 2_000),
            ("status_changed", moved, 3_000),
        ]
    )
    assert (summary.state, summary.mode) == ("completed", "incremental")
    assert summary.rows.inserted == 4
    assert stored_kinds(platform) == expected_kinds(site)
    again = platform.load("jira")
    assert (again.rows.inserted, again.rows.updated) == (0, 0)


@pytest.mark.usefixtures("jira")
@pytest.mark.parametrize("loaded_before", [False, True], ids=["never loaded", "loaded before"])
def test_a_backfill_loads_exactly_its_window_and_moves_no_watermark(
    platform: Platform, site: Site, loaded_before: bool
) -> None:
    if loaded_before:
        platform.load("jira", "--mode", "full")
        platform.execute("TRUNCATE events")
    states = platform.rows("SELECT * FROM etl_sync_state")
    assert len(states) == loaded_before

    everything = timestamps(site)
    # Both ends are timestamps of events: the first is in, the second is out.
    start, end = everything[len(everything) // 3][0], everything[len(everything) // 2][0]
    within = Counter(kind for time, kind in everything if start <= time < end)
    assert within.total() > 100
    summary = platform.load("jira", "--from", as_text(start), "--to", as_text(end))
    assert (summary.state, summary.mode) == ("completed", "backfill")
    assert summary.rows.inserted == within.total()
    assert stored_kinds(platform) == within
    [(first, last)] = platform.rows("SELECT min(event_time_utc), max(event_time_utc) FROM events")
    assert round(first.timestamp() * 1000) == start
    assert round(last.timestamp() * 1000) < end
    assert platform.rows("SELECT * FROM etl_sync_state") == states


def as_text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()
