"""Planning of jobs whose records are stored rejects."""

import asyncio
from collections.abc import AsyncGenerator

from temporaletl.messages import BatchMetadata, ETLInput, Window
from temporaletl.strategies import Plan
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.rejects import streams_with_rejects


async def reprocessing_jobs(
    warehouse: Warehouse, metadata: BatchMetadata
) -> AsyncGenerator[ETLInput]:
    """Yield a job for each stream with rejects; for those that the batch names, if it does."""
    for stream in await asyncio.to_thread(streams_with_rejects, warehouse, metadata):
        job = _of_rejects(metadata, stream)
        if metadata.rejects:
            job = job.model_copy(update={"params": {"rejects": list(metadata.rejects)}})
        yield job


async def second_readings(
    warehouse: Warehouse, metadata: BatchMetadata
) -> AsyncGenerator[ETLInput]:
    """Yield a job for each stream with items that could not be read: they are requested again."""
    for stream in await asyncio.to_thread(streams_with_rejects, warehouse, metadata, "extract"):
        yield _of_rejects(metadata, stream).model_copy(update={"reread": True})


def _of_rejects(metadata: BatchMetadata, stream: str) -> ETLInput:
    # Not with the batch's parameters: each reject brings those of the job that met it.
    return Plan(metadata).job(stream, Window()).model_copy(update={"params": {}})
