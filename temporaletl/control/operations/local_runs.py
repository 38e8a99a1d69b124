"""Runs of the local engine, followed in the ledger; and a command's own engine for one."""

import asyncio
import time
from datetime import timedelta
from typing import Self

from temporaletl.control.operations.following import (
    SILENCE,
    Ended,
    LostSightError,
    Run,
    is_misconfiguration,
)
from temporaletl.control.operations.platform import Platform
from temporaletl.engine.process import end_engine, start_engine
from temporaletl.errors import ETLError, RetryableError, WarehouseUnavailableError
from temporaletl.messages import BatchStatus, OpenState, QueuerInput
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import BatchReport, find_batch, summary_of
from temporaletl.warehouse.runs import find_run

_LOOK_EVERY = timedelta(milliseconds=300)
#: A run that was just requested is taken up within so long, where anybody does that.
_TAKEN_UP_WITHIN = timedelta(seconds=5)


class LocalRun(Run):
    """A followed run of the local engine; its ledger says how it stands."""

    engine = "local"

    def __init__(
        self,
        warehouse: Warehouse,
        request: QueuerInput,
        workflow_id: str,
        run_id: str,
        *,
        silence: timedelta = SILENCE,
    ) -> None:
        super().__init__()
        self.request = request
        self._warehouse = warehouse
        self._workflow_id = workflow_id
        self._run_id = run_id
        self._silence = silence
        self.began = time.monotonic()
        self.ending: asyncio.Task[Ended] = asyncio.create_task(self._end())

    @property
    def workflow_id(self) -> str:
        return self._workflow_id

    @property
    def run_id(self) -> str:
        return self._run_id

    async def refresh(self) -> None:
        """Read the status in the ledger; where that fails it stays as it was."""
        try:
            self.status = await asyncio.to_thread(self._read_status) or self.status
            self.silent = None
        except ETLError as error:
            self.silent = str(error)

    def _read_status(self) -> BatchStatus | None:
        batch = find_batch(self._warehouse, self._workflow_id)
        if batch is None or batch.ended_at is not None:
            return None
        return BatchStatus(
            state=open_state(batch),
            batch_id=batch.batch_id,
            jobs=batch.jobs.planned if batch.planned else None,
        )

    async def is_attended(self) -> bool:
        """Whether a process of the local engine drives the run, or may just be about to."""
        if time.monotonic() - self.began < _TAKEN_UP_WITHIN.total_seconds():
            return True
        try:
            found = await asyncio.to_thread(find_run, self._warehouse, self._workflow_id)
        except ETLError:
            return True
        return found is None or found.owned or found.ended_at is not None

    async def _end(self) -> Ended:
        since: float | None = None
        while True:
            try:
                ended = await asyncio.to_thread(self._read_end)
            except WarehouseUnavailableError as error:
                since = time.monotonic() if since is None else since
                self.silent = str(error)
                if time.monotonic() - since >= self._silence.total_seconds():
                    raise LostSightError(
                        f"the warehouse no longer answers about {self._workflow_id} ({error}); "
                        f"`etl status {self._workflow_id}` once it does"
                    ) from None
            else:
                since = None
                if ended is not None:
                    return ended
            await asyncio.sleep(_LOOK_EVERY.total_seconds())

    def _read_end(self) -> Ended | None:
        run = find_run(self._warehouse, self._workflow_id)
        if run is None or run.ended_at is None:
            return None
        summary = summary_of(self._warehouse, run.workflow_id, run.run_id)
        return Ended(
            summary or run.summary,
            misconfigured=is_misconfiguration(run.error_type or ""),
        )


def open_state(batch: BatchReport) -> OpenState:
    """The state of an open batch of the local engine, which is planned before it runs."""
    match batch.state:
        case "pausing" | "paused" | "cancelling":
            return batch.state
        case _:
            return "running" if batch.planned else "planning"


class EngineDiedError(RetryableError):
    """The process of a local engine ended before the run that it was started for."""


class AttachedEngine:
    """A local engine for one run, in a child process of this one. Use as a context.

    It leaves the run at its next page when the context ends before the run has.
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await start_engine("--only", self._workflow_id, "--quiet")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await end_engine(self._process)

    def check(self) -> None:
        """Check that the engine has not failed.

        Raises:
            EngineDiedError: its process ended before the run.
        """
        status = None if self._process is None else self._process.returncode
        if status:
            raise EngineDiedError(
                f"the process of the local engine ended with status {status}, before "
                f"{self._workflow_id} had: the same command again, or `etl serve`, takes the run "
                "up where it was"
            )


async def drive_to_end(platform: Platform, workflow_id: str) -> None:
    """Drive a run that nobody drives, from this machine, until it has ended.

    Raises:
        EngineDiedError: the engine failed.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    async with AttachedEngine(workflow_id) as engine:
        while True:
            engine.check()
            found = await asyncio.to_thread(find_run, warehouse, workflow_id)
            if found is None or found.ended_at is not None:
                return
            await asyncio.sleep(_LOOK_EVERY.total_seconds())
