"""The soak in small, and for twenty minutes; and that what it checks can be found broken."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from temporalio.client import Client

from temporaletl.temporal.connect import open_client
from tests.acceptance.platform import Platform
from tests.acceptance.stored_rows import Query
from tests.integration.temporal_server import require_temporal
from tests.process_figures import Held
from tests.soak import invariants
from tests.soak.footprint import Bounds, Footprint, Process, Table
from tests.soak.leftovers import open_executions, stray_processes
from tests.soak.report import as_text
from tests.soak.rounds import Soak, soaking
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

SOURCES = ("salesforce", "servicetitan")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Soak]:
    folder = tmp_path_factory.mktemp("soak") / "platform"
    with soaking(
        folder,
        SOURCES,
        seed=14,
        log=print,
        steps=2,
        longest_hold=1,
        kinds=("kill", "cut", "pause"),
    ) as running:
        running.sources.corrupt("servicetitan")
        yield running


@pytest.fixture(scope="module")
def platform(soak: Soak) -> Platform:
    """The soak's, after a round in which all invariants held."""
    outcome = soak.run_round(1)
    text = as_text(soak.seed, SOURCES, [outcome])
    assert text.endswith("\nall invariants held"), text
    assert outcome.runs["completed"] >= len(SOURCES)
    assert sum(outcome.disturbances.values()) > 0
    assert outcome.met > 0
    return soak.platform


@pytest.fixture
def changed(platform: Platform) -> Iterator[Callable[[str], Query]]:
    """Queries of the warehouse as a statement changes it; the change is undone."""
    with psycopg.connect(platform.postgres.url) as connection:

        def query_after(statement: str) -> Query:
            connection.execute("SET search_path TO workplace")
            assert connection.execute(statement.encode()).rowcount > 0
            return lambda question: connection.execute(question.encode()).fetchall()

        yield query_after
        connection.rollback()


def sums(query: Query) -> list[str]:
    return invariants.wrong_sums(query, SOURCES)


def rows(query: Query) -> list[str]:
    return invariants.differing_rows(query, "servicetitan")


def rejects(query: Query) -> list[str]:
    return invariants.unexplained_rejects(query, "servicetitan", "incremental")


def lineage(query: Query) -> list[str]:
    return invariants.untold_rows(query, "salesforce")


def late(query: Query) -> list[str]:
    return [
        problem
        for (run,) in query("SELECT workflow_id FROM etl_runs WHERE source = 'salesforce'")
        for problem in invariants.late_rows(query, run, datetime.min.replace(tzinfo=UTC))
    ]


_ONE_ROW = "WHERE st_id = (SELECT min(st_id) FROM st_customers)"
_LAST_BATCH = (
    "WHERE batch_id = (SELECT batch_id FROM etl_batches WHERE source = 'salesforce' "
    "ORDER BY created_at DESC LIMIT 1)"
)
_ONE_JOB = "WHERE ctid = (SELECT min(ctid) FROM etl_jobs WHERE inserted > 0)"


@pytest.mark.parametrize(
    ("statement", "find", "found"),
    [
        (f"DELETE FROM st_customers {_ONE_ROW}", rows, "differs from a fresh load"),
        (f"UPDATE st_customers SET name = 'Other' {_ONE_ROW}", rows, "differs from a fresh load"),
        (f"DELETE FROM st_customers {_ONE_ROW}", sums, "the ledger counts"),
        (f"UPDATE etl_jobs SET inserted = inserted - 1 {_ONE_JOB}", sums, "the sum of its pages"),
        (f"UPDATE etl_jobs SET updated = updated + 1 {_ONE_JOB}", sums, "the sum of its jobs"),
        ("UPDATE etl_rejects SET key = 'another'", rejects, "does not explain"),
        ("UPDATE salesforce_events SET run_id = 'another'", lineage, "no page is known"),
        (
            "UPDATE etl_sync_state SET watermark = watermark + interval '1 minute'",
            invariants.wrong_watermarks,
            "is ahead of what is loaded",
        ),
        (
            f"UPDATE etl_jobs SET updated = updated + 1 {_LAST_BATCH}",
            late,
            "had not stored what the next one did",
        ),
        (f"UPDATE etl_jobs SET ended_at = NULL {_ONE_JOB}", invariants.open_ends, "a job has no"),
        ("UPDATE etl_batches SET ended_at = NULL", invariants.open_ends, "a batch has no end"),
        ("UPDATE etl_runs SET ended_at = NULL", invariants.open_ends, "a run has no end"),
    ],
)
def test_what_is_broken_is_found(
    platform: Platform,
    changed: Callable[[str], Query],
    statement: str,
    find: Callable[[Query], list[str]],
    found: str,
) -> None:
    assert find(platform.rows) == []
    assert any(found in problem for problem in find(changed(statement)))


FIRST = {"memory_bytes": 100_000_000, "descriptors": 20, "threads": 10}


@pytest.mark.parametrize(
    ("grown", "found"),
    [
        ({"memory_bytes": 300_000_000}, "bytes of memory"),
        ({"descriptors": 100}, "descriptors"),
        ({"threads": 100}, "threads"),
        ({"sessions": 37}, "sessions are open"),
        ({"dead": 10_000}, "dead rows"),
        ({"bytes": 6_000_000}, "bytes for 1,000 rows"),
        ({"bytes": 1_000_000, "rows": 1_000, "threads": 12}, None),
    ],
)
def test_what_grows_beyond_its_bounds_is_found(grown: dict[str, int], found: str | None) -> None:
    def footprint(**figures: int) -> Footprint:
        held = {name: figures.pop(name, value) for name, value in FIRST.items()}
        sessions = figures.pop("sessions", 8)
        table: dict[str, Any] = {"rows": 1_000, "dead": 0, "live_bytes": 200_000, **figures}
        table.setdefault("bytes", 500_000)
        return Footprint((Process("worker", 7, Held(**held)),), sessions, (Table("t", **table),))

    bounds = Bounds()
    assert bounds.exceeded(footprint(), 3) == []
    problems = bounds.exceeded(footprint(**grown), 3)
    assert len(problems) == (found is not None)
    assert found is None or found in problems[0]


def test_a_process_that_was_left_behind_is_found(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"], env={"ETL_DATA_DIR": str(tmp_path / "none")}) as stray:
        try:
            [found] = stray_processes(tmp_path, [1])
            assert stray_processes(tmp_path, [1, stray.pid]) == []
        finally:
            stray.kill()
    assert found == f"process {stray.pid} was left behind: sleep 600 "


async def test_an_execution_that_goes_on_is_found(platform: Platform) -> None:
    endpoint = platform.temporal.endpoint
    client = await open_client(endpoint, within=timedelta(minutes=1))
    left = await client.start_workflow("Left", id="left", task_queue="nobody")
    await until(lambda: is_listed(client), within_seconds=60)
    assert await open_executions(endpoint, within_seconds=0) == ["left goes on in Temporal"]
    await left.terminate()
    assert await open_executions(endpoint) == []


async def is_listed(client: Client) -> bool:
    return (await client.count_workflows("WorkflowId = 'left'")).count == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_sources_for_twenty_minutes() -> None:
    require_temporal()
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/soak", "--hours", "0.33"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("\nall invariants held\n"), done.stdout
