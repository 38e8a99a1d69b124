"""The one place where the platform's errors become Temporal's."""

from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from temporaletl.errors import ExcessiveWaitError, PermanentError, RecordError, RetryableError
from temporaletl.secrets import redacted

log = structlog.get_logger("temporaletl.activity")

#: A fault of our own rarely heals; it gets this many attempts in case it was a passing one.
UNEXPECTED_ATTEMPTS = 3
#: Characters of an error that enter workflow history; the log has all of them.
_LONGEST_MESSAGE = 2_000


class RecoveryInterceptor(Interceptor):
    """Classes activity errors by what recovers them, and gives logs the ids of their workflow."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Recovery(next)


class _Recovery(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        info = activity.info()
        with structlog.contextvars.bound_contextvars(
            workflow_id=info.workflow_id,
            run_id=info.workflow_run_id,
            activity=info.activity_type,
            attempt=info.attempt,
        ):
            try:
                return await super().execute_activity(input)
            except (ApplicationError, CancelledError):
                raise
            except Exception as error:
                failure = as_application_error(error, attempt=info.attempt)
                log.warning(
                    "activity_failed",
                    error=str(error),
                    error_type=type(error).__name__,
                    retryable=not failure.non_retryable,
                    exc_info=not isinstance(error, PermanentError | RetryableError),
                )
                # The cause's text is not ours and could hold anything: it stays in the log.
                raise failure from None


def as_application_error(error: Exception, *, attempt: int) -> ApplicationError:
    """Translate an error of an activity's `attempt` (from 1) for Temporal."""
    message = (redacted(str(error)) or type(error).__name__)[:_LONGEST_MESSAGE]
    if isinstance(error, RetryableError):
        # Once it was waited for as long as we do, and nothing came of it.
        given_up = isinstance(error, ExcessiveWaitError) and attempt > 1
        return ApplicationError(
            message,
            type=type(error).__name__,
            next_retry_delay=error.delay,
            non_retryable=given_up,
        )
    if isinstance(error, PermanentError | RecordError):
        return ApplicationError(message, type=type(error).__name__, non_retryable=True)
    # Not our own words: behind the first line, drivers and validators like to quote the data.
    message = message.partition("\n")[0]
    return ApplicationError(
        f"{type(error).__name__}: {message}",
        type=type(error).__name__,
        non_retryable=attempt >= UNEXPECTED_ATTEMPTS,
    )
