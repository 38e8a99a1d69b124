"""The page of a run in each state: what it says first, and what can be done there.

The ledger's rows are written by SQL, and no service is there. Where ETL_SCREENSHOTS names a folder,
all pages are drawn there.
"""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]

from temporaletl import names
from temporaletl.control.api import app
from temporaletl.control.operations.platform import Platform
from temporaletl.control.web import dashboard as front
from temporaletl.messages import (
    BatchMetadata,
    BatchSummary,
    JobCounts,
    JobFailure,
    QueuerInput,
    RowCounts,
    Window,
)
from temporaletl.queuer.reconciliation import namespace_of
from temporaletl.settings.platform import TemporalSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import sight
from tests.integration.api.in_process import Served, schema_of, serving, warehouse_settings
from tests.integration.temporal_server import TemporalServer
from tests.integration.web.screenshots import ALL, shoot, wanted_views
from tests.integration.web.stack import Stack

_UNTIL = datetime(2026, 11, 27, tzinfo=UTC)
_BATCH = """
INSERT INTO etl_batches (batch_id, source, mode, connection, metadata, state, workflow_id, run_id,
    jobs_planned, engine, summary, created_at, ended_at)
VALUES (%(name)s, 'numbers', 'full', 'default', %(metadata)s::jsonb, %(state)s,
    %(workflow)s, %(run)s, %(jobs)s, %(engine)s, %(summary)s::jsonb, now() - interval '5 minutes',
    CASE WHEN %(ended)s THEN now() - interval '1 minute' END)
"""
_RUN = """
INSERT INTO etl_runs (workflow_id, source, connection, request, run_id, engine, batch_id, wanted,
    owner, lease_until, ended_at)
VALUES (%(workflow)s, 'numbers', 'default', '{"source": "numbers", "mode": "full"}', %(run)s,
    'local', %(name)s, %(wanted)s, 'host:1', now() + %(lease)s * interval '1 second',
    CASE WHEN %(ended)s THEN now() END)
"""
_JOBS = """
INSERT INTO etl_jobs (batch_id, seq, job_id, source, connection, stream, input, state, pages,
    records, inserted, error, started_at, touched_at)
SELECT %(name)s, n, %(name)s || '-job-' || n, 'numbers', 'default', 'all', '{}', s,
    CASE s WHEN 'planned' THEN 0 ELSE %(pages)s END, 10, CASE s WHEN 'planned' THEN 0 ELSE 10 END,
    CASE s WHEN 'failed' THEN 'HTTP 500 from the source' END, now(), now()
FROM unnest(%(states)s::text[]) WITH ORDINALITY AS one (s, n)
"""
_PAGES = """
INSERT INTO etl_pages (batch_id, seq, page, job_id, workflow_id, run_id, records, inserted, updated,
    unchanged, rejected, extracted_at, loaded_at)
SELECT batch_id, seq, p, job_id, 'w', 'r', 1200 + p, 1000 + p, 150, 50, p %% 3, now(),
    now() - interval '5 minutes' + (seq + p) * interval '1 second'
FROM etl_jobs, generate_series(0, pages - 1) AS p
WHERE batch_id = %(name)s AND state <> 'planned'
"""


def _states(**numbers: int) -> list[str]:
    return [state for state, number in numbers.items() for _ in range(number)]


#: By the run's name: its state, its jobs, and what else is of it.
RUNS: dict[str, dict[str, Any]] = {
    "failed": {"state": "failed", "jobs": _states(failed=3)},
    "failed-in-part": {"state": "failed", "jobs": _states(completed=37, failed=3)},
    "cancelled": {"state": "cancelled", "jobs": _states(completed=3, cancelled=37)},
    "completed-large": {"state": "completed", "jobs": _states(completed=100), "pages": 100},
    "unplanned": {"state": "failed", "jobs": None, "error": "JIRA_URL is not set"},
    "running": {"state": "running", "jobs": _states(completed=5, running=2, planned=33)},
    "planning": {"state": "running", "jobs": None},
    "pausing": {"state": "pausing", "jobs": _states(completed=5, running=2, planned=33)},
    "paused": {"state": "paused", "jobs": _states(completed=5, paused=2, planned=33)},
    "cancelling": {"state": "cancelling", "jobs": _states(completed=5, running=2, planned=33)},
    "abandoned": {"state": "running", "jobs": _states(running=2, planned=8), "lease": -60},
    "lost": {"state": "running", "jobs": _states(running=2, planned=8), "engine": "temporal"},
    "no-worker": {"state": "running", "jobs": _states(running=2, planned=8), "engine": "temporal"},
}
#: What its page says first, and which acts it has.
SAYS = {
    "failed": ("failed after 4 min", "HTTP 500 from the source (and 2 more)", "retry"),
    "failed-in-part": ("failed after 4 min", "Failed in part: what 37 jobs loaded stays.", "retry"),
    "cancelled": ("cancelled after 4 min", "What was loaded stays; 37 jobs did not complete.", ""),
    "completed-large": ("completed after 4 min", "100 of 100 jobs", ""),
    "unplanned": ("failed after 4 min", "JIRA_URL is not set", ""),
    "running": ("running started 5 min", "5 of 40 jobs, 2 running, 33 waiting", "pause cancel"),
    "planning": ("planning started 5 min", "not planned yet", "pause cancel"),
    "pausing": ("pausing started 5 min", "2 jobs of it still running", "resume cancel"),
    "paused": ("paused started 5 min", "It goes on where it stopped once", "resume cancel"),
    "cancelling": ("cancelling started 5 min", "2 jobs of it still running", ""),
    "abandoned": (
        "waiting started 5 min",
        "no process of the local engine drives it",
        "pause cancel",
    ),
    "lost": ("lost started 5 min", "0 of 10 jobs, 2 begun, 8 waiting", "cancel"),
    "no-worker": (
        "waiting started 5 min",
        "no queuer polls task queue nobody-polls-it: <code>etl up",
        "pause cancel",
    ),
}


