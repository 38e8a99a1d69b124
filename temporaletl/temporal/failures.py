"""Retry policies and failures for workflows; no I/O."""

from datetime import datetime

from temporalio.api.failure.v1 import Failure
from temporalio.common import RetryPolicy
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError, FailureError

from temporaletl.control_messages import ControlUpdate
from temporaletl.errors import ConflictError, PermanentError
from temporaletl.messages import (
    RunPolicy,
)
from temporaletl.secrets import redacted

#: Type of the failure with which a workflow refuses an update that comes too late.
LATE = "LateUpdateError"


#: What stands in the place of an encrypted message.
ENCODED = "Encoded failure"


class RedactedFailures(DefaultFailureConverter):
    """Takes secrets out of every failure, and its causes, on the way into history."""

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        """Convert as Temporal does, without the secrets that this process knows.

        The SDK says of arguments that cannot be decoded only that, and has it tried for ever.
        """
        super().to_failure(exception, payload_converter, failure)
        if isinstance(exception.__cause__, PermanentError):
            failure.message = f"{failure.message}: {exception.__cause__}"
            if failure.HasField("application_failure_info"):
                failure.application_failure_info.non_retryable = True
        self._clean(failure, payload_converter)
        while failure.HasField("cause"):
            failure = failure.cause
            self._clean(failure, payload_converter)

    def _clean(self, failure: Failure, payload_converter: PayloadConverter) -> None:  # noqa: ARG002
        failure.message = redacted(failure.message)
        failure.stack_trace = redacted(failure.stack_trace)


class EncodedFailures(RedactedFailures):
    """Moves messages and stack traces, those of causes too, to where the codec encrypts them.

    The SDK's own way leaves those of causes that came from elsewhere in clear.
    """

    def _clean(self, failure: Failure, payload_converter: PayloadConverter) -> None:
        if failure.message == ENCODED and failure.HasField("encoded_attributes"):
            return
        super()._clean(failure, payload_converter)
        told = {"message": failure.message, "stack_trace": failure.stack_trace}
        failure.encoded_attributes.CopyFrom(payload_converter.to_payloads([told])[0])
        failure.message, failure.stack_trace = ENCODED, ""


def retry_policy(policy: RunPolicy) -> RetryPolicy:
    """Temporal's retry policy for the activities of a batch.

    Without a limit of its own: which attempts count is decided in the activities, by
    `temporaletl.temporal.attempts`. An outage of the warehouse is waited out.
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
