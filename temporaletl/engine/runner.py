"""The work of a batch in the engine: planning, jobs side by side, and closing."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial

from temporaletl.engine.job import JobRunner
from temporaletl.engine.listener import Audience
from temporaletl.engine.retries import Retries, StoppedError
from temporaletl.engine.threads import in_thread
from temporaletl.messages import BatchMetadata, BatchSummary, ETLInput, FinishRequest
from temporaletl.queuer import finishing, planning
from temporaletl.strategies import import_sources
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal.attempts import message_of
from temporaletl.warehouse import ledger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ownership import Ownership

log = get_logger("temporaletl.engine")


@cache
def import_all_sources() -> None:
    """Import the strategies of both services."""
    import_sources("temporaletl.queuer.sources")
    import_sources("temporaletl.worker.sources")


@dataclass(frozen=True, slots=True)
class BatchRunner:
    """Plans a batch, runs its jobs, and closes it, as QueuerFlow and DispatchFlow.

    Under an `ownership` nothing is ended any more once another process has adopted the run.
    """

    warehouse: Warehouse
    audience: Audience
    ownership: Ownership | None = None

    async def plan(self, metadata: BatchMetadata, retries: Retries) -> int:
        """Write the jobs to the ledger; return their number. Raises as `expand`."""
        jobs = await retries.until_stopped(
            retries.run(
                lambda: planning.expand(self.warehouse, metadata, report=lambda _jobs: None),
                self._report_failure,
            )
        )
        log.info("batch_planned", batch_id=metadata.batch_id, jobs=jobs)
        self.audience.notify(self.audience.listener.planned, metadata, jobs)
        return jobs

    async def run_jobs(
        self, metadata: BatchMetadata, jobs: int, runner: JobRunner, *, at_once: int
    ) -> None:
        """Run the jobs of the ledger, so many at a time; memory does not grow with their number.

        Raises:
            StoppedError: the batch shall end or rest; the jobs that ran have done so.
            LeaseLostError: another process has adopted the run.
        """
        slots = asyncio.Semaphore(at_once)

        async def run(job: ETLInput) -> None:
            try:
                await runner.run(job)
            finally:
                slots.release()

        try:
            async with (
                asyncio.TaskGroup() as running,
                contextlib.aclosing(self._open_jobs(metadata, jobs, runner.retries)) as found,
            ):
                async for job in found:
                    await slots.acquire()
                    if runner.retries.stopping.is_set():
                        raise StoppedError
                    running.create_task(run(job))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        if runner.retries.stopping.is_set():
            raise StoppedError

    async def _open_jobs(
        self, metadata: BatchMetadata, end: int, retries: Retries
    ) -> AsyncGenerator[ETLInput]:
        first = 0
        while first < end:
            jobs, first = await retries.run(
                partial(
                    asyncio.to_thread,
                    partial(
                        ledger.open_jobs,
                        self.warehouse,
                        metadata.batch_id,
                        first=first,
                        end=end,
                    ),
                ),
                self._report_failure,
            )
            for job in jobs:
                yield job

    async def finish(
        self,
        metadata: BatchMetadata,
        workflow_id: str,
        retries: Retries,
        *,
        cancelled: bool,
        error: Exception | None,
    ) -> BatchSummary:
        """Close the batch and move its watermarks. Raises LeaseLostError, and nothing of jobs."""
        request = FinishRequest(
            metadata=metadata,
            workflow_id=workflow_id,
            cancelled=cancelled,
            error=None if error is None else message_of(error),
        )
        summary = await retries.ending().run(
            lambda: in_thread(
                partial(finishing.finish, self.warehouse, request, ownership=self.ownership)
            ),
            self._report_failure,
        )
        log.info("batch_ended", batch_id=summary.batch_id, state=summary.state)
        return summary

    def _report_failure(self, error: Exception, pause: timedelta) -> None:
        self.audience.notify(self.audience.listener.attempt_failed, None, error, pause)
