"""`etl check` asks the services: what they see, with their own settings, on each task queue."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporaletl import names
from temporaletl.checks.flow import CheckFlow
from temporaletl.control.operations.platform import Platform, is_polled
from temporaletl.control.operations.service_checks import ask_services
from temporaletl.service.process import _prepare
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings, WorkerSettings
from temporaletl.strategies import import_sources
from temporaletl.temporal.builds import workflow_runner
from temporaletl.temporal.connect import data_converter
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.__main__ import service_of as worker_of
from tests.fakes.jira import generate, serve
from tests.fakes.server import FakeServer
from tests.integration.command_line import CommandLine
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

_TOKEN = "a-token-that-is-a-secret"
_SOON = timedelta(seconds=1)

type Handle = WorkflowHandle[Any, Any]


@pytest_asyncio.fixture
async def jira(
    temporal_server: TemporalServer, warehouse: Warehouse
) -> AsyncGenerator[tuple[Services, FakeServer]]:
    """Both services with source `jira`, and a Jira that takes one token."""
    for package in ("temporaletl.queuer.sources", "temporaletl.worker.sources"):
        import_sources(package, "jira")
    site = generate(20, seed=1, personality="server")
    with serve(site, accepted={_TOKEN}) as server:
        async with running(temporal_server.client, warehouse) as services:
            yield services, server


@pytest.mark.parametrize(
    ("environment", "status", "fault"),
    [
        ({"JIRA_PERSONAL_TOKEN": _TOKEN}, 0, None),
        ({"JIRA_URLS": "https://a.example.com"}, 2, "settings: JIRA_URL is not set"),
        ({"JIRA_PERSONAL_TOKEN": f"{_TOKEN}-of-old"}, 2, "account: "),
    ],
    ids=["good", "unset", "refused"],
)
async def test_a_check_says_what_the_services_see_and_no_secret(
    jira: tuple[Services, FakeServer],
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    status: int,
    fault: str | None,
) -> None:
    """The services run in this process, with its environment; the command has its own."""
    services, server = jira
    settings = {"JIRA_URL": server.url, "JIRA_PERSONAL_TOKEN": _TOKEN}
    for name in settings:
        monkeypatch.delenv(name, raising=False)
    # Only who has a token has an address.
    given = settings | environment if "JIRA_PERSONAL_TOKEN" in environment else environment
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    etl = CommandLine(services, tmp_path, postgres_url, settings)
    done = await etl("check", "jira", "--json")
    checks = {one["name"]: one for one in done.document["checks"] if one["name"] != "secrets"}
    assert done.status == status, done.out
    for service in ("queuer", "worker"):
        assert checks[service]["verdict"] == "ok"
        assert "version 0" in checks[service]["detail"]
        assert f"schema {services.warehouse.schema} is there" in checks[service]["detail"]
        wrong = [one for one in checks.values() if one["verdict"] == "wrong"]
        told = [f"{one['name']}: {one['detail']}" for one in wrong]
        assert len(told) == 2 * (fault is not None)
        assert fault is None or any(one.startswith(f"{service} {fault}") for one in told)
    noted = [one["detail"] for one in checks.values() if one["verdict"] == "note"]
    unknown = "JIRA_URLS is set, and is no setting: did you mean JIRA_URL?"
    assert noted == [unknown] * ("JIRA_URLS" in environment)  # once, for both
    assert f"{services.queue}-etl and {services.queue}-etl-jira" in checks["worker"]["detail"]
    assert _TOKEN not in done.out + done.err
    histories = await _histories(services.client)
    assert len(histories) >= 2
    assert not any(_TOKEN in history for history in histories)


async def _histories(client: Client) -> list[str]:
    found = []
    async for one in client.list_workflows(f"WorkflowType = '{names.CHECK_FLOW}'"):
        handle = client.get_workflow_handle(one.id, run_id=one.run_id)
        found.append((await handle.fetch_history()).to_json())
    return found


@workflow.defn(name="Another")
class Another:
    @workflow.run
    async def run(self) -> None: ...


@activity.defn(name="another")
async def another() -> None: ...


@pytest.mark.parametrize("workflows", [[Another], [CheckFlow]], ids=["neither", "no activity"])
async def test_a_service_of_an_earlier_version_is_said_to_be_one(
    temporal_server: TemporalServer, workflows: list[type]
) -> None:
    client = await Client.connect(
        temporal_server.address,
        namespace=temporal_server.client.namespace,
        data_converter=data_converter(),
    )
    queues = {name: f"old-{name}-{uuid.uuid4().hex}" for name in ("queuer", "worker")}
    async with (
        Worker(
            client,
            task_queue=queues["queuer"],
            workflows=workflows,
            activities=[another],
            workflow_runner=workflow_runner(),
        ),
        _platform(temporal_server, queues) as platform,
    ):
        await until(partial(is_polled, client, queues["queuer"]))
        found = await ask_services(platform, "numbers", "default")
    assert [one.verdict for one in found] == ["note", "note"]
    assert found[0].detail.startswith("a queuer of an earlier version polls task queue old-queuer-")
    assert found[1].detail.startswith("no worker polls task queue old-worker-")


async def test_the_wait_for_a_service_that_has_just_ended_is_bounded(
    temporal_server: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server remembers for some minutes who polled."""
    monkeypatch.setattr("temporaletl.control.operations.service_checks._TAKEN_WITHIN", _SOON)
    queue = f"ended-{uuid.uuid4().hex}"
    async with Worker(
        temporal_server.client,
        task_queue=queue,
        workflows=[Another],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ) as worker:
        await temporal_server.client.execute_workflow("Another", id=queue, task_queue=queue)
        assert worker.is_running
    queues = {"queuer": queue, "worker": f"nobody-{queue}"}
    async with _platform(temporal_server, queues) as platform:
        ended, _ = await ask_services(platform, "numbers", "default")
    assert ended.verdict == "note"
    assert ended.detail.startswith(f"no queuer took a check from task queue {queue} in time")


