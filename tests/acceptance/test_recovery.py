"""Recovery: whatever is killed during a run, the rows are those of an undisturbed one."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from temporaletl.messages import BatchSummary
from tests.acceptance.platform import Platform
from tests.fakes.jira import Site, expected_counts
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

_DATA = (
    "source_kind_id, event_id, parent_item_id, event_type, relation_type, person, employee_id, "
    "event_time_utc, week, timezone, event_time, event_properties, relation_properties, metrics, "
    "version, specific_version, row_hash"
)
_INTERRUPTIONS = 3


@pytest.fixture(scope="module")
def undisturbed(platform: Platform, site: Site) -> int:
    """Load the site undisturbed, and copy the rows; return their number."""
    summary = platform.load("jira", "--mode", "full")
    assert summary.state == "completed"
    platform.execute(
        f"DROP TABLE IF EXISTS expected; CREATE TABLE expected AS SELECT {_DATA} FROM events"
    )
    [(count,)] = platform.rows("SELECT count(*) FROM expected")
    assert count == summary.rows.inserted == expected_counts(site).events
    return int(count)


@pytest.fixture
def empty(platform: Platform, undisturbed: int) -> int:
    platform.execute("TRUNCATE events")
    return undisturbed


def disturbed(platform: Platform, disturb: Callable[[], None]) -> BatchSummary:
    """Load the site, and disturb the run whenever it has loaded more."""
    with platform.etl_running("run", "jira", "--mode", "full", "--wait", "--json") as command:
        for _ in range(_INTERRUPTIONS):
            loaded = inserted(platform)
            wait_until_more(platform, loaded)
            assert command.poll() is None, "the run was over before it could be disturbed"
            disturb()
        answer, errors = command.communicate(timeout=120)
    assert command.returncode == 0, errors
    return BatchSummary.model_validate(json.loads(answer))


_INSERTED = "SELECT count(*) FROM events"


def inserted(platform: Platform, counted: str = _INSERTED) -> int:
    [(count,)] = platform.rows(counted)
    return int(count)


def wait_until_more(platform: Platform, than: int, *, counted: str = _INSERTED) -> None:
    asyncio.run(until(lambda: inserted(platform, counted) > than, within_seconds=60))


LINGERING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


@contextmanager
def lingering(
    platform: Platform, *, seconds: float, when: str, of: str = "INSERT ON etl_pages"
) -> Iterator[None]:
    """Have transactions of some rows take their time, until the block ends."""
    platform.execute(
        f"""
        CREATE OR REPLACE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END
        $$;
        CREATE TRIGGER linger BEFORE {of} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION linger()
        """
    )
    try:
        yield
    finally:
        platform.execute(f"DROP TRIGGER linger ON {of.split()[-1]}")


def assert_same_rows(platform: Platform, summary: BatchSummary, expected: int) -> None:
    assert summary.state == "completed"
    assert summary.rows.inserted == expected
    assert inserted(platform) == expected
    for first, second in (("events", "expected"), ("expected", "events")):
        [(different,)] = platform.rows(
            f"SELECT count(*) FROM (SELECT {_DATA} FROM {first} "
            f"EXCEPT ALL SELECT {_DATA} FROM {second}) AS difference"
        )
        assert different == 0


def test_a_worker_killed_three_times(platform: Platform, empty: int) -> None:
    def kill() -> None:
        platform.kill("worker")
        platform.start_service("worker")

    summary = disturbed(platform, kill)
    assert_same_rows(platform, summary, empty)
    [(runs,)] = platform.rows(
        "SELECT count(DISTINCT (p.batch_id, p.seq, p.page)) - count(*) FROM etl_pages p"
    )
    assert runs == 0


def test_a_worker_frozen_in_the_middle_of_a_page(platform: Platform, empty: int) -> None:
    """Another worker continues, although the first one holds its transaction and wakes up later."""
    # One job: each that is handed to a frozen worker waits for its heartbeats to be missed.
    one = ("--param", "issues_per_job=5000")
    with (
        lingering(platform, seconds=3, when="NEW.page = 1"),
        platform.etl_running("run", "jira", "--mode", "full", *one, "--wait", "--json") as command,
    ):
        wait_until_more(platform, 0, counted=LINGERING)
        with platform.frozen("worker"), platform.another("worker"):
            answer, errors = command.communicate(timeout=120)
        assert command.returncode == 0, errors
    assert_same_rows(platform, BatchSummary.model_validate(json.loads(answer)), empty)


@pytest.mark.parametrize(
    ("of", "when"),
    [("INSERT ON etl_batches", "true"), ("UPDATE ON etl_batches", "NEW.ended_at IS NOT NULL")],
    ids=["begins", "ends"],
)
def test_a_queuer_killed_in_the_middle_of_the_books_of_a_batch(
    platform: Platform, empty: int, of: str, when: str
) -> None:
    """Another one closes them soon: without heartbeats, Temporal would wait for five minutes."""
    with platform.etl_running("run", "jira", "--mode", "full", "--wait", "--json") as command:
        with lingering(platform, seconds=2, of=of, when=when):
            wait_until_more(platform, 0, counted=LINGERING)
            platform.kill("queuer")
        platform.start_service("queuer")
        answer, errors = command.communicate(timeout=120)
        assert command.returncode == 0, errors
    assert_same_rows(platform, BatchSummary.model_validate(json.loads(answer)), empty)


def test_postgresql_stopped_and_started_three_times(platform: Platform, empty: int) -> None:
    def restart() -> None:
        platform.postgres.end()
        platform.postgres.start(platform.stop)

    assert_same_rows(platform, disturbed(platform, restart), empty)


def test_temporal_stopped_and_started_three_times(platform: Platform, empty: int) -> None:
    def restart() -> None:
        platform.temporal.end()
        platform.temporal.start(lambda _line: None)
        platform.temporal.wait(platform.stop)

    # Segments load on meanwhile: quick ones would have loaded everything.
    with lingering(platform, seconds=1, when="true"):
        summary = disturbed(platform, restart)
    assert_same_rows(platform, summary, empty)


def test_a_worker_told_to_end_stops_at_a_page_boundary(platform: Platform, empty: int) -> None:
    def replace() -> None:
        platform.services["worker"].end()
        platform.start_service("worker")

    assert_same_rows(platform, disturbed(platform, replace), empty)
