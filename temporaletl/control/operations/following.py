"""Runs followed from outside: until they are planned, or have ended."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from temporaletl import names
from temporaletl.control.operations.platform import is_polled
from temporaletl.errors import ConfigurationError, CredentialsError, ETLError, RetryableError
from temporaletl.messages import BatchStatus, BatchSummary, QueuerInput
from temporaletl.queuer.reconciliation import is_unknown_workflow
from temporaletl.settings.platform import TemporalSettings
from temporaletl.temporal import sdk
from temporaletl.warehouse.runs import Engine

if TYPE_CHECKING:
    from temporalio.api.failure.v1 import Failure
    from temporalio.api.workflow.v1 import PendingActivityInfo
    from temporalio.client import Client, WorkflowHandle
    from temporalio.service import RPCError

#: Less than a page waits for: what the ledger knows is then said.
_QUERY_PATIENCE = timedelta(seconds=1.5)
#: How long a server may say nothing to somebody who waits: longer than it takes to be restarted.
SILENCE = timedelta(minutes=5)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(milliseconds=100), timedelta(seconds=5)
#: What is refused now is refused in a minute, too.
_FINAL = (
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "UNIMPLEMENTED",
)

type Handle = WorkflowHandle[object, BatchSummary]


class LostSightError(RetryableError):
    """Temporal no longer answers about a run, which goes on all the same."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Result of a run. A run that failed as a whole has a summary of what is known."""

    summary: BatchSummary
    misconfigured: bool = False  # a person must correct a setting, an argument or credentials


@dataclass(frozen=True, slots=True)
class PendingFailure:
    """An activity that failed and will be tried again, or whose requests are."""

    activity: str
    attempt: int  # the next one, from 2, or the one whose requests fail
    error: str
    next_attempt: datetime | None

    def __str__(self) -> str:
        return f"{self.error} ({self.activity}, attempt {self.attempt})"


class Run(ABC):
    """A followed run. `ending` is done when it has ended; `status` is what was last known.

    `silent` says what does not answer about it, while that does not.
    """

    engine: ClassVar[Engine]
    request: QueuerInput
    ending: asyncio.Task[Ended]
    began: float  # by the monotonic clock

    def __init__(self) -> None:
        self.status: BatchStatus | None = None
        self.silent: str | None = None

    @property
    @abstractmethod
    def workflow_id(self) -> str: ...

    @property
    @abstractmethod
    def run_id(self) -> str: ...

    @property
    def planned(self) -> bool:
        return self.status is not None and self.status.jobs is not None

    @abstractmethod
    async def refresh(self) -> None:
        """Read the status; where that fails it stays as it was."""

    @abstractmethod
    async def is_attended(self) -> bool:
        """Whether somebody executes the run, or will."""

    async def until_planned(self, within: timedelta, unattended: Callable[[], None]) -> None:
        """Follow until the jobs are planned, the run has ended, or the time is over.

        `unattended` is called, once, when nobody executes it; the time is then halved.
        """
        reported = False
        deadline = self.began + within.total_seconds()
        while not self.ending.done() and time.monotonic() < deadline:
            refreshing = asyncio.create_task(self.refresh())
            await asyncio.wait({self.ending, refreshing}, return_when=asyncio.FIRST_COMPLETED)
            if not refreshing.done():
                refreshing.cancel()
                await asyncio.gather(refreshing, return_exceptions=True)
            if self.planned:
                return
            if self.status is None and not reported and not await self.is_attended():
                reported = True
                deadline -= within.total_seconds() / 2
                unattended()
            await asyncio.wait({self.ending}, timeout=0.2)