@pytest.mark.parametrize("history", ["unread", "said to be refused"])
async def test_an_answer_stands_though_its_history_is_read_late(
    jira: tuple[Services, FakeServer],
    temporal_server: TemporalServer,
    monkeypatch: pytest.MonkeyPatch,
    history: str,
) -> None:
    """Result and history are followed side by side, and a check may end while it is given up."""
    services, server = jira
    monkeypatch.setenv("JIRA_URL", server.url)
    monkeypatch.setenv("JIRA_PERSONAL_TOKEN", _TOKEN)
    terminate = WorkflowHandle.terminate

    async def refusal(*_: object) -> str:
        if history == "unread":
            await asyncio.Event().wait()
        return "a workflow task failed"

    async def ended_first(handle: Handle, *args: object, **named: Any) -> None:
        await handle.result()
        await terminate(handle, *args, **named)

    monkeypatch.setattr("temporaletl.control.operations.service_checks._refusal", refusal)
    monkeypatch.setattr(WorkflowHandle, "terminate", ended_first)
    queues = {"queuer": services.queue, "worker": f"{services.queue}-etl"}
    for queue in queues.values():
        await until(partial(is_polled, services.client, queue))
    own = f"{queues['worker']}-jira"
    await until(partial(is_polled, services.client, own, for_segments=True))
    async with _platform(temporal_server, queues) as platform:
        found = await ask_services(platform, "jira", "default")
    assert {one.verdict for one in found} == {"ok"}, found


async def test_a_service_names_a_variable_that_is_no_setting_when_it_starts(
    temporal_server: TemporalServer, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_SEGMENT_SECOND", "a-value")
    settings = TemporalSettings.model_validate(temporal_server.settings)
    with capture_logs() as logged:
        await _prepare(worker_of(WorkerSettings.load()), warehouse, settings)
    [warning] = [line for line in logged if line["event"] == "unknown_variable"]
    assert (warning["variable"], warning["near"]) == ("ETL_SEGMENT_SECOND", "ETL_SEGMENT_SECONDS")
    assert "a-value" not in str(logged)


def _platform(server: TemporalServer, queues: dict[str, str]) -> Platform:
    return Platform(
        TemporalSettings.model_validate(
            server.settings | {f"{name}_queue": queue for name, queue in queues.items()}
        ),
        WarehouseSettings.load(),
    )
