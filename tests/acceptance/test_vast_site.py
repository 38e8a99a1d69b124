"""A Jira of a million issues: what a run costs there is what has changed, and a scan's pages."""

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from temporaletl.messages import BatchSummary
from tests.acceptance.platform import Platform, access_to, platform_in
from tests.fakes.jira.generate import FIRST_ISSUE
from tests.fakes.jira.vast import VastSite, serve
from tests.fakes.server import FakeServer
from tests.process_figures import peak_memory_bytes
from tests.waiting import until

log = logging.getLogger(__name__)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3_600),
    pytest.mark.skipif(sys.platform != "linux", reason="no /proc: no memory of other processes"),
]

ISSUES = 1_000_000
#: Stored, and not in Jira.
DELETED = 30
CHANGED = 100
#: Searches of a scan: one for each answer of 5,000 ids, and one for each of 64 stretches of time,
#: whose answer is not full. Those under way are lost where a segment ends.
_MOST_SEARCHES = ISSUES // 5_000 + 64
_UNDER_WAY = 6
_MOST_GROWTH_MB = 64


@pytest.fixture(scope="module")
def site() -> VastSite:
    return VastSite(ISSUES)


@pytest.fixture(scope="module")
def jira(site: VastSite) -> Iterator[FakeServer]:
    with serve(site, latency=timedelta(milliseconds=20)) as server:
        yield server


@pytest.fixture(scope="module")
def vast(
    site: VastSite, jira: FakeServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """A platform whose warehouse has an event of each issue, as it was created."""
    environment = {**access_to(jira), "JIRA_FIND_DELETED": "daily", "ETL_SEGMENT_SECONDS": "15"}
    with platform_in(tmp_path_factory.mktemp("vast"), environment) as platform:
        first = datetime.fromtimestamp(site.created(0) / 1000, UTC)
        window = ("--from", first.isoformat(), "--to", (first + timedelta(hours=1)).isoformat())
        loaded = platform.load("jira", *window, timeout_seconds=300)
        assert loaded.rows.inserted > 0
        columns = [
            name
            for (name,) in platform.rows(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'events'::regclass "
                "AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
            )
        ]
        copied = ["n || ':created'" if name == "event_id" else f"t.{name}" for name in columns]
        platform.execute(
            f"INSERT INTO events ({', '.join(columns)}) SELECT {', '.join(copied)} "
            "FROM (SELECT * FROM events WHERE event_type = 'issue_created' LIMIT 1) AS t, "
            f"generate_series({FIRST_ISSUE - DELETED}, {FIRST_ISSUE + ISSUES - 1}) AS n "
            "ON CONFLICT DO NOTHING; ANALYZE events"
        )
        platform.etl("state", "set", "jira", "--watermark", datetime.now(UTC).isoformat())
        yield platform


def memory_mb(platform: Platform) -> float:
    """The most memory that the worker ever held."""
    return peak_memory_bytes(platform.services["worker"].pid) / 2**20


def listed(platform: Platform) -> int:
    [(count,)] = platform.rows("SELECT count(*) FROM etl_scan_items WHERE finding = 'listed'")
    return int(count)


def issues_stored(platform: Platform) -> int:
    [(count,)] = platform.rows(
        "SELECT count(*) FROM events WHERE event_type = 'issue_created' AND deleted_at IS NULL"
    )
    return int(count)


def test_a_killed_scan_goes_on_and_the_next_run_costs_what_has_changed(
    vast: Platform, site: VastSite, jira: FakeServer
) -> None:
    assert issues_stored(vast) == ISSUES + DELETED
    jira.traffic.clear()
    words = ("run", "jira", "--mode", "incremental", "--wait", "--json")
    with vast.etl_running(*words) as command:
        asyncio.run(until(lambda: listed(vast) > ISSUES // 2, within_seconds=600))
        vast.kill("worker")
        vast.start_service("worker")
        vast.await_service("worker")
        before = memory_mb(vast)
        answer, errors = command.communicate(timeout=1_200)
    assert command.returncode == 0, errors
    assert BatchSummary.model_validate(json.loads(answer)).state == "completed"
    assert issues_stored(vast) == ISSUES
    assert jira.traffic.most_in_flight > 3
    # Of ids alone, and no page of it is read twice but what was lost.
    searches = jira.traffic.count("/search/jql")
    segments = 1 + (vast.folder / "logs" / "worker.log").read_text("utf-8").count("segment_ended")
    assert ISSUES // 5_000 < searches < _MOST_SEARCHES + _UNDER_WAY * segments
    log.info("%d searches, %d segments; %.0f MB", searches, segments, memory_mb(vast) - before)
    assert memory_mb(vast) < before + _MOST_GROWTH_MB

    for number in range(CHANGED):
        site.edit.add_comment(FIRST_ISSUE + number * (ISSUES // CHANGED), "once more")
    jira.traffic.clear()
    summary = vast.load("jira", "--mode", "incremental", timeout_seconds=300)
    assert (summary.state, summary.records) == ("completed", CHANGED)
    [(comments,)] = vast.rows(
        "SELECT count(*) FROM events WHERE event_properties->>'body' = 'once more'"
    )
    assert comments == CHANGED
    # No scan: one was finished today. Whatever the size of the site, there are few requests.
    log.info("%d requests; %.0f MB", jira.traffic.count(), memory_mb(vast))
    assert jira.traffic.count() < 20
    assert memory_mb(vast) < before + _MOST_GROWTH_MB
