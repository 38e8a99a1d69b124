"""Live state of runs: one observer for all who follow, for as long as anybody does.

Whoever follows gets whole states, no differences: one who is slow misses some, never the last one.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Literal

from pydantic import AwareDatetime

from temporaletl.control.operations.history import RunFilter, list_runs, run_report
from temporaletl.control.operations.observation import Observations, Observed
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.reports import RunReport
from temporaletl.control.operations.status import Runs, open_runs
from temporaletl.errors import ETLError
from temporaletl.messages import Message
from temporaletl.secrets import redacted
from temporaletl.telemetry.logs import get_logger, unexpected

log = get_logger("temporaletl.control.live")

#: The key under which the runs that go on are observed, whoever asks.
OPEN_RUNS = "open runs"
INTERVAL = timedelta(seconds=1)
#: Who follows is told by then that the state is not known.
_PATIENCE = timedelta(seconds=5)
_MOST_OPEN = 200
_LISTED = 50


class LiveRuns(Message):
    """The runs that go on, then those that ended last; whole, as of a time."""

    as_of: AwareDatetime
    runs: tuple[RunReport, ...]
    #: Hindrances of sources, which of ledger and Temporal cannot be reached, and missing services.
    remarks: tuple[str, ...] = ()


class LiveRun(Message):
    """One run, whole, as of a time."""

    as_of: AwareDatetime
    run: RunReport
    #: As those of all runs; of one that has ended there are none.
    remarks: tuple[str, ...] = ()


class LiveProblem(Message):
    """Why the state is not known; what was sent before was true at its own time."""

    as_of: AwareDatetime
    detail: str


Kind = Literal["runs", "run", "problem"]
_KINDS: dict[type[Message], Kind] = {LiveRuns: "runs", LiveRun: "run", LiveProblem: "problem"}


@dataclass(frozen=True)
class Update:
    """A state that differs from the one before."""

    content: LiveRuns | LiveRun | LiveProblem

    @property
    def kind(self) -> Kind:
        return _KINDS[type(self.content)]

    @cached_property
    def json(self) -> str:
        """The content as JSON, made once for all who follow."""
        return self.content.model_dump_json()

    def says(self, other: "Update | None") -> bool:
        """Whether another one says the same, as of whatever time."""
        return other is not None and self.said == other.said

    @cached_property
    def said(self) -> Message:
        """The content without its time."""
        return self.content.model_copy(update={"as_of": datetime.min.replace(tzinfo=UTC)})


class Follower:
    """One who follows: `next` gives the state when it has changed, and None after a while."""

    def __init__(self, topic: "_Topic") -> None:
        self.topic = topic
        self.ended: str | None = None
        self._wake = asyncio.Event()
        self._seen: Update | None = None

    def wake(self) -> None:
        self._wake.set()

    def end(self, reason: str) -> None:
        """Have `next` return None at once, from now on; the first reason stands."""
        self.ended = self.ended or reason
        self._wake.set()

    async def next(self, within: timedelta) -> Update | None:
        """Return the state as soon as it is another one; None after `within`, or at the end."""
        try:
            async with asyncio.timeout(within.total_seconds()):
                while self.ended is None:
                    if (update := self.topic.update) is not self._seen:
                        self._seen = update
                        return update
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass
        return None


class _Topic:
    """What some follow: all runs, or one."""

    def __init__(self, run: str | None, update: Update) -> None:
        self.run = run
        self.update = update
        self.followers: set[Follower] = set()

    def publish(self, update: Update) -> None:
        if not update.says(self.update):
            self.update = update
            for follower in self.followers:
                follower.wake()


class Live:
    """The observer: it looks once an interval while anybody follows, and sleeps otherwise.

        follower = await live.follow("etl-jira-full-20261127T180000.000000Z")
        try:
            while (update := await follower.next(timedelta(seconds=15))) is not None: ...
        finally:
            live.leave(follower)

    For one event loop.
    """

    def __init__(
        self, platform: Platform, observations: Observations, *, interval: timedelta = INTERVAL
    ) -> None:
        self._platform = platform
        self._observations = observations
        self._interval = interval.total_seconds()
        self._topics: dict[str | None, _Topic] = {}
        self._observer: asyncio.Task[None] | None = None

    async def open_runs(self) -> Observed[Runs]:
        """The latest observation of the runs that go on."""
        observe = partial(open_runs, self._platform, limit=_MOST_OPEN)
        return await self._observations.latest(OPEN_RUNS, observe)

    async def follow(self, run: str | None = None) -> Follower:
        """Follow all runs, or the one of that workflow or batch id. `leave` must follow.

        Raises:
            NotFoundError: nothing has that name.
            ETLError: the state cannot be known now.
        """
        topic = self._topics.get(run)
        if topic is None:
            update = await self._look(run, None, await self.open_runs())
            topic = self._topics.setdefault(run, _Topic(run, update))
        follower = Follower(topic)
        topic.followers.add(follower)
        if self._observer is None or self._observer.done():
            self._observer = asyncio.create_task(self._observe())
        return follower

    def leave(self, follower: Follower) -> None:
        """Follow no longer. Safe to repeat."""
        topic = follower.topic
        topic.followers.discard(follower)
        if not topic.followers and self._topics.get(topic.run) is topic:
            del self._topics[topic.run]
        if not self._topics and self._observer is not None:
            self._observer.cancel()
            self._observer = None

    async def _observe(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                async with asyncio.timeout(_PATIENCE.total_seconds()):
                    observed = await self.open_runs()
            except Exception as error:  # noqa: BLE001 - the next time may be better
                for topic in list(self._topics.values()):
                    topic.publish(_problem(error))
                continue
            for topic in list(self._topics.values()):
                await self._renew(topic, observed)

    async def _renew(self, topic: _Topic, observed: Observed[Runs]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                update = await self._look(topic.run, topic.update, observed)
            topic.publish(update)
        except Exception as error:  # noqa: BLE001 - those of others may be known
            topic.publish(_problem(error))

    async def _look(
        self, run: str | None, before: Update | None, observed: Observed[Runs]
    ) -> Update:
        if run is None:
            found = await list_runs(self._platform, observed.value, RunFilter(), limit=_LISTED)
            remarks = tuple(observed.value.remarks)
            return Update(LiveRuns(as_of=observed.as_of, runs=tuple(found), remarks=remarks))
        going_on = next(
            (one for one in observed.value.runs if run in (one.workflow_id, one.batch_id)), None
        )
        if going_on is not None:
            remarks = tuple(observed.value.remarks)
            return Update(LiveRun(as_of=observed.as_of, run=going_on, remarks=remarks))
        known = before and before.content
        if isinstance(known, LiveRun) and known.run.ended_at is not None:
            return Update(known)
        report = await run_report(self._platform, run)
        return Update(LiveRun(as_of=datetime.now(UTC), run=report))


def _problem(error: Exception) -> Update:
    detail = "an error in the platform itself"
    if isinstance(error, TimeoutError):
        seconds = _PATIENCE.total_seconds()
        detail = f"warehouse or Temporal have not answered within {seconds:.0f} s: `etl health`"
    elif isinstance(error, ETLError):
        detail = str(error)
    else:
        log.warning("state_not_observed", error=unexpected(error))
    return Update(LiveProblem(as_of=datetime.now(UTC), detail=redacted(detail)))
