"""Listener to the events of a running batch: planned jobs, loaded pages, failed attempts."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporaletl.messages import BatchMetadata, ETLInput, JobProgress, SegmentResult


class Listener:
    """Listener to a running batch; a subclass overrides the methods of the events it needs.

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
        """A job's segment, or without a job the planning, is retried after a pause."""

    def job_ended(self, job: ETLInput, progress: JobProgress, error: Exception | None) -> None:
        """A job has ended as the ledger says now; `error` is why, where it failed."""


class Audience:
    """Guard of a listener: its errors end the batch, and are no errors of the work reported."""

    def __init__(self, listener: Listener, stopping: asyncio.Event) -> None:
        self.listener = listener
        self.fault: Exception | None = None
        self._stopping = stopping

    def notify[**P](self, method: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of the listener; keep the first error as the `fault`."""
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - raised by `run_batch`
            self.fault = self.fault or error
            self._stopping.set()
