"""The source `temporal` into a warehouse: deleted executions, statuses, two namespaces."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client

from temporaletl import ConfigurationError, PageRequest
from temporaletl.bound_connection import DEFAULT
from temporaletl.external.temporal import Visibility
from temporaletl.messages import QueuerInput
from temporaletl.rows import TemporalWorkflow
from temporaletl.strategies import import_sources
from temporaletl.testing.batch import Batch
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.worker.loading import JobEvents
from temporaletl.worker.sources.temporal.extract import extract
from temporaletl.worker.sources.temporal.query import TemporalQuery
from tests.integration.loading.jobs import Job, counts, fetch
from tests.integration.temporal_server import TemporalServer
from tests.integration.temporal_subjects import (
    Subjects,
    make_job,
    rows_of,
    source,
    until,
)

__all__ = ["source"]


async def only_one_listed(client: Client) -> bool | None:
    return (await client.count_workflows("")).count == 1 or None


async def test_an_execution_that_is_deleted_from_temporal_does_not_stay_running(
    temporal_server: TemporalServer, warehouse: Warehouse
) -> None:
    client = (await temporal_server.with_namespace()).client
    for name in ("gone", "stays"):
        await client.start_workflow("SubjectFlow", id=name, task_queue="nobody")
    await until(lambda: two_running(client), "two running executions")
    subjects = Subjects(client.namespace, client, rows=2, closed=0)
    job = make_job(subjects, running=True)

    async def load() -> dict[str, str]:
        """Load the running executions anew, and return all statuses as they are stored."""
        loading = Job(warehouse, source="temporal", stream="workflows", rows=(TemporalWorkflow,))
        loading.loader.prepare()
        stored = JobEvents(warehouse, "temporal", DEFAULT)
        query = TemporalQuery.from_dict(job.params)
        request = PageRequest(job=job, query=query, stored=stored)
        async for page in extract(request):
            loading.load(*rows_of(job, page), at=page.extracted_at)
        with warehouse.connection() as connection:
            found = connection.execute("SELECT workflow_id, status FROM temporal_workflows")
            return {str(id_): str(status) for id_, status in found}

    assert await load() == {"gone": "RUNNING", "stays": "RUNNING"}
    await client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id="gone"),
        )
    )
    await until(lambda: only_one_listed(client), "the deletion")
    assert await load() == {"gone": "DELETED", "stays": "RUNNING"}
    await client.get_workflow_handle("stays").terminate()
    await until(lambda: none_running(client), "the end of the other")
    # Whatever window it has closed in.
    assert await load() == {"gone": "DELETED", "stays": "TERMINATED"}


async def two_running(client: Client) -> bool | None:
    return (await client.count_workflows("ExecutionStatus = 'Running'")).count == 2 or None


async def none_running(client: Client) -> bool | None:
    return (await client.count_workflows("ExecutionStatus = 'Running'")).count == 0 or None


def test_statuses_that_were_loaded_under_other_names_migrate(warehouse: Warehouse) -> None:
    migrate(warehouse)
    job = Job(warehouse, source="temporal", stream="workflows", rows=(TemporalWorkflow,))
    job.load(*(stored(f"old-{word}", word) for word in ("Running", "TimedOut", "ContinuedAsNew")))
    job.load(stored("new", "TIMED_OUT"), stored("other", "Napping"))
    with warehouse.connection() as connection:
        # Where the table is not there yet, there is nothing to do: the first time showed it.
        connection.execute("DELETE FROM etl_migrations WHERE name LIKE '0006%'")
    migrate(warehouse)
    found = fetch(warehouse, "SELECT workflow_id, status, row_hash FROM temporal_workflows")
    assert {row["workflow_id"]: row["status"] for row in found} == {
        "old-Running": "RUNNING",
        "old-TimedOut": "TIMED_OUT",
        "old-ContinuedAsNew": "CONTINUED_AS_NEW",
        "new": "TIMED_OUT",
        "other": "Napping",
    }
    assert sum(row["row_hash"] is None for row in found) == 3
    # The next load writes those once more, and then no more.
    again = job.load(stored("old-TimedOut", "TIMED_OUT"))
    assert counts(again)[1] == 1
    assert counts(job.load(stored("old-TimedOut", "TIMED_OUT")))[1] == 1


def stored(workflow_id: str, status: str) -> TemporalWorkflow:
    return TemporalWorkflow(
        namespace="shop",
        workflow_id=workflow_id,
        run_id="run",
        workflow_type="SubjectFlow",
        task_queue="queue",
        start_time=datetime(2025, 1, 1, tzinfo=UTC),
        start_time_unix=0.0,
        status=status,
        history_length=1,
    )


async def test_two_namespaces_are_two_connections_and_their_rows_apart(
    subjects: Subjects,
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Another namespace, and the same one again under another name."""
    import_sources("temporaletl.queuer.sources")
    import_sources("temporaletl.worker.sources")
    other = (await temporal_server.with_namespace()).client
    for number in range(3):
        id_ = f"run-{number}"
        await other.start_workflow("SubjectFlow", "run", id=id_, task_queue="nobody")
        await other.get_workflow_handle(id_).terminate()

    async def is_listed() -> bool | None:
        return (await other.count_workflows("ExecutionStatus = 'Terminated'")).count == 3 or None

    await until(is_listed, "the terminated executions")
    file = tmp_path / "connections.toml"
    namespaces = {"first": subjects.namespace, "second": other.namespace, "again": other.namespace}
    file.write_text(
        "\n".join(
            f'[{name}]\nsource = "temporal"\nSOURCE_TEMPORAL_REQUESTS_PER_SECOND = 80\n'
            f'SOURCE_TEMPORAL_ADDRESS = "{temporal_server.address}"\n'
            f'SOURCE_TEMPORAL_NAMESPACES = "{namespace}"\nSOURCE_TEMPORAL_LAG_SECONDS = 0\n'
            for name, namespace in namespaces.items()
        )
    )
    monkeypatch.setenv("ETL_CONNECTIONS", str(file))
    nominal = datetime.now(UTC) + timedelta(minutes=1)
    for name in namespaces:
        request = QueuerInput(source="temporal", mode="full", connection=name)
        await Batch(warehouse).run(request, scheduled=nominal)
    found = fetch(
        warehouse,
        "SELECT connection, namespace, count(*) AS n, count(DISTINCT run_id) AS runs"
        " FROM temporal_workflows GROUP BY 1, 2",
    )
    assert {(row["connection"], row["namespace"], row["n"]) for row in found} == {
        ("first", subjects.namespace, subjects.rows),
        ("second", other.namespace, 3),
        ("again", other.namespace, 3),
    }

    async def id_elsewhere(_store: Visibility, _namespace: str) -> str:
        return "of-another-server"

    # Another server, with a namespace of that name.
    monkeypatch.setattr(Visibility, "namespace_id", id_elsewhere)
    request = QueuerInput(source="temporal", mode="incremental", connection="first")
    with pytest.raises(ConfigurationError, match="a connection of its own"):
        await Batch(warehouse).run(request, scheduled=nominal + timedelta(hours=1))