def write(warehouse: Warehouse, name: str, given: dict[str, Any], workflow: str, run: str) -> None:
    """Write a run of the ledger; one that goes on is the local engine's, unless it says so."""
    states, ended = given["jobs"], given["state"] in ("failed", "cancelled", "completed")
    engine = given.get("engine", "temporal" if ended else "local")
    failed = [n for n, state in enumerate(states or [], 1) if state == "failed"]
    summary = BatchSummary(
        batch_id=name,
        workflow_id=workflow,
        state=given["state"] if ended else "completed",
        seconds=240,
        jobs=JobCounts(
            planned=len(states or []),
            **{
                state: (states or []).count(state) for state in ("completed", "failed", "cancelled")
            },
        ),
        rows=RowCounts(inserted=10 * len(states or [])),
        failures=tuple(
            JobFailure(job=f"{name}-job-{n}", error="HTTP 500 from the source") for n in failed
        ),
        error=given.get("error"),
    )
    metadata = BatchMetadata(
        batch_id=name,
        source="numbers",
        mode="full",
        connection="default",
        windows={"all": Window(end=_UNTIL)},
        worker_queue="nobody-polls-it-etl",
        started=_UNTIL,
    )
    values = {
        "name": name,
        "metadata": metadata.model_dump_json(),
        "workflow": workflow,
        "run": run,
        "state": given["state"],
        "jobs": None if states is None else len(states),
        "states": states or [],
        "engine": engine,
        "summary": summary.model_dump_json() if ended else None,
        "ended": ended,
        "pages": given.get("pages", 1),
        "wanted": {"paus": "pause", "canc": "cancel"}.get(given["state"][:4], "run"),
        "lease": given.get("lease", 3600),
    }
    with warehouse.connection() as connection:
        for statement in (_BATCH, *([_RUN] if engine == "local" else []), _JOBS, _PAGES):
            connection.execute(statement, values)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def states(postgres_url: str, temporal_server: TemporalServer) -> AsyncIterator[Served]:
    """A dashboard over runs in every state, and no service beside it."""
    queue = "nobody-polls-it"
    temporal = TemporalSettings.model_validate(
        {**temporal_server.settings, "queuer_queue": queue, "worker_queue": f"{queue}-etl"}
    )
    async with schema_of(postgres_url) as warehouse:
        for name, given in RUNS.items():
            workflow, run = f"etl-{name}", f"run-{name}"
            if name == "no-worker":
                handle = await temporal_server.client.start_workflow(
                    names.QUEUER_FLOW, QueuerInput(source="numbers"), id=workflow, task_queue=queue
                )
                run = handle.first_execution_run_id or ""
            write(warehouse, name, given, workflow, run)
            if name == "lost":
                # Temporal once had it.
                sight(warehouse, name, await namespace_of(temporal_server.client))
        platform = Platform(temporal, warehouse_settings(postgres_url, warehouse.schema))
        with pytest.MonkeyPatch.context() as patch:

            async def nothing_waits(_: Platform) -> bool:
                return False

            # Its local engine would take up what nobody drives.
            patch.setattr(app, "_waits_for_engine", nothing_waits)
            async with serving(platform, fronts=(front.install,)) as served:
                yield served


@pytest.mark.parametrize("name", RUNS)
async def test_the_page_of_a_run_says_how_it_stands_and_what_can_be_done(
    states: Served, name: str
) -> None:
    title, sentence, acts = SAYS[name]
    answer = await states("GET", f"/runs/{name}")
    assert answer.status_code == 200, answer.text
    page = answer.text
    heading = re.search('<h2 id="state-title">(.*?)</h2>', page)
    assert heading is not None
    said = " ".join(re.sub("<[^>]*>", "", heading[1]).split())
    assert said.startswith(title)
    assert sentence in page[: page.index("Throughput")]
    found = re.findall(f'method="post" action="/runs/etl-{name}/([a-z]+)"', page)
    assert " ".join(found) == acts
    assert len(page) < 200_000


async def test_pages_of_runs_are_whole(states: Served, dashboard: Stack, screenshots: Path) -> None:
    views = wanted_views()
    # One of each kind, unless somebody wants to look at them all.
    drawn = RUNS if views is ALL else ("running", "failed", "lost")
    async with dashboard.page() as page:
        for path in ("/", "/runs", *(f"/runs/{name}" for name in drawn)):
            await page.goto(f"{states.address}{path}")
            await shoot(page, screenshots, f"states{path.replace('/', '-')}", views)
            found = (await Axe().run(page)).response["violations"]
            assert [(path, one["id"], one["nodes"][0]["html"]) for one in found] == []
