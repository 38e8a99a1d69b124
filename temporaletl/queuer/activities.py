"""The queuer's activities: thin shells over planning and the ledger."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from temporalio import activity
from temporalio.service import RPCError

from temporaletl import names
from temporaletl.control_messages import ControlRecord, ControlRequest
from temporaletl.errors import PermanentError
from temporaletl.messages import (
    BatchMetadata,
    BatchSummary,
    ETLInput,
    ExpandedBatch,
    FinishRequest,
    JobsPage,
    JobsRequest,
    MetadataRequest,
    OutcomesRequest,
)
from temporaletl.names import label
from temporaletl.notifications.delivery import Notifier
from temporaletl.queuer import finishing, planning
from temporaletl.queuer.reconciliation import closings, describe_workflow, namespace_of
from temporaletl.settings.platform import TemporalSettings
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal.heartbeats import to_its_end
from temporaletl.troubles import Troubles, observed
from temporaletl.warehouse import control, ledger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import Namespace
from temporaletl.warehouse.runs import RequestedRun, end_run
from temporaletl.warehouse.workflow_claims import SkippedRunError, claim_for_temporal

log = get_logger("temporaletl.queuer.activities")

#: So many jobs are handed to their dispatcher; more are listed by it.
_FEW_JOBS = 8
#: How long a batch must be at rest to be paused: a segment that was on its way to a worker when the
#: pause was requested has begun by then, and counts.
_REST_SECONDS = 1.0


class QueuerActivities:
    """The queuer's activities and their shared state; `all` lists them."""

    def __init__(
        self, warehouse: Warehouse, temporal: TemporalSettings, notifier: Notifier
    ) -> None:
        self._warehouse = warehouse
        self._temporal = temporal
        self._notifier = notifier

    @property
    def all(self) -> Sequence[Callable[..., Any]]:
        return [
            self.get_metadata,
            self.expand_jobs,
            self.list_jobs,
            self.record_outcomes,
            self.record_control,
            self.finish_batch,
            self.notify,
        ]

    @activity.defn(name=names.GET_METADATA)
    async def get_metadata(self, request: MetadataRequest) -> BatchMetadata:
        return await to_its_end(self._enter(request))

    async def _enter(self, request: MetadataRequest) -> BatchMetadata:
        namespace = await _namespace()
        covering = await asyncio.to_thread(claim_for_temporal, self._warehouse, request, namespace)
        try:
            await _skip_for(covering)
            return await asyncio.to_thread(
                planning.resolve_batch,
                self._warehouse,
                request,
                policy=self._temporal.policy(),
                worker_queue=self._temporal.worker_queue,
                namespace=namespace,
            )
        except PermanentError as error:
            # The run ends with it, and has no batch that could say so.
            kind = type(error).__name__
            await asyncio.to_thread(
                end_run, self._warehouse, request.workflow_id, error=str(error), error_type=kind
            )
            raise

    @activity.defn(name=names.EXPAND_JOBS)
    async def expand_jobs(self, metadata: BatchMetadata) -> ExpandedBatch:
        written, troubles = 0, Troubles()

        def report(jobs: int) -> None:
            nonlocal written
            written = jobs

        async def beat() -> None:
            while True:
                trouble = troubles.notice
                activity.heartbeat(written, *([] if trouble is None else [trouble]))
                await asyncio.sleep(metadata.policy.heartbeat_timeout.total_seconds() / 4)

        beating = asyncio.create_task(beat())
        try:
            with observed(troubles):
                jobs = await planning.expand(self._warehouse, metadata, report=report)
            log.info("batch_planned", batch_id=metadata.batch_id, jobs=jobs)
            return ExpandedBatch(jobs=jobs, few=await self._few(metadata.batch_id, jobs))
        finally:
            beating.cancel()

    async def _few(self, batch_id: str, number: int) -> tuple[ETLInput, ...] | None:
        """A plan's open jobs, where there are few in it; their parameters may be long all the same.

        They are part of the histories of the batch's workflow and its dispatcher.
        """
        if not 0 < number <= _FEW_JOBS:
            return None
        jobs, following = await asyncio.to_thread(
            ledger.open_jobs, self._warehouse, batch_id, first=0, end=number
        )
        return tuple(jobs) if following == number else None

    @activity.defn(name=names.LIST_JOBS)
    async def list_jobs(self, request: JobsRequest) -> JobsPage:
        reading = asyncio.to_thread(
            ledger.open_jobs,
            self._warehouse,
            request.batch_id,
            first=request.first,
            end=request.end,
        )
        jobs, following = await to_its_end(reading)
        return JobsPage(jobs=tuple(jobs), next=following)

    @activity.defn(name=names.RECORD_OUTCOMES)
    async def record_outcomes(self, ended: OutcomesRequest) -> None:
        recording = asyncio.to_thread(
            ledger.record_outcomes, self._warehouse, ended.batch_id, ended.outcomes
        )
        await to_its_end(recording)

    @activity.defn(name=names.RECORD_CONTROL)
    async def record_control(self, request: ControlRequest) -> ControlRecord:
        batch, warehouse = request.batch_id, self._warehouse
        await asyncio.to_thread(
            control.record_control, warehouse, batch, request.state, change=request.change
        )
        deadline = time.monotonic() + request.patience.total_seconds()
        rested_before = False
        while True:
            rest = await asyncio.to_thread(control.read_rest, warehouse, batch)
            if (
                rest.at_rest
                and rested_before
                and await asyncio.to_thread(control.record_rest, warehouse, batch)
            ):
                return ControlRecord(at_rest=True, jobs_running=0)
            if time.monotonic() >= deadline or activity.is_worker_shutdown():
                return ControlRecord(at_rest=False, jobs_running=rest.jobs_running)
            rested_before = rest.at_rest
            activity.heartbeat()
            await asyncio.sleep(_REST_SECONDS)

    @activity.defn(name=names.FINISH_BATCH)
    async def finish_batch(self, request: FinishRequest) -> BatchSummary:
        summary = await to_its_end(asyncio.to_thread(finishing.finish, self._warehouse, request))
        log.info("batch_ended", batch_id=summary.batch_id, state=summary.state)
        return summary

    @activity.defn(name=names.NOTIFY)
    async def notify(self, summary: BatchSummary) -> None:
        await asyncio.to_thread(self._notifier.announce_end, summary)


async def _skip_for(covering: Sequence[RequestedRun]) -> None:
    """Raise SkippedRunError where one of these runs goes on indeed.

    One that nobody drives, or whose workflow has ended without its books, keeps none from running.
    """
    for run in covering:
        going_on = run.owned
        if run.engine == "temporal":
            found = await describe_workflow(activity.client(), run.workflow_id)
            going_on = found is not None and found.status not in closings()
        if going_on:
            whose = label(run.source, run.connection)
            raise SkippedRunError(
                f"skipped: {run.workflow_id} loads the same of {whose} already, since "
                f"{run.requested_at:%Y-%m-%d %H:%M:%S} UTC"
            )


async def _namespace() -> Namespace | None:
    try:
        return await namespace_of(activity.client())
    except RPCError:
        # The batch need not wait for it: reconciliation records it.
        return None
