"""Translation of the platform's errors to Temporal's, in one interceptor."""

import asyncio
from datetime import timedelta
from time import monotonic
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from temporaletl.connections.file import connections_file
from temporaletl.connections.providers import UnknownConnectionError
from temporaletl.errors import SettingsError, WarehouseClosedError, WarehouseUnavailableError
from temporaletl.messages import RunPolicy
from temporaletl.telemetry.logs import bound, get_logger, unexpected
from temporaletl.telemetry.metrics import note_attempt_failure
from temporaletl.telemetry.run_log import run_of
from temporaletl.temporal.attempts import (
    UNANSWERED,
    Attempts,
    limit_of,
    message_of,
    recovery_of,
    unless_replaced,
)

log = get_logger("temporaletl.activity")

#: Whoever started the run may have all of it set where that was.
_WHOSE_ENVIRONMENT = (
    " (in the environment of the services, `etl up` or queuer and worker: set it there, and start "
    "them anew)"
)


class RecoveryInterceptor(Interceptor):
    """Interceptor that classifies activity errors by recovery, and adds the run's ids to logs."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Recovery(next)


class _Counting(ActivityOutboundInterceptor):
    """Adds the counts of attempts to every heartbeat."""

    def __init__(self, next: ActivityOutboundInterceptor) -> None:  # noqa: A002
        super().__init__(next)
        self.attempts: Attempts | None = None
        self._last: tuple[Any, ...] = ()

    def heartbeat(self, *details: Any) -> None:
        self._last = details
        if self.attempts:
            self.attempts.note_heartbeat(details)
        carried = (self.attempts.details,) if self.attempts else ()
        super().heartbeat(*details, *carried)

    def beat_again(self) -> None:
        self.heartbeat(*self._last)


class _Recovery(ActivityInboundInterceptor):
    _outbound: _Counting | None = None

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self._outbound = _Counting(outbound)
        super().init(self._outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        info = activity.info()
        run = run_of(next(iter(input.args), None))
        with bound(
            workflow_id=info.workflow_id,
            run_id=info.workflow_run_id,
            activity=info.activity_type,
            attempt=info.attempt,
            **run,
        ):
            attempts = Attempts(
                info.attempt, info.heartbeat_details, limit_of(next(iter(input.args), None))
            )
            if self._outbound is not None:
                self._outbound.attempts = attempts
            if attempts.unanswered >= attempts.most_unanswered:
                raise _unanswered(attempts)
            began = monotonic()
            try:
                return await super().execute_activity(input)
            except (ApplicationError, CancelledError):
                raise
            except asyncio.CancelledError:
                if activity.is_worker_shutdown():
                    attempts.excuse()
                    self._tell_next()
                raise
            except Exception as error:  # noqa: BLE001 - judged by its class
                if isinstance(error, WarehouseClosedError):
                    # Only a service that stops closes its warehouse; another one goes on.
                    error = WarehouseUnavailableError(str(error))
                error = unless_replaced(error, began)
                delay = attempts.note_failure(error)
                self._tell_next()
                failure = as_application_error(
                    error, attempt=attempts.failures, limit=attempts.limit, delay=delay
                )
                note_attempt_failure(info.activity_type, run, error)
                log.warning(
                    "activity_failed",
                    error=str(error),
                    error_type=type(error).__name__,
                    retryable=not failure.non_retryable,
                    exception=unexpected(error),
                )
                # The cause's text is not ours and could hold anything: it stays in the log.
                raise failure from None

    def _tell_next(self) -> None:
        if self._outbound is not None and not activity.info().is_local:
            self._outbound.beat_again()


def _unanswered(attempts: Attempts) -> ApplicationError:
    return ApplicationError(
        f"{attempts.unanswered} attempts in a row gave no answer: the workers that had them died, "
        "hung, or were cut off; see their logs",
        type=UNANSWERED,
        non_retryable=True,
    )


def as_application_error(
    error: Exception,
    *,
    attempt: int,
    limit: int = RunPolicy().max_attempts,
    delay: timedelta | None = None,
) -> ApplicationError:
    """Translate an error of an activity's `attempt` (from 1) for Temporal.

    Only attempts that count are numbered; after `limit` of them the activity has failed. `delay`
    is when to try again where the error does not say.
    """
    recovery = recovery_of(error, attempt=attempt, limit=limit)
    unset = isinstance(error, SettingsError) or (
        isinstance(error, UnknownConnectionError) and connections_file() is None
    )
    return ApplicationError(
        message_of(error) + (_WHOSE_ENVIRONMENT if unset else ""),
        type=type(error).__name__,
        next_retry_delay=recovery.delay or delay,
        non_retryable=recovery.final,
    )
