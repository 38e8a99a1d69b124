"""Retry policies and failures for workflows; no I/O."""

from datetime import datetime

from temporalio.api.failure.v1 import Failure
from temporalio.common import RetryPolicy
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError, FailureError

from temporaletl.control_messages import ControlUpdate
from temporaletl.errors import ConflictError
from temporaletl.messages import (
    RunPolicy,
)
from temporaletl.secrets import redacted

#: Type of the failure with which a workflow refuses an update that comes too late.
LATE = "LateUpdateError"


class RedactedFailures(DefaultFailureConverter):
    """Takes secrets out of every failure, and its causes, on the way into history."""

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        """Convert as Temporal does, without the secrets that this process knows."""
        super().to_failure(exception, payload_converter, failure)
        while True:
            failure.message = redacted(failure.message)
            failure.stack_trace = redacted(failure.stack_trace)
            if not failure.HasField("cause"):
                return
            failure = failure.cause


def retry_policy(policy: RunPolicy) -> RetryPolicy:
    """Temporal's retry policy for the activities of a batch.

    Without a limit of its own: which attempts count is decided in the activities, by
    `temporaletl.attempts`. An outage of the warehouse is waited out.
    """
    return RetryPolicy(
        initial_interval=policy.initial_interval,
        backoff_coefficient=policy.backoff_coefficient,
        maximum_interval=policy.maximum_interval,
    )


def refusal(message: str) -> ApplicationError:
    """The failure with which a workflow refuses what its state does not allow."""
    return ApplicationError(message, type=ConflictError.__name__, non_retryable=True)


def refuse_late(update: ControlUpdate, now: datetime) -> None:
    """Refuse an update that nobody waits for any more."""
    if update.heed_until is not None and now > update.heed_until:
        raise ApplicationError(
            f"it was to be heeded until {update.heed_until.isoformat(timespec='seconds')}",
            type=LATE,
            non_retryable=True,
        )


def first_cause(error: BaseException) -> BaseException:
    """The root cause of a failure; the failures around it only repeat where."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    return error


def first_message(error: BaseException) -> str:
    """Message of the root cause, or its class where it has none."""
    cause = first_cause(error)
    return getattr(cause, "message", None) or str(cause) or type(cause).__name__
