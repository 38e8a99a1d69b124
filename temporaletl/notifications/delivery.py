"""Delivery of notifications: entered in the warehouse, claimed, sent, and marked.

No failure of a destination is raised, or keeps another one from being notified: it is in the
warehouse's table, where `etl notify list`, the API and health find it.
"""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic

from temporaletl.errors import ETLError
from temporaletl.messages import BatchSummary
from temporaletl.notifications.destinations import Destination, destinations_of
from temporaletl.notifications.events import Event, end_of
from temporaletl.notifications.posting import WITHIN, DeliveryError, DeliveryRefusedError
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.notifications import (
    Notification,
    claim,
    claim_in,
    enter,
    mark_failed,
    mark_sent,
    register_destinations,
    release,
    unannounced_ends,
)

log = get_logger("temporaletl.notifications")

#: After so many attempts, an hour and a half after the first, an event is given up.
MOST_ATTEMPTS = 6
_FIRST_DELAY = timedelta(seconds=15)
_GROWTH = 4
_LONGEST_DELAY = timedelta(hours=1)
#: After it, whoever claimed a notification is taken for dead.
_CLAIMED_FOR = 3 * WITHIN
#: How long one call goes on with what is due.
_ROUND = timedelta(seconds=30)
#: How often what is due is looked for.
LOOK_EVERY = timedelta(seconds=10)
_REGISTERED_FOR = 120.0
#: A request that is called off ends by then; Apprise's may take longer.
_CALLED_OFF_WITHIN = timedelta(seconds=1.5)


@dataclass(frozen=True)
class Notifier:
    """Notifies the destinations of the settings. Safe to use from many threads and processes."""

    warehouse: Warehouse
    settings: NotificationSettings
    claimed_for: timedelta = _CLAIMED_FOR
    #: Set when the process ends: what is being sent is called off, and sent by another one.
    stop: threading.Event = field(default_factory=threading.Event)
    destinations: Sequence[Destination] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "destinations", destinations_of(self.settings))

    @property
    def names(self) -> list[str]:
        """The names of the destinations."""
        return [one.name for one in self.destinations]

    def register(self) -> None:
        """Note in the warehouse which destinations there are. Safe to repeat.

        Raises: as `Warehouse.connection`.
        """
        register_destinations(self.warehouse, self.names)

    def enter(self, connection: Connection, event: Event) -> None:
        """Enter an event for all destinations, in the caller's transaction. Safe to repeat.

        Nothing is entered of a kind that NOTIFY_ON does not name.
        """
        if event.kind in self.settings.kinds:
            _enter(connection, event, self.names)

    def announce_end(self, summary: BatchSummary) -> None:
        """Announce that a batch has ended, with one attempt for each destination. Safe to repeat.

        What fails, and what else is due, is left to `deliver`.

        Raises: as `Warehouse.connection`: what was entered is then sent later.
        """
        event = self._end_of(summary, datetime.now(UTC))
        with self.warehouse.connection() as connection:
            self.enter(connection, event)
        self._serve_all(event.key)

    def deliver(self) -> None:
        """Send what is due, to all destinations at once; returns within a minute.

        Raises: as `Warehouse.connection`.
        """
        self._enter_missed_ends()
        self._serve_all()

    def send_now(self, destination: Destination, event: Event) -> Notification | None:
        """Enter one event for one destination and send it at once; return its row as claimed.

        Raises:
            DeliveryError, DeliveryRefusedError: it was not taken; it is not tried again.
            ETLError: as `Warehouse.connection`.
        """
        with self.warehouse.connection() as connection:
            _enter(connection, event, [destination.name])
            claimed = claim_in(
                connection, destination.name, within=self.claimed_for, event_key=event.key
            )
        if claimed is None:
            return None
        try:
            destination.send(event, self.stop)
        except (DeliveryError, DeliveryRefusedError) as error:
            mark_failed(self.warehouse, claimed, str(error), again_in=None)
            raise
        mark_sent(self.warehouse, claimed)
        return claimed

    def _end_of(self, summary: BatchSummary, at: datetime) -> Event:
        return end_of(summary, at, web_address=self.settings.web_address)

    def _enter_missed_ends(self) -> None:
        if not self.destinations:
            return
        states = [
            *(["completed", "cancelled"] if "finished" in self.settings.kinds else []),
            *(["failed"] if "failed" in self.settings.kinds else []),
        ]
        if not states:
            return
        missed = unannounced_ends(self.warehouse, self.names, states)
        for one in missed:
            with self.warehouse.connection() as connection:
                _enter(connection, self._end_of(one.summary, one.ended_at), [one.destination])

    def _serve_all(self, event_key: str | None = None) -> None:
        """Send what is due to all destinations, each in a thread: one that hangs holds up none."""
        if not self.destinations:
            return
        until = monotonic() + _ROUND.total_seconds()
        with ThreadPoolExecutor(len(self.destinations), "notifications") as threads:
            begun = [
                threads.submit(self._serve, one, until, event_key) for one in self.destinations
            ]
            for one in begun:
                one.result()

    def _serve(self, destination: Destination, until: float, event_key: str | None) -> None:
        """Send to one destination what is due, until something fails or the time is over."""
        while monotonic() < until and not self.stop.is_set():
            claimed = claim(
                self.warehouse, destination.name, within=self.claimed_for, event_key=event_key
            )
            if claimed is None or not self._send(destination, claimed):
                return

    def _send(self, destination: Destination, claimed: Notification) -> bool:
        again: timedelta | None
        try:
            event = Event.model_validate(claimed.event)
            destination.send(event, self.stop, repeated=claimed.repeated)
        except DeliveryRefusedError as error:
            reason, again = str(error), None
        except DeliveryError as error:
            reason, again = str(error), _pause(claimed.attempts, error.delay)
        except Exception as error:  # noqa: BLE001 - whatever it is, others are notified
            reason, again = type(error).__name__, _pause(claimed.attempts, None)
            log.warning("notification_broke", destination=destination.name, error=unexpected(error))
        else:
            mark_sent(self.warehouse, claimed)
            return True
        if self.stop.is_set():
            release(self.warehouse, claimed)
            return False
        mark_failed(self.warehouse, claimed, reason, again_in=again)
        log.warning(
            "notification_failed",
            destination=destination.name,
            event_key=claimed.event_key,
            attempt=claimed.attempts,
            reason=reason,
            again_in_seconds=again and again.total_seconds(),
        )
        return False


