"""The build before and this one beside each other, as processes: a deploy, and the way back.

Both with the packages that are installed.
"""

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.api.enums.v1 import EventType

from temporaletl import names
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from tests.documentation import ROOT
from tests.integration.command_line import Ended, publish_numbers
from tests.integration.temporal_server import TemporalServer
from tests.integration.warehouse.batches import rows
from tests.releases.upgrading import own_database
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

_WITHIN_SECONDS = 300
_until = partial(until, within_seconds=_WITHIN_SECONDS)
_ORDERS = """\
name: orders
nodes:
  - {id: asked, type: approval, data: {title: go on?}}
  - {id: told, type: transform, data: {transform_type: mapping, mapping: {by: inputs.outcome}}}
edges:
  - {source: asked, target: told, sourceHandle: approved}
"""
_PARAMS = ("--param", "jobs=2", "--param", "pages=30", "--param", "size=10")
_ROWS = 2 * 30 * 10
_SERVICES = ("worker", "queuer")


def revision() -> str | None:
    """Of the build before: that of PREVIOUS_BUILD, else the last release, else the commit before.

    None where the checkout knows no other build.
    """
    if asked := os.environ.get("PREVIOUS_BUILD"):
        found = git("rev-parse", "--verify", f"{asked}^{{commit}}")
        assert found is not None, f"no revision {asked}"
        return found
    return git("describe", "--tags", "--abbrev=0") or git("rev-parse", "--verify", "HEAD^")


def git(*words: str) -> str | None:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass
class Build:
    """Code of one version; its services and commands are processes."""

    name: str
    code: Path
    folder: Path
    settings: dict[str, str]
    _services: dict[str, AsyncExitStack] = field(default_factory=dict)

    @asynccontextmanager
    async def process(self, *module: str, **options: Any) -> AsyncGenerator[Any]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", *module),
            cwd=self.folder,
            env={**self.settings, "PYTHONPATH": f"{self.code}{os.pathsep}{self.folder}"},
            stdin=asyncio.subprocess.DEVNULL,
            **options,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def etl(self, *words: str) -> Ended:
        pipe = asyncio.subprocess.PIPE
        async with (
            asyncio.timeout(_WITHIN_SECONDS),
            self.process("temporaletl.control.cli.main", *words, stdout=pipe, stderr=pipe) as ran,
        ):
            out, err = await ran.communicate()
        return Ended(ran.returncode, out.decode(), err.decode())

    async def done(self, *words: str) -> Any:
        """What a command printed, which must succeed."""
        ended = await self.etl(*words)
        assert ended.status == 0, (self.name, words, ended.out, ended.err)
        return json.loads(ended.out) if "--json" in words else ended.out

    @asynccontextmanager
    async def _running(self, service: str) -> AsyncGenerator[None]:
        log = self.folder / f"{self.name}-{service}-{len(list(self.folder.glob('*.log')))}.log"
        with log.open("wb") as file:
            async with self.process(f"temporaletl.{service}", stdout=file, stderr=file) as process:
                await _until(lambda: process.returncode or "service_started" in log.read_text())
                assert process.returncode is None, log.read_text()[-3000:]
                yield
                process.terminate()
                async with asyncio.timeout(_WITHIN_SECONDS):
                    assert await process.wait() == 0, log.read_text()[-3000:]

    async def start(self, service: str) -> None:
        """Start a service, and wait until it polls."""
        self._services[service] = stack = AsyncExitStack()
        await stack.enter_async_context(self._running(service))

    async def stop(self, service: str) -> None:
        """Have a service end as a deploy does, by SIGTERM."""
        await self._services.pop(service).aclose()

    async def aclose(self) -> None:
        for service in [*self._services]:
            await self.stop(service)


