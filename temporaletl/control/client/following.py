"""A run that is followed over the API."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Self, get_args

from pydantic import BaseModel, Field, TypeAdapter

from temporaletl.control.client.api import Api
from temporaletl.control.client.problems import ApiProtocolError
from temporaletl.control.operations.details import Details, Trouble
from temporaletl.control.operations.following import SILENCE, Ended, LostSightError
from temporaletl.control.operations.progress import Snapshot, done_of
from temporaletl.control.operations.reports import RunReport
from temporaletl.errors import RetryableError
from temporaletl.messages import BatchStatus, BatchSummary, Mode, OpenState, QueuerInput
from temporaletl.warehouse.runs import Engine

_LOOK_EVERY = timedelta(seconds=1)
_PLANNING_LOOK_EVERY = timedelta(milliseconds=500)
_LONGEST_PAUSE = timedelta(seconds=5)
_OPEN: frozenset[str] = frozenset(get_args(OpenState))
_STATE: TypeAdapter[OpenState] = TypeAdapter(OpenState)


class StartedRun(BaseModel):
    """The API's answer to a start."""

    workflow_id: str = Field(validation_alias="workflowId")
    run_id: str = Field(validation_alias="runId")
    engine: Engine
    queue: str | None
    source: str
    connection: str
    mode: Mode
    retries: str | None

    @classmethod
    def of(cls, run: RunReport) -> Self:
        """One that was started before, by whomever."""
        return cls.model_validate(
            {**run.model_dump(), "workflowId": run.workflow_id, "runId": run.run_id, "queue": None}
        )


class _Result(BaseModel):
    summary: BatchSummary
    misconfigured: bool


class RemoteRun:
    """A run that the API started; see `FollowedRun`.

    An API that is away is sat out for `silence`: the run does not need it.
    """

    def __init__(
        self,
        api: Api,
        started: StartedRun,
        request: QueuerInput | None = None,
        *,
        silence: timedelta = SILENCE,
    ) -> None:
        """`request` is what was sent to be started, where the client has described it itself."""
        self.request = request or QueuerInput(
            source=started.source,
            connection=started.connection,
            mode=started.mode,
            retries=started.retries,
        )
        self.workflow_id = started.workflow_id
        self.run_id = started.run_id
        self.engine = started.engine
        self.queue = started.queue
        self.attached = False
        self.status: BatchStatus | None = None
        self._api = api
        self._silence = silence
        self._troubles: tuple[Trouble, ...] = ()
        self._ended: Ended | None = None

    async def until_planned(self, within: timedelta, unattended: Callable[[], None]) -> None:
        reported = False
        deadline = time.monotonic() + within.total_seconds()
        while (left := deadline - time.monotonic()) > 0:
            try:
                await self._refresh()
            except RetryableError:
                self.status = None  # the run is started: what becomes of it, `etl status` says
            if self._ended is not None or (self.status and self.status.jobs is not None):
                return
            if not reported and self._is_unattended():
                reported = True
                deadline -= within.total_seconds() / 2
                unattended()
            await asyncio.sleep(min(_PLANNING_LOOK_EVERY.total_seconds(), max(left, 0)))

    def _is_unattended(self) -> bool:
        """Whether nobody takes it up: of a run itself, nothing else is no activity's failure."""
        own = [one for one in self._troubles if one.workflow_id == self.workflow_id]
        return any(one.activity is None for one in own)

    async def snapshots(self) -> AsyncGenerator[Snapshot]:
        snapshot = Snapshot("planning")
        pause, silent_since = _LOOK_EVERY, None
        while True:
            try:
                snapshot = _snapshot_of(await self._refresh(), self._troubles)
                pause, silent_since = _LOOK_EVERY, None
            except RetryableError as error:
                now = time.monotonic()
                silent_since = now if silent_since is None else silent_since
                if now - silent_since >= self._silence.total_seconds():
                    raise LostSightError(
                        f"{error}; that does not end the run: `etl status {self.workflow_id}` "
                        "once the API answers"
                    ) from None
                snapshot = replace(snapshot, trouble=str(error))
                pause = min(max(2 * pause, error.delay or pause), _LONGEST_PAUSE)
            if self._ended is not None:
                return
            yield snapshot
            await asyncio.sleep(pause.total_seconds())

    async def result(self) -> Ended | None:
        return self._ended

    async def failures(self) -> list[str]:
        own = [
            one for one in self._troubles if one.activity and one.workflow_id == self.workflow_id
        ]
        return [_shown(trouble, self.workflow_id) for trouble in own]

    async def close(self) -> None:
        """Nothing is open."""

    async def _refresh(self) -> RunReport:
        details = await self._api.get(Details, "runs", self.workflow_id)
        report = details.run
        if report is None:
            raise ApiProtocolError(f"the API at {self._api.address} takes a run for a job")
        self._troubles = details.troubles
        jobs = None if report.jobs is None else report.jobs.planned
        if report.ended_at is not None or report.state == "lost":
            found = await self._api.get(_Result, "runs", self.workflow_id, "result")
            self._ended = Ended(found.summary, misconfigured=found.misconfigured)
        elif report.state in _OPEN:
            state = _STATE.validate_python(report.state)
            self.status = BatchStatus(batch_id=report.batch_id, state=state, jobs=jobs)
        return report


def _snapshot_of(report: RunReport, troubles: Sequence[Trouble]) -> Snapshot:
    trouble = _shown(troubles[0], report.workflow_id) if troubles else None
    state = "planning" if report.state == "waiting" else report.state
    jobs = report.jobs
    if jobs is None:
        return Snapshot(state, trouble=trouble)
    return Snapshot(state, jobs.planned, done_of(jobs), jobs.failed, report.rows, trouble)


def _shown(trouble: Trouble, workflow_id: str) -> str:
    error = trouble.error
    if trouble.activity is None:
        return error
    whose = "" if trouble.workflow_id == workflow_id else f"{trouble.workflow_id}: "
    return f"{whose}{error} ({trouble.activity}, attempt {trouble.attempt})"
