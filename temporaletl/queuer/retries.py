"""Planning of retries: the jobs that failed in a batch, once more, in a batch of their own."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pydantic import JsonValue

from temporaletl import names
from temporaletl.errors import ConfigurationError
from temporaletl.messages import BatchMetadata, ETLInput, QueuerInput
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.retries import failed_inputs, find_failed


def resolve_retry(
    warehouse: Warehouse,
    request: QueuerInput,
    batch_id: str,
    whole_scope: Mapping[str, JsonValue],
    own: Mapping[str, Any],
) -> BatchMetadata:
    """The batch that runs what failed in another one: in the same windows, by the same filters."""
    retried = find_failed(warehouse, batch_id).metadata
    if retried.whole_scope is not None and retried.whole_scope != whole_scope:
        raise ConfigurationError(
            f"what failed in {batch_id} cannot be retried: the filters in the settings of "
            f"{names.label(request.source, request.connection)} are no longer those that it was "
            "planned with; start a run instead"
        )
    windows = {
        stream: window for stream, window in retried.windows.items() if stream in request.streams
    }
    # What was accepted then, has been: the account may have lost something since.
    return retried.model_copy(
        update={**own, "windows": windows, "retries": batch_id, "accept_view": False}
    )


async def retried_jobs(
    warehouse: Warehouse, metadata: BatchMetadata, batch_id: str
) -> AsyncGenerator[ETLInput]:
    """Yield the failed jobs of a batch, with their windows and parameters, for another one."""
    after = -1
    while jobs := await asyncio.to_thread(failed_inputs, warehouse, batch_id, after=after):
        for job in jobs:
            yield job.model_copy(
                update={
                    "batch_id": metadata.batch_id,
                    "policy": metadata.policy,
                    "segment_queue": metadata.segment_queue,
                }
            )
        after = jobs[-1].seq
