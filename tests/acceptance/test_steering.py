"""Runs that are paused, resumed, cancelled or doubled, and the modes: the rows are the truth's."""

import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from temporaletl.connect import open_client
from temporaletl.messages import BatchSummary
from tests.acceptance.platform import Platform, platform_in
from tests.fakes.jira import Site, generate, serve, truth
from tests.fakes.jira.moments import parse
from tests.fakes.jira.truth import edited
from tests.fakes.server import FakeServer
from tests.integration.temporal_server import require_temporal
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

log = logging.getLogger(__name__)

_ISSUES = 150
_SLOW_SECONDS = 0.15
#: What the documentation promises of pause, in seconds.
_PROMISED = 20
#: How long no row may come to call a run paused.
_SILENCE = 3
_RUNNING_JOBS = "WorkflowType = 'ETLFlow' AND ExecutionStatus = 'Running'"


@pytest.fixture(scope="module")
def site() -> Site:
    return generate(_ISSUES, seed=12, personality="cloud")


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[FakeServer]:
    with serve(site) as server:
        yield server


@pytest.fixture(scope="module")
def platform(server: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    require_temporal()
    environment = {
        "JIRA_URL": server.url,
        "JIRA_EMAIL": "me@example.com",
        "JIRA_API_TOKEN": "a-token",
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
    """The source, quick and without faults; nothing is loaded, and no run is left behind."""
    if platform.rows("SELECT to_regclass('events')") != [(None,)]:
        platform.execute("TRUNCATE events")
    platform.execute("TRUNCATE etl_sync_state")
    yield server
    server.latency_seconds = 0
    server.faults.clear()
    async for left in client.list_workflows("ExecutionStatus = 'Running'"):
        await client.get_workflow_handle(left.id).terminate("left behind by a test")


def loaded(platform: Platform) -> int:
    [(present,)] = platform.rows("SELECT to_regclass('events') IS NOT NULL")
    if not present:
        return 0
    [(count,)] = platform.rows("SELECT count(*)::int FROM events")
    return int(count)


def kinds(platform: Platform) -> Counter[str]:
    return Counter(
        dict(
            platform.rows(
                "SELECT CASE WHEN event_type LIKE '%_changed' THEN 'changed' ELSE event_type END, "
                "count(*)::int FROM events GROUP BY 1"
            )
        )
    )


def expected(site: Site) -> Counter[str]:
    found = truth(site)
    return +Counter(
        {
            "issue_created": found.issues_created,
            "changed": found.changelog_items,
            "comment_created": found.comments_created,
            "comment_updated": found.comments_edited,
            "worklog_created": found.worklogs_created,
            "worklog_updated": found.worklogs_edited,
        }
    )


@dataclass(frozen=True)
class Run:
    platform: Platform
    client: Client
    workflow_id: str

    @classmethod
    async def begin(cls, platform: Platform, client: Client) -> "Run":
        """Start a full load by command, and wait until some of it is loaded."""
        begun = platform.etl("run", "jira", "--mode", "full", "--json")
        assert begun.returncode == 0, begun.stderr
        run = cls(platform, client, json.loads(begun.stdout)["workflow_id"])
        await until(lambda: loaded(platform) > 0)
        return run

    def steer(self, command: str) -> None:
        ended = self.platform.etl(command, self.workflow_id)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert self.workflow_id in ended.stdout

    def state(self) -> str:
        shown = self.platform.etl("status", self.workflow_id, "--json")
        return str(json.loads(shown.stdout)["run"]["state"])

    async def rests(self) -> bool:
        """Whether every job is there and none has anything under way, nor will have by itself."""
        jobs = [job async for job in self.client.list_workflows(_RUNNING_JOBS)]
        for job in jobs:
            handle = self.client.get_workflow_handle(job.id)
            described = (await handle.describe()).raw_description
            if described.pending_activities or described.HasField("pending_workflow_task"):
                return False
            if (await handle.query("status"))["state"] != "paused":
                return False
        return bool(jobs)

    async def stays_away(self) -> bool:
        """Whether the job waits in a timer, and nothing of it in a worker."""
        [job] = [job async for job in self.client.list_workflows(_RUNNING_JOBS)]
        handle = self.client.get_workflow_handle(job.id)
        described = (await handle.describe()).raw_description
        if described.pending_activities or described.HasField("pending_workflow_task"):
            return False
        timers = Counter([event.event_type async for event in handle.fetch_history_events()])
        ended = (
            timers[EventType.EVENT_TYPE_TIMER_FIRED] + timers[EventType.EVENT_TYPE_TIMER_CANCELED]
        )
        return timers[EventType.EVENT_TYPE_TIMER_STARTED] > ended

    async def pause(self) -> None:
        """Pause it, and see that it rests in time and goes on resting."""
        began = monotonic()
        self.steer("pause")
        await until(self.rests, within_seconds=_PROMISED)
        log.info("the run rested %.1f s after the pause", monotonic() - began)
        rows = loaded(self.platform)
        with pytest.raises(TimeoutError):
            await until(lambda: loaded(self.platform) != rows, within_seconds=_SILENCE)
        assert await self.rests()
        assert self.state() == "paused"

    async def summary(self) -> BatchSummary:
        handle = self.client.get_workflow_handle(self.workflow_id, result_type=BatchSummary)
        summary: BatchSummary = await handle.result()
        return summary


async def test_a_paused_run_rests_and_goes_on_to_the_end(
    platform: Platform, client: Client, site: Site, jira: FakeServer
) -> None:
    jira.latency_seconds = _SLOW_SECONDS
    run = await Run.begin(platform, client)
    await run.pause()
    assert 0 < loaded(platform) < expected(site).total()

    jira.latency_seconds = 0
    run.steer("resume")
    summary = await run.summary()
    assert summary.state == "completed"
    assert summary.rows.inserted == loaded(platform)
    assert kinds(platform) == expected(site)


#: A front of one's own, on operations alone: starts a run, watches it, pauses it, lets it end.
_FRONT = """
import asyncio

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.progress import follow
from temporaletl.control.operations.runs import run_request, start_run
from temporaletl.control.operations.signals import signal_run
from temporaletl.settings import TemporalSettings, WarehouseSettings


async def main() -> None:
    async with Platform(TemporalSettings.load(), WarehouseSettings.load()) as platform:
        run = await start_run(platform, run_request("jira", mode="full"))
        paused = False
        async for snapshot in follow(platform, run):
            print(snapshot.state, snapshot.loaded, flush=True)
            if snapshot.loaded and not paused:
                await signal_run(platform, run.workflow_id, "pause")
                paused = True
            elif snapshot.state == "paused":
                await signal_run(platform, run.workflow_id, "resume")
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
    assert (summary.state, kinds(platform)) == ("completed", expected(site))


async def test_a_run_that_is_followed_says_until_when_its_source_wants_no_requests(
    platform: Platform, jira: FakeServer
) -> None:
    jira.latency_seconds = _SLOW_SECONDS
    jira.faults.retry_after = timedelta(minutes=10)
    with platform.etl_running("run", "jira", "--mode", "full", "--wait") as command:
        await until(lambda: loaded(platform) > 0)
        jira.faults.add("429:1")
        assert command.stderr is not None
        told = next(line for line in command.stderr if "; waiting: " in line)
    jira.faults.clear()
    platform.execute("DELETE FROM etl_budgets")
    # It was told only now, and keeps to that for some seconds whatever the warehouse says.
    platform.services["worker"].end()
    platform.start_service("worker")
    assert "waiting: jira is rate-limited" in told


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

    # Now it is Temporal that waits, and the source is not asked.
    asked = jira.faults.injected["429"]
    run.steer("resume")
    await until(run.stays_away)
    assert jira.faults.injected["429"] == asked
    await run.pause()

    jira.faults.clear()
    jira.latency_seconds = 0
    # All workers would keep away from the source for these ten minutes, and the one that was told
    # so knows it by itself.
    platform.execute("DELETE FROM etl_budgets")
    platform.services["worker"].end()
    platform.start_service("worker")
    run.steer("resume")
    summary = await run.summary()
    assert summary.state == "completed"
    assert kinds(platform) == expected(site)


async def test_a_cancelled_run_tells_what_it_loaded(
    platform: Platform, site: Site, jira: FakeServer
) -> None:
    jira.latency_seconds = _SLOW_SECONDS
    with platform.etl_running("run", "jira", "--mode", "full", "--wait", "--json") as command:
        await until(lambda: loaded(platform) > 0, within_seconds=30)
        [(workflow_id,)] = platform.rows(
            "SELECT workflow_id FROM etl_batches ORDER BY created_at DESC LIMIT 1"
        )
        began = monotonic()
        assert platform.etl("cancel", workflow_id).returncode == 0
        answer, _ = command.communicate(timeout=_PROMISED)
        assert monotonic() - began < _PROMISED
    assert command.returncode == 1
    summary = BatchSummary.model_validate_json(answer)
    assert summary.state == "cancelled"
    assert (summary.jobs.planned, summary.jobs.cancelled) == (1, 1)
    assert 0 < summary.rows.inserted == loaded(platform) < expected(site).total()
    assert platform.rows("SELECT watermark FROM etl_sync_state WHERE watermark IS NOT NULL") == []


async def test_two_full_runs_at_once(platform: Platform, site: Site, jira: FakeServer) -> None:
    jira.latency_seconds = _SLOW_SECONDS / 3
    words = ("run", "jira", "--mode", "full", "--wait", "--json")
    with ExitStack() as exits:
        both = [exits.enter_context(platform.etl_running(*words)) for _ in range(2)]
        answers = [command.communicate(timeout=90) for command in both]
    assert [command.returncode for command in both] == [0, 0], answers
    summaries = [BatchSummary.model_validate_json(answer) for answer, _ in answers]
    assert [summary.state for summary in summaries] == ["completed", "completed"]
    assert len({summary.batch_id for summary in summaries}) == 2
    assert sum(summary.rows.inserted for summary in summaries) == loaded(platform)
    assert kinds(platform) == expected(site)


def rows_by_id(platform: Platform) -> dict[str, tuple[Any, ...]]:
    found = platform.rows("SELECT event_id, event_type, parent_item_id, event_time_utc FROM events")
    return {event_id: tuple(rest) for event_id, *rest in found}


@pytest.mark.usefixtures("jira")
def test_incremental_loads_exactly_what_is_new(platform: Platform, site: Site) -> None:
    now = int(datetime.now(UTC).timestamp()) * 1000
    commented, moved = site.rows[3].key, site.rows[7].key
    comment = site.edit.add_comment(commented, "first thoughts", at=now - 400_000)
    assert platform.load("jira", "--mode", "full").state == "completed"
    before = rows_by_id(platform)
    assert platform.load("jira").rows.inserted == 0

    at = now - 120_000
    project = site.rows[0].project
    new = site.edit.add_issue(project, "An issue of today", at=at)
    site.edit.add_comment(new.key, "a comment", at=at + 1_000)
    site.edit.edit_comment(commented, comment["id"], "second thoughts", at=at + 2_000)
    site.edit.transition(moved, "Blocked", at=at + 3_000)
    summary = platform.load("jira")

    after = rows_by_id(platform)
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
    assert kinds(platform) == expected(site)
    again = platform.load("jira")
    assert (again.rows.inserted, again.rows.updated) == (0, 0)


def moments(site: Site) -> list[tuple[int, str]]:
    """When everything happened in a site, in ms, read from the site itself."""
    found: list[tuple[int, str]] = []
    for row in site.rows:
        issue = site.issue(row)
        found.append((parse(issue.fields["created"]), "issue_created"))
        for history in issue.histories:
            found += [(parse(history["created"]), "changed")] * len(history["items"])
        for name, entries in (("comment", issue.comments), ("worklog", issue.worklogs)):
            found += [(parse(each["created"]), f"{name}_created") for each in entries]
            found += [
                (parse(each["updated"]), f"{name}_updated") for each in filter(edited, entries)
            ]
    return sorted(found)


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

    everything = moments(site)
    # Both ends are moments at which something happened: the first is in, the second is out.
    start, end = everything[len(everything) // 3][0], everything[len(everything) // 2][0]
    within = Counter(kind for moment, kind in everything if start <= moment < end)
    assert within.total() > 100
    summary = platform.load("jira", "--from", as_text(start), "--to", as_text(end))
    assert (summary.state, summary.mode) == ("completed", "backfill")
    assert summary.rows.inserted == within.total()
    assert kinds(platform) == within
    [(first, last)] = platform.rows("SELECT min(event_time_utc), max(event_time_utc) FROM events")
    assert round(first.timestamp() * 1000) == start
    assert round(last.timestamp() * 1000) < end
    assert platform.rows("SELECT * FROM etl_sync_state") == states


def as_text(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat()
