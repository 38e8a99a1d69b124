"""A worker that is killed in the middle of a node: another goes on, and repeats nothing done."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from temporaletl import names
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_nodes import read_nodes
from temporaletl.worker.pipelines.messages import Decision
from tests.fakes.server import Request, Response
from tests.integration.command_line import CommandLine
from tests.integration.flows.services import Services
from tests.integration.pipelines.conftest import Pipelines, definition, mapping
from tests.integration.pipelines.site import Site
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

_WITHIN_SECONDS = 60
_SITE = ("PIPELINE_ALLOWED_NETWORKS", "PIPELINE_ALLOWED_PORTS")


@pytest.fixture
def commands(
    site: Site,  # noqa: ARG001 - its address is allowed by the environment
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    postgres_url: str,
    tmp_path: Path,
) -> CommandLine:
    """The environment of workers' processes, which no worker of this process competes with."""
    services = Services(temporal_server.client, warehouse, f"test-{uuid.uuid4().hex}")
    return CommandLine(services, tmp_path, postgres_url).having(
        ETL_HEARTBEAT_TIMEOUT_SECONDS="1", **{name: os.environ[name] for name in _SITE}
    )


@asynccontextmanager
async def worker(commands: CommandLine) -> AsyncGenerator[None]:
    """A worker's process, which is killed when the block ends."""
    with (commands.folder / "worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "temporaletl.worker"),
            cwd=commands.folder,
            env=commands.environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
        assert process.returncode is None, (commands.folder / "worker.log").read_text()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def between(before: str, kind: str, **data: Any) -> dict[str, Any]:
    """A node of a kind, behind one whose request is counted and before one that sees its result."""
    handle = {"approval": "-approved->", "wait_for_webhook": "-received->"}.get(kind, "->")
    sent = {"method": "POST", "url": before, "body": {}}
    nodes = {"before": ("api_call", sent), "middle": (kind, data), "behind": mapping(got="inputs")}
    return definition(nodes, "before -> middle", f"middle {handle} behind")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("api_call", {"method": "POST", "body": {"n": 1}}),
        pytest.param("api_call", {"method": "GET"}, marks=pytest.mark.slow),
        pytest.param("webhook", {"payload": {"n": 1}}, marks=pytest.mark.slow),
    ],
)
async def test_a_request_that_a_killed_worker_did_not_finish_is_sent_again(
    commands: CommandLine, site: Site, kind: str, data: dict[str, Any]
) -> None:
    held, release = Event(), Event()

    def hold_the_first(_: Request) -> Response:
        if not held.is_set():
            held.set()
            release.wait(_WITHIN_SECONDS)
        return Response.of({"ok": True})

    site.routes |= {"/before": lambda _: Response.of({}), "/middle": hold_the_first}
    pipelines = Pipelines(commands.services)
    document = between(f"{site.url}/before", kind, url=f"{site.url}/middle", **data)

    try:
        async with worker(commands):
            handle = await pipelines.start(document)
            await until(held.is_set, within_seconds=_WITHIN_SECONDS)
    finally:
        release.set()
    async with worker(commands), asyncio.timeout(_WITHIN_SECONDS):
        summary = await handle.result()

    assert set(pipelines.states(summary).values()) == {"completed"}
    assert len(site.requests("/before")) == 1
    sent = site.requests("/middle")
    assert len(sent) == 2
    if data.get("method") != "GET":
        key = f"{summary.execution_id}/middle"
        assert [one.headers["idempotency-key"] for one in sent] == [key, key]


@pytest.mark.parametrize(
    ("kind", "data", "outcome"),
    [
        ("approval", {"title": "Pay?"}, "approved"),
        pytest.param("wait_for_webhook", {}, "received", marks=pytest.mark.slow),
        pytest.param("delay", {"seconds": 3}, None, marks=pytest.mark.slow),
    ],
)
async def test_a_node_that_waited_when_its_worker_was_killed_waits_on(
    commands: CommandLine, site: Site, kind: str, data: dict[str, Any], outcome: str | None
) -> None:
    site.routes["/before"] = lambda _: Response.of({})
    pipelines = Pipelines(commands.services)
    document = between(f"{site.url}/before", kind, **data)

    async with worker(commands):
        handle = await pipelines.start(document)
        execution = handle.result_run_id or ""

        def waits() -> bool:
            found = read_nodes(commands.services.warehouse, execution)
            return any(one.node == "middle" and one.wait is not None for one in found)

        await until(waits, within_seconds=_WITHIN_SECONDS)
    if outcome is not None:
        await handle.signal(names.DECIDE, Decision(node="middle", outcome=outcome))
    async with worker(commands), asyncio.timeout(_WITHIN_SECONDS):
        summary = await handle.result()

    assert set(pipelines.states(summary).values()) == {"completed"}
    assert len(site.requests("/before")) == 1
