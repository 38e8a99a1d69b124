"""CheckFlow: what a service sees of a source, asked on each of its task queues."""

import asyncio
from datetime import timedelta

from temporalio import exceptions, workflow
from temporalio.common import RetryPolicy, VersioningBehavior
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType

with workflow.unsafe.imports_passed_through():
    from temporaletl import names
    from temporaletl.checks.messages import (
        QueueAnswer,
        ServiceAnswer,
        ServiceAnswers,
        ServiceCheckRequest,
    )
    from temporaletl.temporal.failures import first_message

#: A process that is there takes a check at once, unless all its slots are busy.
TAKEN_WITHIN = timedelta(seconds=10)
#: The source and the warehouse are asked side by side, each for a shorter time.
ANSWERED_WITHIN = timedelta(seconds=45)
#: The SDK's type of the failure of an activity that a worker does not have.
_UNREGISTERED = "NotFoundError"


@workflow.defn(name=names.CHECK_FLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class CheckFlow:
    """Workflow of a check; both services run it, each on its own task queue.

    It fails for no answer that is missing: why it is, stands in its place.
    """

    @workflow.run
    async def run(self, request: ServiceCheckRequest) -> ServiceAnswers:
        answers = await asyncio.gather(*(_asked(queue, request) for queue in request.queues))
        return ServiceAnswers(queues=tuple(answers))


async def _asked(queue: str, request: ServiceCheckRequest) -> QueueAnswer:
    try:
        answer = await workflow.execute_activity(
            names.CHECK_SERVICE,
            request,
            task_queue=queue,
            result_type=ServiceAnswer,
            schedule_to_start_timeout=TAKEN_WITHIN,
            start_to_close_timeout=ANSWERED_WITHIN,
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
    except ActivityError as error:
        match error.cause:
            case exceptions.TimeoutError(type=TimeoutType.SCHEDULE_TO_START):
                return QueueAnswer(queue=queue, silence="not taken")
            case ApplicationError(type=kind) if kind == _UNREGISTERED:
                return QueueAnswer(queue=queue, silence="older version")
            case _:
                return QueueAnswer(queue=queue, silence="failed", reason=first_message(error))
    return QueueAnswer(queue=queue, answer=answer)
