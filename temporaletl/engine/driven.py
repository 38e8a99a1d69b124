"""A run that this process drives: begun or taken up, paused, resumed, cancelled, ended or left."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Literal

import structlog

from temporaletl.engine.job import JobRunner
from temporaletl.engine.limits import EngineLimits
from temporaletl.engine.listener import Audience, Listener
from temporaletl.engine.retries import Retries, StoppedError
from temporaletl.engine.runner import BatchRunner
from temporaletl.engine.threads import in_thread
from temporaletl.errors import ETLError, PermanentError
from temporaletl.messages import BatchMetadata, BatchSummary
from temporaletl.queuer import planning
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal.attempts import message_of
from temporaletl.warehouse import ownership, runs
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.control import record_rest
from temporaletl.warehouse.ownership import LeaseLostError, OwnedRun
from temporaletl.warehouse.runs import Wanted
from temporaletl.warehouse.stored_batches import StoredBatch

log = get_logger("temporaletl.engine")

#: So many owners in a row may die without loading a page before a run is taken for what kills them.
MOST_ADOPTIONS = 5
#: In place of a task queue; a job says so in its ledger row.
_HERE = "in process"


class DrivenRun:
    """One run while this process owns it; `run` returns once it has ended, or was left.

    `want`, `lose` and `leave` are called on the event loop. After `lose` nothing of the run is
    written any more; after `leave` it rests at its last page, and the next process takes it up.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        owned: OwnedRun,
        limits: EngineLimits,
        notify: Callable[[BatchSummary], None],
    ) -> None:
        self.ownership = owned.ownership
        self._warehouse = warehouse
        self._owned = owned
        self._limits = limits
        self._notify = notify
        self._wanted: Wanted = owned.wanted
        self._jobs: int | None = None  # until they are planned
        self._gone: Literal["lost", "left"] | None = None
        self._changed = asyncio.Event()
        #: Ends what a cancellation does not: the entering of the batch.
        self._going = asyncio.Event()
        #: Ends planning: a pause does not.
        self._halting = asyncio.Event()
        #: Ends the present segments at their next page; each phase of work has its own.
        self._stopping = asyncio.Event()
        self._runner = BatchRunner(warehouse, Audience(Listener(), self._halting), owned.ownership)

    @property
    def is_paused(self) -> bool:
        return self._wanted == "pause"

    @property
    def is_lost(self) -> bool:
        return self._gone == "lost"

    def want(self, wanted: Wanted) -> None:
        """Have the run go on, rest at its next page, or end there."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if wanted != "run":
            self._stopping.set()
        if wanted == "cancel":
            self._halting.set()
        self._changed.set()

    def lose(self) -> None:
        """Stop without a trace: the run is, or soon will be, another process's."""
        self._go("lost")

    def leave(self) -> None:
        """Stop at the next page, and give the run up."""
        self._go("left")

    def _go(self, how: Literal["lost", "left"]) -> None:
        self._gone = self._gone or how
        self._going.set()
        self._stopping.set()
        self._halting.set()
        self._changed.set()

    async def run(self) -> None:
        """Drive the run. Raises no error of the run itself: its books name it."""
        with structlog.contextvars.bound_contextvars(
            workflow_id=self.ownership.workflow_id, run_id=self._owned.run_id
        ):
            log.info("run_adopted", epoch=self.ownership.epoch)
            try:
                await self._drive()
            except LeaseLostError as error:
                log.warning("lease_lost", reason=str(error))
                return
            except Exception as error:  # noqa: BLE001 - the process has other runs
                # Its lease runs out: another attempt, here or elsewhere, takes it up.
                log.warning("run_dropped", reason=str(error), error_type=type(error).__name__)
                return
            if self._gone == "left":
                await in_thread(partial(ownership.release_run, self._warehouse, self.ownership))

    async def _drive(self) -> None:
        if self._wanted == "cancel" and self._owned.batch_id is None:
            await self._end("cancelled before it was planned", None)
            return
        try:
            (metadata, fault), self._jobs = await self._enter()
        except StoppedError:
            return
        except LeaseLostError:
            raise
        except ETLError as error:
            if self._owned.batch_id is not None:
                raise  # an open batch is not left behind: the next attempt closes it
            await self._end(message_of(error), type(error).__name__)
            return
        with structlog.contextvars.bound_contextvars(batch_id=metadata.batch_id):
            if fault is not None:
                await self._finish(metadata, fault)
            else:
                await self._pursue(metadata)

    async def _pursue(self, metadata: BatchMetadata) -> None:
        """Work, rest, or finish, as is wanted, until the run has ended or is gone."""
        while not self._is_gone():
            failure: Exception | None = None
            try:
                if self._wanted != "cancel":
                    self._check_adoptions()
                    await self._work(metadata)
            except StoppedError:
                if self._is_gone() or self._wanted != "cancel":
                    continue
            except LeaseLostError:
                raise
            except Exception as error:  # noqa: BLE001 - it could not be planned; the books say why
                failure = error
            if not self._is_gone():
                await self._finish(metadata, failure)
                return

    def _is_gone(self) -> bool:
        return self._gone is not None

    def _check_adoptions(self) -> None:
        if self._owned.adoptions > MOST_ADOPTIONS:
            raise PermanentError(
                f"given up: {MOST_ADOPTIONS} processes in a row died while they ran this batch, "
                "and none of them loaded a page; the logs of the processes (or the kernel, for "
                "memory) say why"
            )

    async def _enter(self) -> tuple[StoredBatch, int | None]:
        """The batch, resolved and entered where it was not; and its jobs, None until planned."""
        if self._owned.adoptions > MOST_ADOPTIONS and self._owned.batch_id is None:
            self._check_adoptions()
        # A cancellation waits for it: the batch may be entered, and must be closed then.
        retries = self._retries(self._going)
        policy = self._limits.policy

        def enter() -> tuple[StoredBatch, int | None]:
            batch_id = self._owned.batch_id
            if batch_id is None:
                batch_id = planning.resolve_batch(
                    self._warehouse,
                    self._owned.requested(),
                    policy=policy,
                    worker_queue=_HERE,
                    engine="local",
                ).batch_id
            # As it was resolved first: windows must not depend on who plans it.
            found = ownership.stored_metadata(self._warehouse, batch_id)
            if found is None:
                raise PermanentError(f"batch {batch_id} is no longer in the ledger")
            ownership.show_control(self._warehouse, self.ownership)
            return found

        return await retries.run(lambda: in_thread(enter), lambda _error, _pause: None)

    async def _work(self, metadata: BatchMetadata) -> None:
        """Plan and run what is left; raises StoppedError where that was stopped."""
        if self._jobs is None:
            self._jobs = await self._runner.plan(metadata, self._retries(self._halting))
        await self._rest(metadata)
        self._stopping = asyncio.Event()
        if self._gone is not None or self._wanted != "run":
            raise StoppedError
        retries = self._retries(self._stopping)
        runner = JobRunner(
            self._warehouse,
            self._limits.segment,
            retries,
            Audience(Listener(), self._stopping),
            self._owned.run_id,
            when_stopped=self._when_stopped,
            hold=self.ownership.hold,
        )
        at_once = min(metadata.max_in_flight, self._limits.jobs_at_once)
        await self._runner.run_jobs(metadata, self._jobs, runner, at_once=at_once)

    def _when_stopped(self) -> Literal["cancelled", "paused"] | None:
        if self._gone is not None:
            return None
        return "cancelled" if self._wanted == "cancel" else "paused"

    async def _rest(self, metadata: BatchMetadata) -> None:
        """Rest while paused, and have the ledger say so."""
        while self._gone is None and self._wanted == "pause":
            self._changed.clear()
            await self._retries(self._halting).run(
                lambda: in_thread(partial(self._record_rest, metadata)),
                lambda _error, _pause: None,
            )
            await self._changed.wait()

    def _record_rest(self, metadata: BatchMetadata) -> None:
        # An owner that died has left its jobs as running.
        ownership.rest_jobs(self._warehouse, self.ownership, metadata.batch_id)
        record_rest(self._warehouse, metadata.batch_id)

    def _retries(self, stopping: asyncio.Event) -> Retries:
        return Retries(self._limits.policy, self._limits.longest_wait, stopping)

    async def _finish(self, metadata: BatchMetadata, failure: Exception | None) -> None:
        summary = await self._runner.finish(
            metadata,
            self.ownership.workflow_id,
            self._retries(asyncio.Event()),
            cancelled=self._wanted == "cancel",
            error=failure,
        )
        try:
            if metadata.notify:
                await asyncio.to_thread(self._notify, summary)
        except ETLError as error:
            # The batch is loaded and closed: a deaf webhook must not make it a failure.
            log.warning("nobody_notified", batch_id=summary.batch_id, reason=str(error))
        await self._end(summary.error, None if failure is None else type(failure).__name__)

    async def _end(self, error: str | None, error_type: str | None) -> None:
        own = self.ownership
        await self._retries(asyncio.Event()).run(
            lambda: in_thread(
                partial(
                    runs.end_run,
                    self._warehouse,
                    own.workflow_id,
                    error=error,
                    error_type=error_type,
                    owner=(own.owner, own.epoch),
                )
            ),
            lambda _error, _pause: None,
        )


#: A pause between two looks at what waits, and at what is wanted of runs.
LOOK_EVERY = timedelta(milliseconds=500)
