"""Recovery: whatever is killed during a run, the rows are those of an undisturbed one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from temporaletl.messages import BatchSummary
from tests.acceptance.disturbed_run import (
    assert_same_rows,
    disturbed,
    load_undisturbed,
    wait_until_more,
)
from tests.acceptance.platform import Platform
from tests.fakes.jira import Site


@pytest.fixture(scope="module")
def undisturbed(platform: Platform, site: Site) -> int:
    return load_undisturbed(platform, site)


@pytest.fixture
def empty(platform: Platform, undisturbed: int) -> int:
    platform.execute("TRUNCATE events")
    return undisturbed


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
        platform.execute(f"DROP TRIGGER linger ON {of.rsplit(maxsplit=1)[-1]}")


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
