"""Retries of the engine, by the rules that Temporal follows for the services."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic
from typing import Any

from structlog.contextvars import get_contextvars

from temporaletl.errors import RetryableError
from temporaletl.messages import RunPolicy
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.telemetry.metrics import note_attempt_failure
from temporaletl.temporal.attempts import Attempts, pause_behind, recovery_of, unless_replaced

log = get_logger("temporaletl.engine")

#: Called with the error of a failed attempt and the pause that follows.
type Failed = Callable[[Exception, timedelta], None]


class StoppedError(Exception):
    """The batch is being stopped: its work is neither finished nor failed."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Retry policy of a batch: pauses between attempts, and when they end.

    `longest_wait` is the longest cool-down that is waited out, None for any.
    """

    policy: RunPolicy
    longest_wait: timedelta | None
    stopping: asyncio.Event

    def ending(self) -> "Retries":
        """Retries of the work that closes a batch, which goes on when the batch is stopped."""
        return replace(self, stopping=asyncio.Event())

    async def run[T](self, work: Callable[[], Awaitable[T]], failed: Failed) -> T:
        """Run `work`, retried until it succeeds or fails for good; raises its last error.

        Raises:
            StoppedError: the batch shall end, and it would have been tried again.
        """
        attempts = Attempts(1, (), self.policy.max_attempts)
        while True:
            began = monotonic()
            try:
                return await work()
            except (StoppedError, asyncio.CancelledError):
                raise
            except Exception as error:  # noqa: BLE001 - judged below
                cause = unless_replaced(error, began)
                pause = self._pause_behind(cause, attempts)
            if pause is None:
                raise cause
            failed(cause, pause)
            await self.pause(pause)

    def _pause_behind(self, error: Exception, attempts: Attempts) -> timedelta | None:
        """How long to wait before the next attempt; None when there is none."""
        outage = attempts.note_failure(error)
        recovery = recovery_of(error, attempt=attempts.failures, limit=attempts.limit)
        final = recovery.final or self._is_too_long(recovery.delay)
        note_attempt_failure("local engine", get_contextvars(), error)
        log.warning(
            "attempt_failed",
            error=str(error),
            error_type=type(error).__name__,
            attempt=attempts.failures,
            retryable=not final,
            exception=unexpected(error),
        )
        if final:
            return None
        return recovery.delay or outage or pause_behind(attempts.failures, self.policy)

    def _is_too_long(self, delay: timedelta | None) -> bool:
        return delay is not None and self.longest_wait is not None and delay > self.longest_wait

    async def wait_out(self, delay: timedelta, reason: str | None) -> None:
        """Wait out the cool-down of a source that interrupted a segment.

        Raises:
            StoppedError: the batch shall end.
            RetryableError: that is too long; with the reason.
        """
        if self._is_too_long(delay):
            raise RetryableError(reason or "the source is rate-limited", delay=delay)
        await self.pause(delay)

    async def pause(self, span: timedelta) -> None:
        """Wait; raises StoppedError as soon as the batch shall end."""
        if self.stopping.is_set():
            raise StoppedError
        try:
            async with asyncio.timeout(span.total_seconds()):
                await self.stopping.wait()
        except TimeoutError:
            return
        raise StoppedError

    async def until_stopped[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`, cancelled with StoppedError once the batch shall end."""
        working = asyncio.create_task(work)
        stopped = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise StoppedError
            return working.result()
        finally:
            working.cancel()
            stopped.cancel()
            await asyncio.gather(working, stopped, return_exceptions=True)
