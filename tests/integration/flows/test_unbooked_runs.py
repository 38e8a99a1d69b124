"""Runs whose workflow ends before they have a batch: listed, ended in the ledger, announced."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporaletl import names
from temporaletl.control.operations.control import control_run
from temporaletl.control.operations.details import run_details
from temporaletl.control.operations.history import RunFilter, list_runs, recent_runs
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.reports import RunKey, RunReport
from temporaletl.control.operations.runs import RunGoesOnError, run_request, start_only_run
from temporaletl.control.operations.status import Runs
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.notifications.delivery import Notifier
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.queuer.reconciliation import namespace_of, reconcile
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import Namespace
from temporaletl.warehouse.runs import claim_run, end_run, enter_run, find_run
from tests.integration.api.in_process import platform_of
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until
from tests.webhooks import Webhooks, running_webhooks

NO_GRACE = timedelta(0)


@workflow.defn(name=names.QUEUER_FLOW)
class _UnplannedFlow:
    """A run that fails, or goes on, before it has a batch."""

    @workflow.run
    async def run(self, request: QueuerInput) -> None:
        if request.params.get("fails"):
            raise ApplicationError("the queuer broke")
        await workflow.wait_condition(lambda: False)


@dataclass(frozen=True)
class Unplanned:
    """A platform whose queuer plans nothing."""

    services: Services
    platform: Platform

    async def start(self, fate: str, *, queue: str | None = None) -> str:
        """Start a run as a schedule does, and let it end; return its workflow id."""
        client = self.services.client
        request = run_request("numbers", mode="full", params={"fails": fate == "failed"})
        handle = await client.start_workflow(
            names.QUEUER_FLOW,
            request,
            id=f"etl-{fate.replace(' ', '-')}-{uuid.uuid4().hex}",
            task_queue=queue or self.services.queue,
            execution_timeout=timedelta(seconds=1) if fate == "timed out" else None,
            static_summary="numbers full",
        )
        if fate == "cancelled":
            await handle.cancel()
        if fate == "terminated":
            await handle.terminate(reason="by an operator")
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        return handle.id

    async def reconcile(self, grace: timedelta = NO_GRACE) -> list[BatchSummary]:
        both = self.services
        return await reconcile(both.client, both.warehouse, grace=grace, queue=both.queue)

    async def states(self) -> dict[str, str]:
        return {run.workflow_id: run.state for run in await self.runs()}

    async def runs(self) -> list[RunReport]:
        return (await recent_runs(self.platform, limit=50)).runs


@pytest_asyncio.fixture
async def unplanned(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str
) -> AsyncGenerator[Unplanned]:
    services = Services(temporal_server.client, warehouse, f"test-{uuid.uuid4().hex}")
    worker = Worker(
        temporal_server.client,
        task_queue=services.queue,
        workflows=[_UnplannedFlow],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker, platform_of(services, postgres_url) as platform:
        yield Unplanned(services, platform)


@pytest.fixture
def webhooks() -> Iterator[Webhooks]:
    with running_webhooks() as opened:
        yield opened


async def test_a_run_that_ends_before_it_has_a_batch_is_listed_ended_and_announced_once(
    unplanned: Unplanned, webhooks: Webhooks
) -> None:
    settings = NotificationSettings.model_validate({"notify_urls": webhooks.url("/200/all")})
    notifier = Notifier(unplanned.services.warehouse, settings)
    notifier.register()
    fates = ["failed", "cancelled", "terminated", "timed out"]
    runs = dict(zip(fates, await asyncio.gather(*map(unplanned.start, fates)), strict=True))
    await unplanned.start("terminated", queue="of-another-platform")

    # No queuer has looked yet: Temporal alone knows them.
    async def listed() -> bool:
        return await unplanned.states() == {run: fate for fate, run in runs.items()}

    await until(listed)
    by_id = {run.workflow_id: run for run in await unplanned.runs()}
    assert "by an operator" in str(by_id[runs["terminated"]].error)

    ended = {one.workflow_id: one for one in await unplanned.reconcile()}

    assert {run: one.state for run, one in ended.items()} == {
        run: "cancelled" if fate == "cancelled" else "failed" for fate, run in runs.items()
    }
    for fate, cause in [("failed", "the queuer broke"), ("terminated", "by an operator")]:
        assert cause in str(ended[runs[fate]].error)
    assert await unplanned.states() == {run: one.state for run, one in ended.items()}
    assert await unplanned.reconcile() == []
    for run, one in ended.items():
        report = (await run_details(unplanned.platform, run)).run
        assert report is not None
        assert (report.state, report.error) == (one.state, one.error)
        assert report.started_at < (report.ended_at or report.started_at)
    for _ in range(2):
        await asyncio.to_thread(notifier.deliver)
    assert sorted(post.body["text"].partition(" in ")[0] for post in webhooks.posts) == [
        "numbers full cancelled",
        *["numbers full failed"] * 3,
    ]


async def test_a_run_that_nobody_plans_keeps_others_out_until_it_is_terminated(
    unplanned: Unplanned,
) -> None:
    run = await start_only_run(unplanned.platform, run_request("numbers", mode="full"))
    assert await unplanned.states() == {run.workflow_id: "waiting"}
    assert await unplanned.reconcile() == []
    with pytest.raises(RunGoesOnError):
        await start_only_run(unplanned.platform, run_request("numbers"))
    handle = unplanned.services.client.get_workflow_handle(run.workflow_id)
    await handle.terminate(reason="by an operator")
    assert await unplanned.states() == {run.workflow_id: "terminated"}
    # Whoever starts the next one need not wait for a queuer's look.
    another = await start_only_run(unplanned.platform, run_request("numbers", mode="full"))
    states = await unplanned.states()
    assert states == {another.workflow_id: "waiting", run.workflow_id: "failed"}
    for one in (run, another):
        one.ending.cancel()


@pytest.mark.parametrize(
    ("there", "grace", "ends"),
    [
        ("here", NO_GRACE, True),
        ("here", timedelta(hours=1), False),
        ("elsewhere", NO_GRACE, False),
        ("nowhere", NO_GRACE, True),
    ],
)
async def test_a_run_that_temporal_does_not_know_ends_where_it_could_only_be_there(
    unplanned: Unplanned, there: str, grace: timedelta, *, ends: bool
) -> None:
    """One that is nowhere was never started: whoever entered it died."""
    warehouse = unplanned.services.warehouse
    here = await namespace_of(unplanned.services.client)
    request = run_request("numbers", mode="full")
    enter_run(warehouse, request, workflow_id="forgotten", run_id="r")
    if there != "nowhere":
        place = here if there == "here" else Namespace("elsewhere:7233", "default", "other")
        assert claim_run(warehouse, "forgotten", "temporal", place)
    unplanned.services.rows_changed(
        "UPDATE etl_runs SET requested_at = requested_at - interval '1 minute'"
    )

    ended = await unplanned.reconcile(grace)

    found = find_run(warehouse, "forgotten")
    assert found is not None
    assert (found.ended_at is not None) == ends
    # What no engine ever had is not listed among those that failed.
    listed = {("here", True): ["failed"], ("nowhere", True): []}
    expected = listed.get((there, ends), ["lost" if there == "here" else "waiting"])
    assert [run.state for run in await unplanned.runs()] == expected
    assert len(ended) == ends
    if ends:
        assert str(found.error).startswith(("lost: ", "never started: "))
    elif there == "elsewhere":
        done = await control_run(unplanned.platform, "forgotten", "cancel")
        assert done.ended_batch == "forgotten"
        assert [run.state for run in await unplanned.runs()] == ["cancelled"]


async def test_each_run_is_on_one_page_of_the_list_also_where_many_go_on(
    warehouse: Warehouse, temporal_server: TemporalServer, postgres_url: str
) -> None:
    """Those that go on are older and younger than those that ended, and more than a page."""
    request = run_request("numbers", mode="full")
    ids = [f"run-{number}" for number in range(9)]
    for number, name in enumerate(ids):
        enter_run(warehouse, request, workflow_id=name, run_id="r", engine="local", only=False)
        if number % 2:
            end_run(warehouse, name, error="broken")
    services = Services(temporal_server.client, warehouse, "nobody")
    async with platform_of(services, postgres_url) as platform:
        runs = (await recent_runs(platform, limit=200)).runs
        assert [run.workflow_id for run in runs] == [*ids[::-2], *ids[-2::-2]]
        observed = Runs([run for run in runs if run.ended_at is None], [])
        for chosen in (RunFilter(), RunFilter(state="failed"), RunFilter(state="waiting")):
            paged: list[RunReport] = []
            while page := await list_runs(
                platform,
                observed,
                chosen,
                limit=2,
                after=RunKey.of(paged[-1]) if paged else None,
            ):
                paged += page
            assert paged == [run for run in runs if chosen.takes(run)]


async def test_without_a_ledger_ended_runs_are_those_that_temporal_remembers(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str
) -> None:
    async with running(temporal_server.client, warehouse) as services:
        batch = await services.run(size=1)
        platform = platform_of(services, postgres_url)
        settings = platform.warehouse_settings.model_copy(update={"schema_name": "none"})
        async with Platform(platform.settings, settings) as unprepared:

            async def is_listed() -> bool:
                found = await recent_runs(unprepared, limit=9)
                assert "the warehouse has no tables of the platform" in found.remarks[0]
                assert "only what Temporal knows" in found.remarks[0]
                seen = [(run.workflow_id, run.state) for run in found.runs]
                return seen == [(batch.workflow_id, "completed")]

            await until(is_listed)
