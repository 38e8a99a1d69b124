"""Health of the platform, part by part, with what is wrong and what to do.

Every part has its own look, all at once, and none is waited for longer than `WITHIN`: one that
hangs is named, and its look goes on for whoever asks next.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from temporaletl.control.operations.attendance import unattended
from temporaletl.control.operations.platform import OPEN_WORKFLOWS, Platform
from temporaletl.control.operations.seen_schedules import known_schedules
from temporaletl.embedded.services import ServiceState
from temporaletl.errors import ETLError
from temporaletl.messages import Message
from temporaletl.names import PIPELINE
from temporaletl.queuer.reconciliation import runs_of_queue
from temporaletl.warehouse.clock import warehouse_now
from temporaletl.warehouse.freshness import read_loads
from temporaletl.warehouse.migration import missing_migrations
from temporaletl.warehouse.notifications import failing_destinations, known_destinations
from temporaletl.warehouse.ownership import waits_for_owner
from temporaletl.warehouse.pipelines import list_pipelines
from temporaletl.warehouse.replica import replica_remark
from temporaletl.warehouse.schedules import SeenSchedule
from temporaletl.warehouse.waiting import OldestWaiting, oldest_waiting

if TYPE_CHECKING:
    from temporalio.client import Client

#: How long a part is waited for.
WITHIN = timedelta(seconds=2.5)
#: A job that has waited for so long while workers poll is worth a look.
_LONG = timedelta(minutes=15)
#: Temporal starts a run within seconds of its time.
_OVERDUE = timedelta(minutes=2)
_PATIENCE = timedelta(seconds=2)
#: By then a run that was requested is taken up.
_SOON = timedelta(seconds=30)

Verdict = Literal["ok", "degraded", "down", "unknown"]
_ORDER: tuple[Verdict, ...] = ("ok", "unknown", "degraded", "down")


class Part(Message):
    """Health of one part; `detail` says what is wrong and what to do."""

    name: str
    verdict: Verdict
    detail: str
    since: datetime | None = None


class Health(Message):
    """Health of all parts; `verdict` is that of the worst one."""

    verdict: Verdict
    parts: tuple[Part, ...]


async def check_health(platform: Platform) -> Health:
    """Check every part, within `WITHIN`. Never raises."""
    # Without Temporal there are no services.
    absent = () if platform.settings.enabled else ("queuer", "worker")
    looked_at = [name for name in _LOOKS if name not in absent]
    return _health_of(await asyncio.gather(*(_look(platform, name) for name in looked_at)))


def with_processes(found: Health, states: Iterable[ServiceState]) -> Health:
    """Health with the processes of the services that this one runs."""
    processes = [
        Part(
            name=f"{state.name} process",
            verdict="ok" if state.running else "degraded",
            detail=state.detail,
        )
        for state in states
    ]
    return _health_of([*found.parts, *processes])


def _health_of(parts: Sequence[Part]) -> Health:
    worst = max((part.verdict for part in parts), key=_ORDER.index)
    return Health(verdict=worst, parts=tuple(parts))


async def check_warehouse(platform: Platform) -> Part:
    """Check that the warehouse answers, within `WITHIN`. Never raises."""
    return await _look(platform, "warehouse")


async def check_temporal(platform: Platform) -> Part:
    """Check that Temporal answers, within `WITHIN`. Never raises."""
    return await _look(platform, "temporal")


async def _look(platform: Platform, name: str) -> Part:
    """The result of a part's look, of one that another caller has begun if it still goes on."""
    going_on = _going_on.setdefault(platform, {})
    look = going_on.get(name)
    if look is None or look.task.done():
        look = going_on[name] = _Look(platform, name)
    await asyncio.wait({look.task}, timeout=WITHIN.total_seconds())
    if look.task.done() and not look.task.cancelled():
        return look.task.result()
    seconds = monotonic() - look.began
    return Part(
        name=name,
        verdict="down" if name in ("warehouse", "temporal") else "unknown",
        detail=f"has not answered for {seconds:.1f} s",
        since=look.began_at,
    )


