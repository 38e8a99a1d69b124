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
    )
    from temporalio.api.enums.v1 import (
        TaskQueueType as TaskQueueType,
    )
    from temporalio.api.taskqueue.v1 import (
        TaskQueue as TaskQueue,
    )
    from temporalio.api.workflowservice.v1 import (
        DescribeNamespaceRequest as DescribeNamespaceRequest,
    )
    from temporalio.api.workflowservice.v1 import (
        DescribeTaskQueueRequest as DescribeTaskQueueRequest,
    )
    from temporalio.api.workflowservice.v1 import (
        UpdateScheduleRequest as UpdateScheduleRequest,
    )
    from temporalio.client import (
        Schedule as Schedule,
    )
    from temporalio.client import (
        ScheduleActionExecutionStartWorkflow as ScheduleActionExecutionStartWorkflow,
    )
    from temporalio.client import (
        ScheduleActionStartWorkflow as ScheduleActionStartWorkflow,
    )
    from temporalio.client import (
        ScheduleAlreadyRunningError as ScheduleAlreadyRunningError,
    )
    from temporalio.client import (
        ScheduleBackfill as ScheduleBackfill,
    )
    from temporalio.client import (
        ScheduleCalendarSpec as ScheduleCalendarSpec,
    )
    from temporalio.client import (
        ScheduleOverlapPolicy as ScheduleOverlapPolicy,
    )
    from temporalio.client import (
        SchedulePolicy as SchedulePolicy,
    )
    from temporalio.client import (
        ScheduleRange as ScheduleRange,
    )
    from temporalio.client import (
        ScheduleSpec as ScheduleSpec,
    )
    from temporalio.client import (
        ScheduleUpdate as ScheduleUpdate,
    )
    from temporalio.client import (
        WorkflowExecutionStatus as WorkflowExecutionStatus,
    )
    from temporalio.client import (
        WorkflowFailureError as WorkflowFailureError,
    )
    from temporalio.client import (
        WorkflowQueryFailedError as WorkflowQueryFailedError,
    )
    from temporalio.client import (
        WorkflowQueryRejectedError as WorkflowQueryRejectedError,
    )
    from temporalio.client import (
        WorkflowUpdateFailedError as WorkflowUpdateFailedError,
    )
    from temporalio.client import (
        WorkflowUpdateRPCTimeoutOrCancelledError as WorkflowUpdateRPCTimeoutOrCancelledError,
    )
    from temporalio.envconfig import (
        ClientConfigProfile as ClientConfigProfile,
    )
    from temporalio.exceptions import (
        ApplicationError as ApplicationError,
    )
    from temporalio.exceptions import (
        CancelledError as CancelledError,
    )
    from temporalio.exceptions import (
        FailureError as FailureError,
    )
    from temporalio.exceptions import (
        TerminatedError as TerminatedError,
    )
    from temporalio.exceptions import (
        TimeoutError as TimeoutError,  # noqa: A004 - the SDK's
    )
    from temporalio.service import (
        RPCError as RPCError,
    )
    from temporalio.service import (
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
            "ScheduleOverlapPolicy",
            "SchedulePolicy",
            "ScheduleRange",
            "ScheduleSpec",
            "ScheduleUpdate",
            "WorkflowExecutionStatus",
            "WorkflowFailureError",
            "WorkflowQueryFailedError",
            "WorkflowQueryRejectedError",
            "WorkflowUpdateFailedError",
            "WorkflowUpdateRPCTimeoutOrCancelledError",
        ),
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
