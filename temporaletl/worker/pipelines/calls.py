"""Calls of activities by executions: quick ones within the workflow's task, others by the server.

A local activity costs the server one event in place of six; it is tried once, and what fails there
and may succeed later goes the long way, where attempts are counted and outages waited out.
"""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from temporaletl.messages import Message, RunPolicy
from temporaletl.temporal.failures import first_cause, retry_policy

Result = TypeVar("Result", bound=Message)

#: How long a quick call may take: for so long the workflow hears of nothing else.
_QUICK = timedelta(seconds=2)
#: Whether it did what it was to do must be known before the end.
UNTIL_CANCELLED = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED


async def call[Result: Message](
    name: str,
    request: Message,
    result: type[Result],
    *,
    policy: RunPolicy,
    within: timedelta,
    quick: bool = False,
    beats: bool = False,
    summary: str | None = None,
) -> Result:
    """Call an activity that is safe to repeat; first within the workflow's task, where `quick`.

    One that `beats` is taken for dead where its heartbeats stay away.

    Raises:
        FailureError: it failed for good, or was cancelled.
    """
    if quick:
        try:
            answer: Result = await workflow.execute_local_activity(
                name,
                request,
                result_type=result,
                start_to_close_timeout=min(within, _QUICK),
                retry_policy=RetryPolicy(maximum_attempts=1),
                cancellation_type=UNTIL_CANCELLED,
            )
        except FailureError as error:
            cause = first_cause(error)  # it stands alone, or within an ActivityError
            final = isinstance(cause, ApplicationError) and cause.non_retryable
            if final or is_cancelled_exception(error):
                raise
        else:
            return answer
    found: Result = await workflow.execute_activity(
        name,
        request,
        result_type=result,
        start_to_close_timeout=within,
        heartbeat_timeout=policy.heartbeat_timeout if beats else None,
        retry_policy=retry_policy(policy),
        cancellation_type=UNTIL_CANCELLED,
        summary=summary,
    )
    return found


async def together(runs: list[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines at once; where one fails, the others end before that is told."""
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
