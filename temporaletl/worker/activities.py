"""The worker's activities: thin shells over the segment and the ledger."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from time import perf_counter
from typing import Any

from temporalio import activity

from temporaletl import names
from temporaletl.messages import EndJobRequest, ETLInput, JobProgress, SegmentResult
from temporaletl.settings.platform import WorkerSettings
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal.heartbeats import FIRST_BEAT_AFTER, to_its_end
from temporaletl.troubles import Troubles, observed
from temporaletl.warehouse import control, ledger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.segment import SegmentLimits, run_segment

log = get_logger("temporaletl.worker.activities")


class ActivityProgress:
    """Progress of a segment's activity: heartbeats, and its stop on cancellation or shutdown."""

    def __init__(self, heartbeat_timeout: timedelta) -> None:
        self.stopping = asyncio.Event()
        #: Of the segment's requests: a heartbeat says what is tried again.
        self.troubles = Troubles()
        self._interval = heartbeat_timeout / 5
        self._pages = 0
        self._begun = False

    def report(self, progress: JobProgress) -> None:
        self._pages = progress.pages
        if self._begun:
            self._beat()

    def _beat(self) -> None:
        trouble = self.troubles.notice
        activity.heartbeat(self._pages, *([] if trouble is None else [trouble]))

    async def beat(self) -> None:
        """Heartbeat until cancelled, so that a dead worker is noticed and a live one is not.

        An attempt behind others does so at once: it carries on what theirs have counted.
        """
        if activity.info().attempt == 1:
            await asyncio.sleep(min(FIRST_BEAT_AFTER, self._interval).total_seconds())
        self._begun = True
        while True:
            self._beat()
            await asyncio.sleep(self._interval.total_seconds())

    async def watch_shutdown(self) -> None:
        await activity.wait_for_worker_shutdown()
        self.stopping.set()


class WorkerActivities:
    """The worker's activities and their shared state; `all` lists them."""

    def __init__(self, warehouse: Warehouse, settings: WorkerSettings) -> None:
        self._warehouse = warehouse
        self._limits = SegmentLimits.of(settings)

    @property
    def all(self) -> Sequence[Callable[..., Any]]:
        return [self.run_segment, self.pause_job, self.end_job]

    @activity.defn(name=names.RUN_SEGMENT)
    async def run_segment(self, job: ETLInput) -> SegmentResult:
        info = activity.info()
        began = perf_counter()
        progress = ActivityProgress(job.policy.heartbeat_timeout)
        with observed(progress.troubles):
            segment = asyncio.create_task(
                run_segment(
                    job,
                    warehouse=self._warehouse,
                    workflow_id=info.workflow_id or "",
                    run_id=info.workflow_run_id or "",
                    limits=self._limits,
                    progress=progress,
                )
            )
        watchers = [
            asyncio.create_task(progress.beat()),
            asyncio.create_task(progress.watch_shutdown()),
        ]
        try:
            return await asyncio.shield(segment)
        except asyncio.CancelledError:
            # Paused, cancelled or shut down: end at the page boundary and answer all the same.
            progress.stopping.set()
            return await segment
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            seconds = round(perf_counter() - began, 4)
            log.info("segment_ended", job_id=job.job_id, seconds=seconds)

    @activity.defn(name=names.PAUSE_JOB)
    async def pause_job(self, job: ETLInput) -> None:
        await to_its_end(asyncio.to_thread(control.pause_job, self._warehouse, job))

    @activity.defn(name=names.END_JOB)
    async def end_job(self, ended: EndJobRequest) -> JobProgress:
        ending = asyncio.to_thread(
            ledger.end_job, self._warehouse, ended.job, ended.state, ended.error
        )
        progress = await to_its_end(ending)
        log.info("job_ended", job_id=ended.job.job_id, state=progress.state, error=progress.error)
        return progress
