"""Segments that are called off and never answer: the job is paused, and no failure."""

import asyncio
import uuid
from datetime import timedelta

from temporalio import activity
from temporalio.worker import Worker

from temporaletl import names
from temporaletl.messages import (
    EndJobRequest,
    ETLInput,
    ETLResult,
    JobProgress,
    RunPolicy,
    SegmentResult,
)
from temporaletl.temporal.builds import workflow_runner
from temporaletl.worker.flow import ETLFlow
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until


async def test_a_segment_whose_worker_dies_once_it_was_called_off_is_run_again(
    temporal_server: TemporalServer,
) -> None:
    client, queue = temporal_server.client, f"called-off-{uuid.uuid4().hex}"
    begun: list[int] = []

    @activity.defn(name=names.RUN_SEGMENT)
    async def run_segment(job: ETLInput) -> SegmentResult:
        begun.append(activity.info().attempt)
        if len(begun) == 1:
            # As one that has died does, it sends no heartbeat.
            await asyncio.sleep(600)
        return SegmentResult(progress=JobProgress(state="completed", stream=job.stream), done=True)

    @activity.defn(name=names.PAUSE_JOB)
    async def pause_job(job: ETLInput) -> None:
        del job

    @activity.defn(name=names.END_JOB)
    async def end_job(ended: EndJobRequest) -> JobProgress:
        return JobProgress(state=ended.state, stream=ended.job.stream, error=ended.error)

    job = ETLInput(
        batch_id="b",
        seq=0,
        job_id="j",
        source="shop",
        stream="orders",
        mode="full",
        policy=RunPolicy(heartbeat_timeout=timedelta(seconds=5)),
    )
    async with Worker(
        client,
        task_queue=queue,
        workflows=[ETLFlow],
        activities=[run_segment, pause_job, end_job],
        workflow_runner=workflow_runner(),
    ):
        run = await client.start_workflow(
            names.ETL_FLOW, job, id=queue, task_queue=queue, result_type=ETLResult
        )
        await until(lambda: bool(begun))
        await run.signal(names.PAUSE)

        async def is_paused() -> bool:
            return bool((await run.query(names.STATUS))["state"] == "paused")

        await until(is_paused)
        await run.signal(names.RESUME)
        result = await run.result()
    assert result.progress.state == "completed"
    assert begun == [1, 1]
