"""A Temporal server that loses its data during a run, and runs that are terminated."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from temporaletl.embedded.temporal_server import EmbeddedTemporal, run
from temporaletl.temporal.connect import open_client
from tests.acceptance.platform import Platform, access_to, platform_in
from tests.fakes.jira import Site, expected_counts, generate, serve
from tests.fakes.server import FakeServer
from tests.waiting import until

_ISSUES = 120
_SLOW_SECONDS = 0.15
_WITHIN_SECONDS = 90


@pytest.fixture(scope="module")
def site() -> Site:
    return generate(_ISSUES, seed=17, personality="cloud")


@pytest.fixture(scope="module")
def jira(site: Site) -> Iterator[FakeServer]:
    with serve(site) as server:
        yield server


@pytest.fixture(scope="module")
def platform(jira: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    environment = {
        **access_to(jira),
        "JIRA_PAGE_SIZE": "4",
        "JIRA_FIND_DELETED": "never",
        "ETL_ROWS_PER_PAGE": "50",
        "ETL_RECONCILE_SECONDS": "1",
    }
    with platform_in(tmp_path_factory.mktemp("lost"), environment) as running:
        yield running


@pytest.fixture
def slow_run(platform: Platform, jira: FakeServer) -> Iterator[str]:
    """Start a long run; return its workflow id once it has loaded something."""
    if platform.rows("SELECT to_regclass('events')") != [(None,)]:
        platform.execute("TRUNCATE events")
    platform.execute("TRUNCATE etl_sync_state")
    jira.latency_seconds = _SLOW_SECONDS
    started = platform.etl("run", "jira", "--json")
    assert started.returncode == 0, started.stderr
    [(workflow_id,)] = platform.rows("SELECT workflow_id FROM etl_batches WHERE ended_at IS NULL")
    loaded = "SELECT FROM etl_jobs WHERE state = 'running' AND pages > 0"
    await_rows(platform, loaded)
    yield workflow_id
    jira.latency_seconds = 0


def await_rows(platform: Platform, statement: str) -> list[tuple[Any, ...]]:
    asyncio.run(until(lambda: bool(platform.rows(statement)), within_seconds=_WITHIN_SECONDS))
    return platform.rows(statement)


def forget(temporal: EmbeddedTemporal, platform: Platform) -> None:
    """Restart the server on the same port with an empty database."""
    temporal.end()
    for file in platform.folder.glob("temporal.db*"):
        file.unlink()
    temporal.start(lambda _line: None)
    temporal.wait(platform.stop)


def assert_next_run_loads_everything(platform: Platform, jira: FakeServer, site: Site) -> None:
    jira.latency_seconds = 0
    summary = platform.load("jira")
    assert summary.state == "completed"
    assert platform.rows("SELECT count(*)::int FROM events") == [(expected_counts(site).events,)]
    assert platform.rows("SELECT watermark FROM etl_sync_state") == [
        (summary.windows["issues"].end,)
    ]


def test_a_run_of_a_temporal_that_was_restarted_empty_ends_as_lost(
    platform: Platform, jira: FakeServer, site: Site, slow_run: str
) -> None:
    forget(platform.temporal, platform)

    [(batch, state, error)] = await_rows(
        platform,
        "SELECT batch_id, state, summary->>'error' FROM etl_batches "
        f"WHERE workflow_id = '{slow_run}' AND ended_at IS NOT NULL",
    )

    assert state == "failed"
    assert error.startswith(f"lost: Temporal at {platform.temporal.endpoint.address} on ")
    assert error.endswith(f", namespace default no longer knows the workflow {slow_run}")
    assert platform.rows(f"SELECT DISTINCT state FROM etl_jobs WHERE batch_id = '{batch}'") == [
        ("cancelled",)
    ]
    assert platform.rows("SELECT watermark FROM etl_sync_state") == [(None,)]
    assert error in platform.etl("status", batch).stdout
    assert_next_run_loads_everything(platform, jira, site)


def test_a_run_that_somebody_terminates_ends_as_lost(
    platform: Platform, jira: FakeServer, site: Site, slow_run: str
) -> None:
    async def terminate() -> None:
        client = await open_client(platform.temporal.endpoint)
        await client.get_workflow_handle(slow_run).terminate(reason="by an operator")

    run(terminate())

    [(error,)] = await_rows(
        platform,
        "SELECT summary->>'error' FROM etl_batches "
        f"WHERE workflow_id = '{slow_run}' AND ended_at IS NOT NULL",
    )
    assert error == (
        f"lost: the workflow {slow_run} was terminated before it could close its books: "
        "by an operator"
    )
    assert_next_run_loads_everything(platform, jira, site)
