"""Recorder of a run's control: keeps the ledger true to what was requested, and finds the rest."""

import contextlib
from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from temporaletl import names
    from temporaletl.control_messages import ControlRecord, ControlRequest
    from temporaletl.messages import (
        BatchMetadata,
    )
    from temporaletl.queuer.child_control import ChildControl
    from temporaletl.temporal.failures import first_message, retry_policy

#: What was requested before there was this recording stays unrecorded.
PATCH = "control-in-ledger"
#: Each look waits twice as long as the one before: a pause of weeks must not fill the history.
_FIRST_PATIENCE, _LONGEST_PATIENCE = timedelta(seconds=1), timedelta(minutes=10)
_STATES: dict[str, Literal["running", "pausing", "cancelling"]] = {
    names.RESUME: "running",
    names.PAUSE: "pausing",
    names.CANCEL: "cancelling",
}


class ControlRecorder:
    """Records what `control` holds whenever that changes, and looks for rest while it is a pause.

    Beside the run, which waits for none of it: the warehouse may be away.
    """

    def __init__(self, control: ChildControl) -> None:
        self._control = control
        self._seen = 0  # the change that `_record` is about
        self._record: ControlRecord | None = None
        self._records = True
        self._recorded = 0  # changes
        self._is_older = False

    @property
    def at_rest(self) -> bool:
        """Whether no job ran when the ledger was last read; True of an unrecorded request."""
        record = self._current
        unrecorded = not self._records and self._recorded == self._control.changes
        return unrecorded or (record is not None and record.at_rest)

    @property
    def jobs_running(self) -> int | None:
        """Jobs that ran when the ledger was last read; None where it was not, since the request."""
        return self._current.jobs_running if self._current else None

    @property
    def _current(self) -> ControlRecord | None:
        return self._record if self._seen == self._control.changes else None

    async def run(self, metadata: BatchMetadata) -> None:
        """Record until cancelled; the batch must be in the ledger."""
        while True:
            await workflow.wait_condition(lambda: self._control.changes > self._recorded)
            self._recorded = self._control.changes
            # A patch once found missing counts as missing for good: later requests have their own.
            patch = f"{PATCH}-{self._recorded}" if self._is_older else PATCH
            self._records = workflow.patched(patch)
            self._is_older = self._is_older or not self._records
            if self._records:
                await self._look(metadata, self._recorded)

    async def _look(self, metadata: BatchMetadata, change: int) -> None:
        """Record one request; of a pause, look until it is at rest. The next request ends it."""
        state = _STATES[self._control.wanted]
        patience = timedelta(0)
        while self._control.changes == change:
            looking = workflow.start_activity(
                names.RECORD_CONTROL,
                ControlRequest(
                    batch_id=metadata.batch_id,
                    state=state,
                    change=change,
                    patience=patience,
                    policy=metadata.policy,
                ),
                result_type=ControlRecord,
                start_to_close_timeout=patience + timedelta(minutes=1),
                heartbeat_timeout=metadata.policy.heartbeat_timeout,
                retry_policy=retry_policy(metadata.policy),
            )
            await workflow.wait_condition(
                lambda: looking.done() or self._control.changes != change  # noqa: B023 - at once
            )
            looking.cancel()  # nothing, once it is done
            try:
                self._record, self._seen = await looking, change
            except ActivityError as failure:
                if self._control.changes == change:
                    # Only what the ledger says of it is wrong; the run goes on as requested.
                    workflow.logger.warning("not recorded: %s", first_message(failure))
                    with contextlib.suppress(TimeoutError):
                        await workflow.wait_condition(
                            lambda: self._control.changes != change, timeout=_LONGEST_PATIENCE
                        )
                continue
            if state != "pausing" or self._record.at_rest:
                return
            patience = min(max(patience * 2, _FIRST_PATIENCE), _LONGEST_PATIENCE)