class TemporalRun(Run):
    """A followed QueuerFlow.

    While Temporal does not answer, `books` say how the run ended. Once nobody has said anything for
    `silence`, `ending` raises LostSightError.
    """

    engine = "temporal"

    def __init__(
        self,
        client: Client,
        handle: Handle,
        request: QueuerInput,
        settings: TemporalSettings,
        *,
        books: Callable[[TemporalRun], Awaitable[BatchSummary | None]] | None = None,
        silence: timedelta = SILENCE,
    ) -> None:
        super().__init__()
        self.client = client
        self.handle = handle
        self.request = request
        self.queue = settings.queuer_queue
        self.worker_queue = settings.worker_queue
        self._books = books
        self._silence = silence
        self.began = time.monotonic()
        self.ending: asyncio.Task[Ended] = asyncio.create_task(self._end())

    @property
    def workflow_id(self) -> str:
        return self.handle.id

    @property
    def run_id(self) -> str:
        return self.handle.first_execution_run_id or self.handle.result_run_id or ""

    async def refresh(self) -> None:
        """Query the status; without an answer it stays as it was."""
        # Only a queuer answers, and the server would wait for one.
        if self.status is not None or await self.is_attended():
            answer = await query_status(self.handle, BatchStatus)
            self.status = answer or self.status
            if answer or await self._answers():
                self.silent = None
            else:
                self.silent = self.silent or "Temporal does not answer"

    async def _answers(self) -> bool:
        """Whether Temporal itself answers, whoever else does not."""
        try:
            async with asyncio.timeout(_QUERY_PATIENCE.total_seconds()):
                return await self.client.service_client.check_health(timeout=_QUERY_PATIENCE)
        except (TimeoutError, sdk.RPCError):
            return False

    async def is_attended(self) -> bool:
        """Whether a queuer takes this run's tasks."""
        return await is_polled(self.client, self.queue)

    async def _end(self) -> Ended:
        try:
            return Ended(await self._result())
        except sdk.RPCError as lost:
            if is_unknown_workflow(lost):
                # We started it: the server was restarted without what it knew.
                return Ended(await self._lost())
            raise LostSightError(
                f"Temporal no longer answers about {self.workflow_id} ({_message_of(lost)}); "
                f"that does not end the run: `etl status {self.workflow_id}` once Temporal answers"
            ) from None
        except sdk.WorkflowFailureError as failure:
            error = failure.cause
        if self.status is None or self.status.batch_id is None:
            await self.refresh()
        message, kind = explain(error)
        cancelled = isinstance(error, sdk.CancelledError)
        summary = BatchSummary(
            batch_id=(self.status and self.status.batch_id) or "",
            workflow_id=self.workflow_id,
            source=self.request.source,
            connection=self.request.connection,
            mode=self.request.mode,
            state="cancelled" if cancelled else "failed",
            seconds=round(time.monotonic() - self.began, 3),
            error=message,
        )
        return Ended(summary, misconfigured=is_misconfiguration(kind))

    async def _result(self) -> BatchSummary:
        """The workflow's result, over any outage of Temporal that is no longer than `silence`.

        A Temporal that was restarted elsewhere never answers here: what the run enters in the
        books at its end, and never changes again, answers as well.
        """
        pause, since = _FIRST_PAUSE, None
        while True:
            requested_at = time.monotonic()
            try:
                return await self._result_or_books()
            except sdk.RPCError as error:
                if error.status.name in _FINAL:
                    raise
                now = time.monotonic()
                # The SDK bears an outage for seconds only: a call this long was answered.
                if since is None or now - requested_at > self._silence.total_seconds():
                    pause, since = _FIRST_PAUSE, now
                if now - since >= self._silence.total_seconds():
                    raise
                self.silent = f"Temporal does not answer ({_message_of(error)})"
            if self._books is not None and (summary := await self._books(self)) is not None:
                return summary
            await asyncio.sleep(pause.total_seconds())
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _result_or_books(self) -> BatchSummary:
        """The workflow's result, or the books' while somebody sees that Temporal is silent.

        A call to a server that is frozen fails only after a minute.
        """
        result = asyncio.create_task(self.handle.result())
        try:
            while not result.done():
                await asyncio.wait({result}, timeout=_LONGEST_PAUSE.total_seconds())
                if not result.done() and self.silent is not None and self._books is not None:
                    summary = await self._books(self)
                    if summary is not None:
                        return summary
            return await result
        finally:
            result.cancel()

    async def _lost(self) -> BatchSummary:
        return BatchSummary(
            batch_id=(self.status and self.status.batch_id) or "",
            workflow_id=self.workflow_id,
            source=self.request.source,
            connection=self.request.connection,
            mode=self.request.mode,
            state="failed",
            seconds=round(time.monotonic() - self.began, 3),
            error=f"lost: Temporal no longer knows the workflow {self.workflow_id}; "
            "what is loaded stays, and the next run covers its window",
        )


