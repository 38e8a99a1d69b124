"""Two builds of the services side by side, while runs go on: a deploy, and the way back."""

from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from temporaletl import names
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.warehouse.connection import Warehouse
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

_SLOW = {"jobs": 3, "pages": 60, "size": 2, "page_seconds": 0.05}
_ROWS = 3 * 60 * 2
_WITHIN_SECONDS = 180


async def make_current(services: Services, build: str) -> None:
    """What `temporal worker deployment set-current-version` does, once the build polls."""
    client: Client = services.client
    for service in ("queuer", "worker"):
        wanted = SetWorkerDeploymentCurrentVersionRequest(
            namespace=client.namespace,
            deployment_name=f"{services.queue}-{service}",
            build_id=build,
        )

        async def is_set(wanted: SetWorkerDeploymentCurrentVersionRequest = wanted) -> bool:
            try:
                await client.workflow_service.set_worker_deployment_current_version(wanted)
            except RPCError:  # it does not poll yet
                return False
            return True

        await until(is_set, within_seconds=_WITHIN_SECONDS)


async def build_of(handle: WorkflowHandle[Any, Any]) -> str:
    """The build that a workflow's last task ran on."""
    raw = (await handle.describe()).raw_description
    return raw.workflow_execution_info.versioning_info.deployment_version.build_id


async def begun(services: Services) -> tuple[WorkflowHandle[Any, BatchSummary], list[Any]]:
    """A run whose jobs have all begun to load: its workflow, and theirs."""
    batch = await services.start(QueuerInput(source="numbers", mode="full", params=_SLOW))

    def loading() -> list[tuple[Any, ...]]:
        return services.rows(
            "SELECT job_id FROM etl_jobs JOIN etl_batches USING (batch_id) "
            "WHERE etl_batches.workflow_id = %s AND pages > 0",
            batch.id,
        )

    await until(lambda: len(loading()) == _SLOW["jobs"], within_seconds=_WITHIN_SECONDS)
    get = services.client.get_workflow_handle
    return batch, [get(names.job_workflow_id(str(job))) for (job,) in loading()]


async def test_runs_go_on_while_builds_are_deployed_and_taken_back(
    temporal_server: TemporalServer, warehouse: Warehouse
) -> None:
    client, queue = temporal_server.client, "builds"
    options: dict[str, Any] = {"queue": queue, "segment_seconds": 1, "rows_per_page": 2}
    async with (
        running(client, warehouse, build="1", **options) as old,
        running(client, warehouse, build="2", **options) as new,
    ):
        for before, after in (("1", "2"), ("2", "1")):
            await make_current(old, before)
            batch, jobs = await begun(old)
            assert {await build_of(one) for one in (batch, *jobs)} == {before}
            await make_current(new, after)

            summary = await batch.result()

            assert summary.state == "completed"
            # A job ends where it began; a run outlives deploys, and goes on with what is current.
            assert {await build_of(job) for job in jobs} == {before}
            assert await build_of(batch) == after
            for one in (batch, *jobs):
                history = await one.fetch_history()
                kinds = {event.event_type for event in history.events}
                assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in kinds
    counted = "SELECT count(*), count(DISTINCT event_id) FROM events"
    assert old.rows(counted) == [(_ROWS, _ROWS)]