@dataclass(frozen=True)
class Deployment:
    """Both builds, of which at each time one or both run; and the warehouse that they share."""

    old: Build
    new: Build
    server: TemporalServer
    warehouse: Warehouse

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return rows(self.warehouse, statement, *parameters)

    async def replace(self, service: str, before: Build, after: Build) -> None:
        """Have another build's service run in the place of one: for a moment there are both."""
        await after.start(service)
        await before.stop(service)

    async def load(self, build: Build) -> None:
        """Load all numbers, as they are loaded already."""
        words = ("run", "numbers", "--mode", "full", "--force", "--wait", "--json")
        run = await build.done(*words, *_PARAMS)
        counts = run["rows"]
        assert (run["state"], counts["inserted"] + counts["unchanged"]) == ("completed", _ROWS)

    async def begin(self, build: Build) -> "Begun":
        """Begin a run that is paused amid its jobs, one that goes on, and an execution."""
        paused, going_on = [await self._run_slowly(build, least) for least in (0, 1)]
        # By a command it could have ended before that begins.
        await self.server.client.get_workflow_handle(paused).signal(names.PAUSE)
        is_paused = "SELECT 1 FROM etl_batches WHERE workflow_id = %s AND state = 'paused'"
        await _until(lambda: bool(self.rows(is_paused, paused)))
        execution = (await build.done("pipeline", "run", "orders.yaml", "--json"))["execution_id"]
        waits = "SELECT 1 FROM pipeline_nodes WHERE execution_id = %s AND wait IS NOT NULL"
        await _until(lambda: bool(self.rows(waits, execution)))
        return Begun(paused, going_on, execution)

    async def end(self, build: Build, begun: "Begun") -> None:
        """Resume and decide what waits; all of it completes."""
        await build.done("resume", begun.paused)
        await build.done("pipeline", "decide", begun.execution, "asked", "approved")
        for run in (begun.paused, begun.going_on):
            await build.done("follow", run)
        ended = "SELECT state FROM pipeline_executions WHERE execution_id = %s AND state <> %s"
        await _until(lambda: bool(self.rows(ended, begun.execution, "running")))
        assert self.rows(ended, begun.execution, "running") == [("completed",)]
        result = await build.done("pipeline", "result", begun.execution, "told")
        assert json.loads(result) == {"by": "approved"}

    async def _run_slowly(self, build: Build, least: int) -> str:
        """Begin a run without numbers below `least`; its workflow id, once it loads."""
        of_it = ("--param", f"least={least}", "--param", "page_seconds=1")
        words = ("run", "numbers", "--mode", "full", "--force", "--json")
        run = await build.done(*words, *_PARAMS, *of_it)
        workflow: str = run["workflow_id"]
        await _until(lambda: self._loads(workflow))
        return workflow

    def _loads(self, run: str) -> bool:
        [(pages,)] = self.rows(
            "SELECT coalesce(sum(pages), 0)::int FROM etl_jobs JOIN etl_batches USING (batch_id)"
            " WHERE etl_batches.workflow_id = %s",
            run,
        )
        return bool(pages)

    async def failures(self) -> list[str]:
        """Why tasks of workflows failed: code and history disagree, or a message is not read."""
        found = []
        async for workflow in self.server.client.list_workflows():
            get = self.server.client.get_workflow_handle
            history = await get(workflow.id, run_id=workflow.run_id).fetch_history()
            for event in history.events:
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                    failure = event.workflow_task_failed_event_attributes.failure
                    found.append(f"{workflow.id}: {failure.message}")
        # A busy machine may let a task rest for so long that the SDK takes it for a deadlock.
        return [each for each in found if "TMPRL1101" not in each]


@dataclass(frozen=True)
class Begun:
    """Workflow ids of two runs, and the id of an execution that waits for a decision."""

    paused: str
    going_on: str
    execution: str


def code_of_before(folder: Path) -> Path:
    """The tree of the build before, unpacked; the checkout itself where it is the first."""
    if (before := revision()) is None:
        return ROOT
    trees = ("temporaletl", "tests", "queuer", "worker")
    archive = subprocess.run(
        ["git", "archive", before, *trees], cwd=ROOT, capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(folder, filter="data")
    return folder


@pytest_asyncio.fixture
async def deployment(
    temporal_server: TemporalServer, postgres_url: str, tmp_path: Path
) -> AsyncGenerator[Deployment]:
    publish_numbers(tmp_path)
    (tmp_path / "orders.yaml").write_text(_ORDERS)
    code = code_of_before(tmp_path / "before")
    with own_database(postgres_url) as url:
        settings = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "TEMPORAL_ADDRESS": temporal_server.address,
            "TEMPORAL_NAMESPACE": temporal_server.client.namespace,
            "DATABASE_URL": url,
            "ETL_DATA_DIR": str(tmp_path / "data"),
            "ETL_SEGMENT_SECONDS": "1",
            "ETL_ROWS_PER_PAGE": "10",
            "LC_ALL": "C.UTF-8",
        }
        old, new = Build("old", code, tmp_path, settings), Build("new", ROOT, tmp_path, settings)
        with Warehouse(WarehouseSettings.model_validate({"database_url": url})) as warehouse:
            async with contextlib.aclosing(old), contextlib.aclosing(new):
                yield Deployment(old, new, temporal_server, warehouse)


async def test_what_the_build_before_began_ends_on_this_one_and_the_other_way_round(
    deployment: Deployment,
) -> None:
    """In the order of docs/upgrading.md: the warehouse, workers, queuers; and back."""
    old, new = deployment.old, deployment.new
    await old.done("migrate")
    for service in _SERVICES:
        await old.start(service)
    for before, after, order in ((old, new, _SERVICES), (new, old, _SERVICES[::-1])):
        begun = await deployment.begin(before)
        if after is new:
            await new.done("migrate")
        for service in order:
            await deployment.replace(service, before, after)
            # The services are of two builds, until the second one is replaced.
            await deployment.load(before)
        await deployment.end(after, begun)
        await deployment.load(after)
    counted = "SELECT count(*), count(DISTINCT event_id) FROM events"
    assert deployment.rows(counted) == [(_ROWS, _ROWS)]
    assert await deployment.failures() == []
