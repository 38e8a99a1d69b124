"""Temporal's SDK: its names, each imported on first use.

    except sdk.RPCError as error:

For what a command imports that may not need Temporal: the SDK takes a quarter of a second. Services
and workflows import it as it is. Annotations name its types under TYPE_CHECKING.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# ruff: noqa: PLC0414 - names that others take from here

if TYPE_CHECKING:
    from temporalio.api.enums.v1 import (
        PendingActivityState as PendingActivityState,
        TaskQueueType as TaskQueueType,
    )
    from temporalio.api.taskqueue.v1 import (
        TaskQueue as TaskQueue,
    )
    from temporalio.api.workflowservice.v1 import (
        DescribeNamespaceRequest as DescribeNamespaceRequest,
        DescribeTaskQueueRequest as DescribeTaskQueueRequest,
        UpdateScheduleRequest as UpdateScheduleRequest,
    )
    from temporalio.client import (
        Schedule as Schedule,
        ScheduleActionExecutionStartWorkflow as ScheduleActionExecutionStartWorkflow,
        ScheduleActionStartWorkflow as ScheduleActionStartWorkflow,
        ScheduleAlreadyRunningError as ScheduleAlreadyRunningError,
        ScheduleBackfill as ScheduleBackfill,
        ScheduleCalendarSpec as ScheduleCalendarSpec,
        ScheduleIntervalSpec as ScheduleIntervalSpec,
        ScheduleOverlapPolicy as ScheduleOverlapPolicy,
        SchedulePolicy as SchedulePolicy,
        ScheduleRange as ScheduleRange,
        ScheduleSpec as ScheduleSpec,
        WorkflowExecutionStatus as WorkflowExecutionStatus,
        WorkflowFailureError as WorkflowFailureError,
        WorkflowQueryFailedError as WorkflowQueryFailedError,
        WorkflowQueryRejectedError as WorkflowQueryRejectedError,
        WorkflowUpdateFailedError as WorkflowUpdateFailedError,
        WorkflowUpdateRPCTimeoutOrCancelledError as WorkflowUpdateRPCTimeoutOrCancelledError,
    )
    from temporalio.common import (
        WorkflowIDConflictPolicy as WorkflowIDConflictPolicy,
    )
    from temporalio.envconfig import (
        ClientConfigProfile as ClientConfigProfile,
    )
    from temporalio.exceptions import (
        ApplicationError as ApplicationError,
        CancelledError as CancelledError,
        FailureError as FailureError,
        TerminatedError as TerminatedError,
        TimeoutError as TimeoutError,  # noqa: A004 - the SDK's
    )
    from temporalio.service import (
        RPCError as RPCError,
        RPCStatusCode as RPCStatusCode,
    )
else:  # a name that is not there is a fault to whoever checks types
    _NAMES = {
        "temporalio.api.enums.v1": (
            "PendingActivityState",
            "TaskQueueType",
        ),
        "temporalio.api.taskqueue.v1": ("TaskQueue",),
        "temporalio.api.workflowservice.v1": (
            "DescribeNamespaceRequest",
            "DescribeTaskQueueRequest",
            "UpdateScheduleRequest",
        ),
        "temporalio.client": (
            "Schedule",
            "ScheduleActionExecutionStartWorkflow",
            "ScheduleActionStartWorkflow",
            "ScheduleAlreadyRunningError",
            "ScheduleBackfill",
            "ScheduleCalendarSpec",
            "ScheduleIntervalSpec",
            "ScheduleOverlapPolicy",
            "SchedulePolicy",
            "ScheduleRange",
            "ScheduleSpec",
            "WorkflowExecutionStatus",
            "WorkflowFailureError",
            "WorkflowQueryFailedError",
            "WorkflowQueryRejectedError",
            "WorkflowUpdateFailedError",
            "WorkflowUpdateRPCTimeoutOrCancelledError",
        ),
        "temporalio.common": ("WorkflowIDConflictPolicy",),
        "temporalio.envconfig": ("ClientConfigProfile",),
        "temporalio.exceptions": (
            "ApplicationError",
            "CancelledError",
            "FailureError",
            "TerminatedError",
            "TimeoutError",
        ),
        "temporalio.service": (
            "RPCError",
            "RPCStatusCode",
        ),
    }

    def __getattr__(name: str) -> object:
        for module, names in _NAMES.items():
            if name in names:
                globals()[name] = found = getattr(import_module(module), name)
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
