"""Late watch: a clock outside of all runs, which announces what did not happen, once.

Every process of the API that has destinations keeps it. What is found late and what is announced of
it are one transaction, under one lock: of several processes one announces it, and none announces it
again before it has recovered.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta

from temporaletl.control.operations.freshness import (
    Bounds,
    FreshnessReport,
    StreamFreshness,
    judge,
    read_bounds,
)
from temporaletl.control.operations.platform import Platform
from temporaletl.errors import ETLError
from temporaletl.notifications.delivery import Notifier, keep_delivering
from temporaletl.notifications.events import Event, LateStream, lateness_of, recovery_of
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.freshness import loads_in
from temporaletl.warehouse.late_streams import (
    StreamKey,
    clear_late,
    hold_watch,
    note_late,
    noticed,
)

log = get_logger("temporaletl.late_watch")

#: How often is looked for what is late.
LOOK_EVERY = timedelta(seconds=30)
_KINDS = frozenset({"late", "recovered"})


async def keep_notifying(platform: Platform, settings: NotificationSettings) -> None:
    """Announce what is late, and send what is due, until cancelled.

    What fails is logged, and tried again.
    """
    while True:
        try:
            notifier = Notifier(await platform.current_warehouse(), settings)
        except ETLError as error:
            log.warning("notifications_wait", reason=str(error))
            await asyncio.sleep(LOOK_EVERY.total_seconds())
        else:
            break
    if not notifier.destinations:
        return
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_delivering(notifier))
        if _KINDS & notifier.settings.kinds:
            tasks.create_task(_keep_watching(platform, notifier))


async def _keep_watching(platform: Platform, notifier: Notifier) -> None:
    while True:
        try:
            await announce_lateness(platform, notifier)
        except ETLError as error:
            log.warning("late_watch_failed", reason=str(error))
        except Exception as error:  # noqa: BLE001 - the next time may be better
            log.warning("late_watch_failed", exception=unexpected(error))
        await asyncio.sleep(LOOK_EVERY.total_seconds())


async def announce_lateness(platform: Platform, notifier: Notifier) -> list[Event]:
    """Look once for streams that have become late, or are late no more, and announce them.

    Returns the events that were entered; nothing where another process looks at this time.

    Raises:
        ETLError: as `freshness`.
    """
    bounds = await read_bounds(platform)
    return await asyncio.to_thread(_announce, await platform.current_warehouse(), bounds, notifier)


def _announce(warehouse: Warehouse, bounds: Bounds, notifier: Notifier) -> list[Event]:
    with warehouse.connection() as connection:
        if not hold_watch(connection):
            return []
        # Read under the lock: what another process has entered is known here.
        report = judge(bounds, loads_in(connection))
        events = _changes(connection, report)
        for event in events:
            notifier.enter(connection, event)
    for event in events:
        log.info("lateness_changed", kind=event.kind, event_key=event.key)
    return events


def _changes(connection: Connection, report: FreshnessReport) -> list[Event]:
    known = noticed(connection)
    entries = {_key_of(one): one for one in report.entries}
    fresh_again = {key for key in known if key in entries and _is_fresh(entries[key])}
    # What nobody judges any more has not recovered; where that is a fault, it may be late still.
    forgotten = {
        key
        for key in known - fresh_again
        if key not in entries or entries[key].state == "not judged"
    }
    late = [one for key, one in entries.items() if one.late and key not in known]
    for one in late:
        note_late(connection, _key_of(one), one.due_at)
    clear_late(connection, fresh_again | (set() if report.faults else forgotten))
    events = [
        lateness_of(*whose, [_late(one) for one in found], report.as_of)
        for whose, found in _by_connection({_key_of(one): one for one in late}).items()
    ]
    recovered = _by_connection({key: entries[key] for key in fresh_again})
    events += [
        recovery_of(*whose, [(one.stream, one.loaded_until) for one in found], report.as_of)
        for whose, found in recovered.items()
    ]
    return events


def _key_of(entry: StreamFreshness) -> StreamKey:
    return StreamKey(entry.source, entry.connection, entry.stream)


def _is_fresh(entry: StreamFreshness) -> bool:
    return not entry.late and entry.state in ("fresh", "failed")


def _late(entry: StreamFreshness) -> LateStream:
    return LateStream(
        stream=entry.stream,
        loaded_until=entry.loaded_until,
        due_at=entry.due_at,
        cause=entry.cause,
    )


def _by_connection(
    entries: Mapping[StreamKey, StreamFreshness],
) -> dict[tuple[str, str], list[StreamFreshness]]:
    found: dict[tuple[str, str], list[StreamFreshness]] = defaultdict(list)
    for key, entry in sorted(entries.items()):
        found[key.source, key.connection].append(entry)
    return found