def _enter(connection: Connection, event: Event, names: Sequence[str]) -> None:
    enter(
        connection,
        event.key,
        names,
        kind=event.kind,
        source=event.source,
        connection_name=event.connection,
        event=event.model_dump(mode="json"),
    )


def _pause(attempts: int, requested: timedelta | None) -> timedelta | None:
    """The time until the next attempt; None where there is no further one."""
    if attempts >= MOST_ATTEMPTS:
        return None
    grown: timedelta = min(_FIRST_DELAY * _GROWTH ** (attempts - 1), _LONGEST_DELAY)
    return max(grown, min(requested or grown, _LONGEST_DELAY))


async def keep_delivering(notifier: Notifier) -> None:
    """Send what is due, from time to time, until cancelled; what fails is tried again."""
    if not notifier.destinations:
        return
    registered: float | None = None
    try:
        while True:
            try:
                if registered is None or monotonic() - registered > _REGISTERED_FOR:
                    await asyncio.to_thread(notifier.register)
                    registered = monotonic()
                await _deliver(notifier)
            except ETLError as error:
                log.warning("notifications_not_delivered", reason=str(error))
            except Exception as error:  # noqa: BLE001 - the next time may be better
                log.warning("notifications_not_delivered", exception=unexpected(error))
            await asyncio.sleep(LOOK_EVERY.total_seconds())
    finally:
        notifier.stop.set()


async def _deliver(notifier: Notifier) -> None:
    """Send what is due; a cancellation calls it off, and waits a moment for it to say so."""
    sending = asyncio.create_task(asyncio.to_thread(notifier.deliver))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        notifier.stop.set()
        done, _ = await asyncio.wait({sending}, timeout=_CALLED_OFF_WITHIN.total_seconds())
        for ended in done:
            ended.exception()  # nobody misses it
        raise
