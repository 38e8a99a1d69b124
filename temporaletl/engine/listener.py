"""What a batch tells of itself while it runs."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporaletl.messages import BatchMetadata, ETLInput, JobProgress, SegmentResult


class Listener:
    """Hears how a batch goes on; a subclass overrides what it wants to hear.

    Everything is called on the batch's event loop, and holds the batch up while it runs. What a
    method raises ends the batch as a cancellation would, except that its books say failed, and
    why; then `run_batch` raises it.
    """

    def planned(self, metadata: BatchMetadata, jobs: int) -> None:
        """All jobs of the batch are in the ledger; the first is about to begin."""

    def page_loaded(self, job: ETLInput, progress: JobProgress) -> None:
        """A transaction of a job is committed."""

    def segment_ended(self, job: ETLInput, result: SegmentResult) -> None:
        """A segment of a job has ended without an error; another follows unless it is done."""

    def attempt_failed(self, job: ETLInput | None, error: Exception, pause: timedelta) -> None:
        """Something is tried again after a pause: a job's segment, or without one the planning."""

    def job_ended(self, job: ETLInput, progress: JobProgress, error: Exception | None) -> None:
        """A job has ended as the ledger says now; `error` is why, where it failed."""


class Audience:
    """Tells a listener, whose errors end the batch and are no errors of what was going on."""

    def __init__(self, listener: Listener, stopping: asyncio.Event) -> None:
        self.listener = listener
        self.fault: Exception | None = None
        self._stopping = stopping

    def tell[**P](self, hear: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of the listener; keep the first error as the `fault`."""
        try:
            hear(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whoever runs the batch gets it
            self.fault = self.fault or error
            self._stopping.set()
