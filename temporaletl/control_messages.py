"""Messages of pause, resume and cancel: the updates, their answers, and their ledger records."""

from datetime import timedelta
from typing import Literal

from temporaletl.messages import Message, OpenState, RunPolicy, UtcTime


class ControlUpdate(Message):
    """The argument of an update `pause`, `resume` or `cancel`, which may be left out.

    A server delivers an update also when whoever sent it has stopped waiting, and then behind
    what was requested since: after `heed_until` it is refused.
    """

    heed_until: UtcTime | None = None


class Accepted(Message):
    """The answer to an update `pause`, `resume` or `cancel`: what holds from then on."""

    state: OpenState
    #: Jobs that still run, to their next page; None where the workflow does not know.
    jobs_running: int | None = None
    changed: bool = True  # whether something else held before


class ControlRequest(Message):
    """The request to record in the ledger what was requested of a batch's run.

    `change` numbers what was requested, so that a late attempt does not undo a later request.
    `patience` is how long to wait, of a run that is pausing, for its jobs to be at rest.
    """

    batch_id: str
    state: Literal["running", "pausing", "cancelling"]
    change: int
    patience: timedelta = timedelta(0)
    policy: RunPolicy = RunPolicy()


class ControlRecord(Message):
    """What the ledger says of a batch's jobs. At rest: all are planned, and none runs."""

    at_rest: bool
    jobs_running: int
