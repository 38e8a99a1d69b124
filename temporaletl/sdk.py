"""Temporal's SDK: its names, each imported on first use.

    except sdk.RPCError as error:

For what a command imports that may not need Temporal: the SDK takes a quarter of a second. Services
and workflows import it as it is. Annotations name its types under TYPE_CHECKING.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from temporalio.api.enums.v1 import PendingActivityState, TaskQueueType
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import (
        DescribeNamespaceRequest,
        DescribeTaskQueueRequest,
        UpdateScheduleRequest,
    )
    from temporalio.client import (
        Schedule,
        ScheduleActionExecutionStartWorkflow,
        ScheduleActionStartWorkflow,
        ScheduleAlreadyRunningError,
        ScheduleBackfill,
        ScheduleCalendarSpec,
        ScheduleOverlapPolicy,
        SchedulePolicy,
        ScheduleRange,
        ScheduleSpec,
        ScheduleUpdate,
        WorkflowExecutionStatus,
        WorkflowFailureError,
        WorkflowQueryFailedError,
        WorkflowQueryRejectedError,
        WorkflowUpdateFailedError,
        WorkflowUpdateRPCTimeoutOrCancelledError,
    )
    from temporalio.envconfig import ClientConfigProfile
    from temporalio.exceptions import (
        ApplicationError,
        CancelledError,
        FailureError,
        TerminatedError,
        TimeoutError,  # noqa: A004 - the SDK's
    )
    from temporalio.service import RPCError, RPCStatusCode

__all__ = [
    "ApplicationError",
    "CancelledError",
    "ClientConfigProfile",
    "DescribeNamespaceRequest",
    "DescribeTaskQueueRequest",
    "FailureError",
    "PendingActivityState",
    "RPCError",
    "RPCStatusCode",
    "Schedule",
    "ScheduleActionExecutionStartWorkflow",
    "ScheduleActionStartWorkflow",
    "ScheduleAlreadyRunningError",
    "ScheduleBackfill",
    "ScheduleCalendarSpec",
    "ScheduleOverlapPolicy",
    "SchedulePolicy",
    "ScheduleRange",
    "ScheduleSpec",
    "ScheduleUpdate",
    "TaskQueue",
    "TaskQueueType",
    "TerminatedError",
    "TimeoutError",
    "UpdateScheduleRequest",
    "WorkflowExecutionStatus",
    "WorkflowFailureError",
    "WorkflowQueryFailedError",
    "WorkflowQueryRejectedError",
    "WorkflowUpdateFailedError",
    "WorkflowUpdateRPCTimeoutOrCancelledError",
]

if not TYPE_CHECKING:  # a name that is not there is a fault to whoever checks types
    _MODULES = (
        "service",
        "client",
        "exceptions",
        "envconfig",
        "api.enums.v1",
        "api.taskqueue.v1",
        "api.workflowservice.v1",
    )

    def __getattr__(name: str) -> object:
        if name in __all__:
            for module in _MODULES:
                if (found := vars(import_module(f"temporalio.{module}")).get(name)) is not None:
                    globals()[name] = found
                    return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