def _message_of(error: RPCError) -> str:
    return f"{error.status.name.replace('_', ' ').lower()}: {error.message}"


async def query_status[T](handle: WorkflowHandle[Any, Any], answer: type[T]) -> T | None:
    """Query a workflow's status; None where it does not answer soon."""
    try:
        # The SDK tries again within its own patience, not within ours.
        async with asyncio.timeout(_QUERY_PATIENCE.total_seconds()):
            status: T = await handle.query(
                names.STATUS, result_type=answer, rpc_timeout=_QUERY_PATIENCE
            )
    except (
        TimeoutError,
        sdk.RPCError,
        sdk.WorkflowQueryFailedError,
        sdk.WorkflowQueryRejectedError,
    ):
        return None
    return status


def explain(error: BaseException) -> tuple[str, str]:
    """Message and type of the root cause that ended a workflow."""
    while isinstance(error, sdk.FailureError) and error.cause is not None:
        error = error.cause
    match error:
        case sdk.ApplicationError():
            return error.message, error.type or ""
        case sdk.CancelledError():
            return "cancelled from outside", ""
        case sdk.TerminatedError():
            return f"terminated from outside: {error.message}", ""
        case sdk.TimeoutError():
            return f"timed out: {error.message}", ""
        case _:
            return str(error), type(error).__name__


def is_misconfiguration(kind: str) -> bool:
    """Whether an error, by its type's name, is one of settings or credentials."""
    known: list[type[Exception]] = [ConfigurationError, CredentialsError]
    for error_class in known:
        known.extend(error_class.__subclasses__())
    return kind in {error_class.__name__ for error_class in known}


async def pending_failures(client: Client, workflow_id: str) -> list[PendingFailure]:
    """Activities of a running workflow that have failed, or whose requests fail, and go on.

    What is tried again within an attempt is in its heartbeats: see `temporaletl.troubles`.
    """
    try:
        described = await client.get_workflow_handle(workflow_id).describe(
            rpc_timeout=_QUERY_PATIENCE
        )
    except sdk.RPCError:
        return []
    failures = []
    for pending in described.raw_description.pending_activities:
        under_way = pending.state == sdk.PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
        trouble = await trouble_in(client, pending) if under_way else None
        if trouble is None and not pending.HasField("last_failure"):
            continue
        scheduled = (
            pending.scheduled_time.ToDatetime(tzinfo=UTC)
            if pending.HasField("scheduled_time") and trouble is None
            else None
        )
        failures.append(
            PendingFailure(
                activity=pending.activity_type.name,
                attempt=pending.attempt,
                error=trouble or await failure_message(client, pending.last_failure),
                next_attempt=scheduled,
            )
        )
    return failures


async def failure_message(client: Client, failure: Failure) -> str:
    """The message of a failure as the server has it; as it stands where it cannot be decrypted."""
    copy = type(failure)()
    copy.CopyFrom(failure)
    try:
        await client.data_converter.decode_failure(copy)
    except ETLError:
        return failure.message
    return copy.message


async def trouble_in(client: Client, pending: PendingActivityInfo) -> str | None:
    """What the last heartbeat says of requests that fail; None where none do."""
    try:
        details = await client.data_converter.decode(pending.heartbeat_details.payloads)
    except Exception:  # noqa: BLE001 - those of another version may be anything
        return None
    return next((detail for detail in details if isinstance(detail, str)), None)
