"""Rate limiter of a segment's source: the rate of all workers together, and its cool-downs."""

import random
from datetime import timedelta

from temporaletl.budget import RateLimiter
from temporaletl.errors import NotReadyError, RetryableError
from temporaletl.external.cooldown import lift_cool_downs
from temporaletl.messages import ETLInput
from temporaletl.rereading import reread_method_of
from temporaletl.warehouse.budget import block_source, rate_limiter_of
from temporaletl.warehouse.connection import Warehouse

#: A shorter cool-down concerns only the segment that met it.
_SHARED_FROM = timedelta(seconds=1)
#: Segments that wait come back spread over so much more than the cool-down.
_SPREAD = 0.25


class SourceLimiter:
    """Rate limit and cool-down of the source of one job's segment. Its methods block."""

    def __init__(self, warehouse: Warehouse, job: ETLInput) -> None:
        self._warehouse = warehouse
        self._job = job

    def needed_wait(self, delay: timedelta | None) -> timedelta | None:
        """How long the segment must wait before its first request; None where it need not.

        `delay` is what is left of the source's cool-down. Where nothing is, the cool-downs of this
        process's own clients end as well. Nothing is waited for here.
        """
        job = self._job
        if job.mode == "replay" and reread_method_of(job.source, job.stream) is None:
            return None
        if delay is None:
            lift_cool_downs(job.source, job.connection)
            return None
        return delay * (1 + random.uniform(0, _SPREAD))  # noqa: S311 - spreads, guards nothing

    def rate_limiter(self) -> RateLimiter | None:
        """The rate limiter of the segment's requests; None where the source has no limit.

        Raises:
            ConfigurationError: the source's settings are wrong.
        """
        return rate_limiter_of(self._warehouse, self._job.source, self._job.connection)

    def block_after(self, error: RetryableError) -> None:
        """Block the source for all workers, for the delay that an error's answer requested."""
        if isinstance(error, NotReadyError):
            return
        if error.delay is not None and error.delay >= _SHARED_FROM:
            block_source(self._warehouse, self._job.source, self._job.connection, error.delay)
