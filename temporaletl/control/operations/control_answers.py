"""Answers to pause, resume and cancel."""

from dataclasses import dataclass
from typing import Literal

from temporaletl.messages import OpenState
from temporaletl.warehouse.runs import Engine

type Action = Literal["pause", "resume", "cancel"]
type Kind = Literal["run", "job"]


@dataclass(frozen=True, slots=True)
class Controlled:
    """A run or a job that was paused, resumed or cancelled, and what holds from then on.

    `state` is None where its workflow did not answer: a service of an older version polls, or
    none does. In the latter case the request is `stored`, to be heeded when a service polls
    `queue`, or for a run of the local engine when a process takes it up. `ended_batch`: it was a
    run whose workflow this Temporal does not know; its batch and jobs are closed in the ledger
    instead. One without a batch is named itself.
    """

    kind: Kind
    workflow_id: str
    action: Action
    state: OpenState | None = None
    jobs_running: int | None = None  # to their next page; None where that is not known
    engine: Engine = "temporal"
    changed: bool = True  # whether something else held before
    stored: bool = False
    queue: str | None = None
    ended_batch: str | None = None