class _Look:
    """A look at a part that may take longer than anybody waits for it."""

    def __init__(self, platform: Platform, name: str) -> None:
        self.began, self.began_at = monotonic(), datetime.now(UTC)
        self.task = asyncio.create_task(self._run(platform, name))

    async def _run(self, platform: Platform, name: str) -> Part:
        unanswered: Verdict = "down" if name in ("warehouse", "temporal") else "unknown"
        try:
            verdict, detail, since = await _LOOKS[name](platform)
        except ETLError as error:
            return Part(name=name, verdict=unanswered, detail=str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the part does not answer
            kind = str(error) or type(error).__name__
            return Part(name=name, verdict=unanswered, detail=f"does not answer: {kind}")
        return Part(name=name, verdict=verdict, detail=detail, since=since)


_going_on: WeakKeyDictionary[Platform, dict[str, _Look]] = WeakKeyDictionary()
_Found = tuple[Verdict, str, datetime | None]


async def _warehouse(platform: Platform) -> _Found:
    warehouse = await platform.warehouse()
    await _aside(warehouse.check)
    remark = await _aside(lambda: replica_remark(warehouse))
    return "ok", f"answers; {remark}" if remark else "answers", None


async def _migrations(platform: Platform) -> _Found:
    warehouse = await platform.warehouse()
    missing = await _aside(lambda: missing_migrations(warehouse))
    if missing:
        detail = f"{len(missing)} are missing, from {missing[0]} on: a service applies them"
        return "degraded", detail, None
    return "ok", "all are applied", None


async def _temporal(platform: Platform) -> _Found:
    if not platform.settings.enabled:
        return "ok", "is off (TEMPORAL_ENABLED=false): the local engine executes runs", None
    client = await platform.client()
    if not await client.service_client.check_health(timeout=_PATIENCE):
        return "down", "it says that it is not serving", None
    return "ok", "answers", None


async def _queuer(platform: Platform) -> _Found:
    return await _attendance(platform, "queuer", platform.settings.queuer_queue)


async def _worker(platform: Platform) -> _Found:
    return await _attendance(platform, "worker", platform.settings.worker_queue)


async def _attendance(
    platform: Platform, service: Literal["queuer", "worker"], queue: str
) -> _Found:
    # Who polls is not known of a Temporal that does not answer.
    client = await platform.answering_client()
    missing = await unattended(client, service, queue)
    if missing is None:
        return "ok", f"polls task queue {queue}", None
    scheduled = [one for one in (await known_schedules(platform)).schedules if not one.paused]
    if scheduled or await _has_open_runs(client, platform.settings.queuer_queue):
        return "down", missing, None
    # Nobody waits for it: stopped on purpose, or not needed yet.
    return "ok", f"none polls task queue {queue}; no run goes on, and none is scheduled", None


async def _has_open_runs(client: Client, queue: str) -> bool:
    counted = await client.count_workflows(
        f"{runs_of_queue(queue)} AND {OPEN_WORKFLOWS}", rpc_timeout=_PATIENCE
    )
    return counted.count > 0


async def _engine(platform: Platform) -> _Found:
    warehouse = await platform.current_warehouse()
    since = await _aside(lambda: waits_for_owner(warehouse))
    if since is None:
        return "ok", "no run waits for it", None
    if await _aside(lambda: warehouse_now(warehouse)) - since < _SOON:
        return "ok", "takes up a run", None
    detail = "a run waits, and no process drives it: `etl serve` does, where its engine starts"
    return "down", detail, since


async def _waiting(platform: Platform) -> _Found:
    warehouse = await platform.warehouse()
    found: OldestWaiting | None = await _aside(lambda: oldest_waiting(warehouse))
    if found is None:
        return "ok", "no job waits", None
    minutes = found.waited.total_seconds() / 60
    detail = f"{found.job_id} of {found.workflow_id} has waited for {minutes:,.0f} min"
    return "degraded" if found.waited > _LONG else "ok", detail, found.since


async def _schedules(platform: Platform) -> _Found:
    warehouse = await platform.current_warehouse()
    known = await known_schedules(platform)
    loads = await _aside(lambda: read_loads(warehouse))
    loaded: dict[tuple[str, str], datetime] = {}
    for one in loads.streams:
        if one.last_loaded_at is not None:
            whose = (one.source, one.connection)
            loaded[whose] = max(one.last_loaded_at, loaded.get(whose, one.last_loaded_at))
    for pipeline in await _aside(lambda: list_pipelines(warehouse)):
        if pipeline.last_at is not None:
            loaded[PIPELINE, pipeline.name] = pipeline.last_at
    wrong = [
        (since, text)
        for one in known.schedules
        for since, text in _misses(one, loaded.get((one.source, one.connection)))
    ]
    if wrong:
        return "degraded", "; ".join(text for _, text in wrong), min(since for since, _ in wrong)
    if known.fault is not None:
        return "unknown", f"as they were listed last: {known.fault}", None
    paused = sum(one.paused for one in known.schedules)
    number = len(known.schedules)
    detail = f"{number} {'schedule' if number == 1 else 'schedules'}, {paused} of them paused"
    return "ok", detail if number else "nothing is scheduled", None


def _misses(seen: SeenSchedule, loaded_at: datetime | None) -> list[tuple[datetime, str]]:
    """What a schedule has missed since its connection was last loaded."""
    whose, found = seen.key.label, []
    if seen.missed_at is not None and (loaded_at is None or loaded_at < seen.missed_at):
        text = (
            f"{whose} has missed runs since it was last loaded: in all {seen.missed} were not "
            f"started in time, and {seen.skipped} left out while another one went on"
        )
        found.append((seen.missed_at, text))
    if seen.next_run is not None and seen.seen_at and seen.next_run < seen.seen_at - _OVERDUE:
        found.append((seen.next_run, f"Temporal has not started the run of {whose} that is due"))
    return found


async def _notifications(platform: Platform) -> _Found:
    warehouse = await platform.current_warehouse()
    failing = await _aside(lambda: failing_destinations(warehouse))
    if failing:
        detail = "; ".join(
            f"{one.destination} {one.error} ({one.failures} not delivered)" for one in failing
        )
        return "degraded", f"{detail}: `etl notify list`", min(one.since for one in failing)
    known = await _aside(lambda: known_destinations(warehouse))
    return "ok", f"delivered to {', '.join(known)}" if known else "no destination is set", None


_LOOKS: Mapping[str, Callable[[Platform], Awaitable[_Found]]] = {
    "warehouse": _warehouse,
    "migrations": _migrations,
    "temporal": _temporal,
    "queuer": _queuer,
    "worker": _worker,
    "local engine": _engine,
    "oldest waiting job": _waiting,
    "schedules": _schedules,
    "notifications": _notifications,
}


async def _aside[T](work: Callable[[], T]) -> T:
    """Call `work` in a thread that keeps no process from ending, should it never return."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised by who waits
            outcome: tuple[Callable[[Any], None], Any] = (future.set_exception, error)
        else:
            outcome = (future.set_result, result)
        try:
            loop.call_soon_threadsafe(settle, *outcome)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=run, name="health", daemon=True).start()
    return await future
