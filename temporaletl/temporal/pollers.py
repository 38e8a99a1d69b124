"""Pollers of a task queue: which processes take its tasks, by what Temporal knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from temporaletl.errors import TemporalUnavailableError
from temporaletl.temporal import sdk

if TYPE_CHECKING:
    from temporalio.client import Client

#: A probe of readiness gives up after four.
_ANSWERS_WITHIN = timedelta(seconds=3)
#: A poll lasts a minute at most, and the server remembers pollers for longer.
_POLLED_WITHIN = timedelta(seconds=70)


async def pollers(client: Client, queue: str, *, for_activities: bool = False) -> frozenset[str]:
    """The identities of those that poll a task queue for workflow tasks, or for activities.

    Raises:
        TemporalUnavailableError: Temporal does not say, so that nobody is known to be missing.
    """
    try:
        answer = await client.workflow_service.describe_task_queue(
            sdk.DescribeTaskQueueRequest(
                namespace=client.namespace,
                task_queue=sdk.TaskQueue(name=queue),
                task_queue_type=(
                    sdk.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
                    if for_activities
                    else sdk.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
                ),
            ),
            timeout=_ANSWERS_WITHIN,
        )
    except sdk.RPCError as error:
        reason = error.status.name.replace("_", " ").lower()
        raise TemporalUnavailableError(
            f"Temporal does not say who polls task queue {queue}: {reason}"
        ) from None
    since = datetime.now(UTC) - _POLLED_WITHIN
    return frozenset(
        poller.identity
        for poller in answer.pollers
        if poller.last_access_time.ToDatetime(tzinfo=UTC) >= since
    )
