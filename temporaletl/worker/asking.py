"""How a segment asks its source: no faster than all workers together may, and not while closed."""

import random
from datetime import timedelta
from functools import partial

from temporaletl.budget import Permits
from temporaletl.connections import bound
from temporaletl.errors import NotReadyError, RetryableError
from temporaletl.external.cooldown import lift_cool_downs
from temporaletl.messages import ETLInput
from temporaletl.rereading import reread_method_of
from temporaletl.strategies import budgets
from temporaletl.warehouse.budget import close_source, reserve_requests, time_to_opening
from temporaletl.warehouse.connection import Warehouse

#: A shorter wait concerns whoever met it alone.
_WORTH_TELLING = timedelta(seconds=1)
#: Those who wait come back spread over so much more than they were told.
_SPREAD = 0.25


class Asking:
    """What a job's segment may ask of its source. Its methods block."""

    def __init__(self, warehouse: Warehouse, job: ETLInput) -> None:
        self._warehouse = warehouse
        self._job = job

    def time_to_opening(self) -> timedelta | None:
        """How long to stay away before asking anything; None if there is no need to.

        Then the clients of this process ask again as well, whatever they were told before.
        """
        job = self._job
        if job.mode == "replay" and reread_method_of(job.source, job.stream) is None:
            return None
        delay = time_to_opening(self._warehouse, self._job.source, self._job.connection)
        if delay is None:
            lift_cool_downs(job.source, job.connection)
            return None
        return delay * (1 + random.uniform(0, _SPREAD))  # noqa: S311 - spreads, guards nothing

    def permits(self) -> Permits | None:
        """The turns of the segment's requests; None where the source has no limit.

        Raises:
            ConfigurationError: the source's settings are wrong.
        """
        if self._job.source not in budgets:
            return None
        source, connection = self._job.source, self._job.connection
        with bound(source, connection):
            rate = budgets.get(source)().requests_per_second
        if rate is None:
            return None
        return Permits(rate, partial(reserve_requests, self._warehouse, source, connection, rate))

    def note(self, error: RetryableError) -> None:
        """Tell all workers how long the source wants to be left alone, where it said so."""
        if isinstance(error, NotReadyError):
            return
        if error.delay is not None and error.delay >= _WORTH_TELLING:
            close_source(self._warehouse, self._job.source, self._job.connection, error.delay)
