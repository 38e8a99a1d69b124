"""Batches whose workflows cannot close their books any more."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError

from temporaletl import names
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.queuer.reconciliation import namespace_of, reconcile
from temporaletl.warehouse import ledger
from temporaletl.warehouse.open_batches import Namespace
from tests.integration.flows.services import Services
from tests.integration.warehouse.batches import make_metadata
from tests.waiting import until

NO_GRACE = timedelta(0)
AN_HOUR = timedelta(hours=1)


SERVICES = {"segment_seconds": 1, "rows_per_page": 50}


async def start_slow(services: Services) -> WorkflowHandle[Any, BatchSummary]:
    """Start an incremental batch that would take minutes; it has loaded something."""
    params: dict[str, Any] = {"jobs": 2, "pages": 10_000, "page_seconds": 0.05}
    handle = await services.start(
        QueuerInput(source="numbers", mode="incremental", params=params, max_in_flight=1)
    )
    loaded = "SELECT 1 FROM etl_jobs WHERE state = 'running' AND pages > 0"
    await until(lambda: services.rows(loaded) != [])
    return handle


async def look(services: Services, grace: timedelta = AN_HOUR) -> list[BatchSummary]:
    return await reconcile(services.client, services.warehouse, grace=grace, queue=services.queue)


def watermarks(services: Services) -> list[tuple[Any, ...]]:
    return services.rows("SELECT watermark FROM etl_sync_state")


async def test_a_batch_that_somebody_terminates_ends_and_the_next_run_covers_its_window(
    services: Services,
) -> None:
    await services.run("incremental")
    [(watermark,)] = watermarks(services)
    handle = await start_slow(services)
    await handle.terminate(reason="by an operator")

    [summary] = await look(services)

    assert summary.state == "failed"
    assert summary.error == (
        f"lost: the workflow {handle.id} was terminated before it could close its books: "
        "by an operator"
    )
    assert summary.jobs.cancelled == 2
    assert services.rows("SELECT state FROM etl_batches ORDER BY created_at") == [
        ("completed",),
        ("failed",),
    ]
    assert watermarks(services) == [(watermark,)]
    assert await look(services) == []
    # Its jobs' workflows end too, so that their ids are free.
    again = await services.run("incremental", jobs=2)
    assert again.state == "completed"
    assert again.windows["all"].start == watermark
    assert watermarks(services) == [(again.windows["all"].end,)]


async def test_a_batch_that_runs_is_left_to_itself(services: Services) -> None:
    handle = await start_slow(services)
    assert await look(services, NO_GRACE) == []
    here = await namespace_of(services.client)
    assert services.rows(
        "SELECT state, sighted_at IS NOT NULL, temporal_address, temporal_namespace_id "
        "FROM etl_batches"
    ) == [("running", True, here.address, here.id)]
    await handle.terminate("the end of the test")


async def test_a_batch_that_is_reset_goes_on(services: Services) -> None:
    handle = await start_slow(services)
    await services.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=services.client.namespace,
            workflow_execution=WorkflowExecution(
                workflow_id=handle.id, run_id=handle.first_execution_run_id or ""
            ),
            reason="by an operator",
            workflow_task_finish_event_id=4,
            request_id=handle.id,
        )
    )
    assert await look(services, NO_GRACE) == []
    # Planned again, it may have another batch: the first then ends with the workflow.
    assert set(services.rows("SELECT state FROM etl_batches")) == {("running",)}
    again = services.client.get_workflow_handle(handle.id)
    await again.signal(names.CANCEL)
    await again.result()
    await look(services)
    assert set(services.rows("SELECT ended_at IS NOT NULL FROM etl_batches")) == {(True,)}


async def test_a_batch_that_times_out_ends(services: Services) -> None:
    handle = await services.client.start_workflow(
        "QueuerFlow",
        QueuerInput(source="numbers", params={"pages": 10_000, "page_seconds": 0.05}),
        id=f"etl-times-out-{services.queue}",
        task_queue=services.queue,
        execution_timeout=timedelta(seconds=3),
    )
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    [summary] = await look(services)
    assert summary.error is not None
    assert "timed out before it could close its books" in summary.error


async def test_one_of_many_queuers_ends_it(services: Services) -> None:
    handle = await start_slow(services)
    await handle.terminate(reason="by an operator")
    found = await asyncio.gather(*(look(services) for _ in range(5)))
    assert [len(ended) for ended in found].count(1) == 1
    assert sum(len(ended) for ended in found) == 1


def begin_unknown(services: Services, namespace: Namespace | None) -> None:
    ledger.begin_batch(
        services.warehouse,
        make_metadata(),
        workflow_id="nobody-knows-this",
        run_id="01a21abf-033f-7907-aff0-ea1a47cb0351",
        namespace=namespace,
    )


@pytest.mark.parametrize("moved", [False, True], ids=["restarted empty", "under another address"])
async def test_a_batch_that_its_temporal_no_longer_knows_ends_after_some_looks(
    services: Services, *, moved: bool
) -> None:
    here = await namespace_of(services.client)
    begin_unknown(
        services,
        Namespace("elsewhere:7233", here.name, here.id)
        if moved
        else Namespace(here.address, here.name, "an-id-from-before"),
    )
    assert await look(services) == []

    [summary] = await look(services, NO_GRACE)

    assert summary.error == f"lost: {here} no longer knows the workflow nobody-knows-this"
    assert watermarks(services) == [(None,)]


@pytest.mark.parametrize(
    "place", [None, Namespace("elsewhere:7233", "default", "another-id")], ids=["unknown", "other"]
)
async def test_what_runs_on_another_temporal_is_not_taken_for_lost(
    services: Services, place: Namespace | None
) -> None:
    begin_unknown(services, place)
    assert await look(services, NO_GRACE) == []
    assert services.rows("SELECT state FROM etl_batches") == [("running",)]


async def test_an_absent_namespace_says_nothing_of_its_workflows(services: Services) -> None:
    here = await namespace_of(services.client)
    begin_unknown(services, Namespace(here.address, "absent"))
    elsewhere = await Client.connect(
        services.client.service_client.config.target_host, namespace="absent"
    )
    with pytest.raises(RPCError):
        await reconcile(elsewhere, services.warehouse, grace=NO_GRACE, queue=services.queue)
    assert services.rows("SELECT state FROM etl_batches") == [("running",)]
