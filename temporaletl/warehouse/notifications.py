"""Notifications: one row for each event and destination, claimed, sent and marked.

Who enters an event and who sends it may be two processes, or die on the way: what is entered is
sent by whichever process has its destination, once. A process that dies between sending and saying
so leaves that open, and then it is sent at most once again (`repeated`).
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from psycopg import sql
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.messages import BatchSummary, Message
from temporaletl.names import SKIPPED
from temporaletl.rows import storable_text
from temporaletl.secrets import cleaned, redacted
from temporaletl.warehouse.connection import Connection, Warehouse

Kind = Literal["finished", "failed", "late", "recovered", "test"]
DeliveryState = Literal["pending", "sending", "sent", "failed"]

#: An event that no process has sent by then is not news any more.
_GIVEN_UP_AFTER = timedelta(days=1)
_KEPT = timedelta(days=90)
_AT_ONCE = 1_000
#: A destination that no process has had for so long is one no more.
_SEEN_WITHIN = timedelta(minutes=10)


class Notification(Message):
    """One event for one destination, which is named by its setting and position."""

    event_key: str
    destination: str
    kind: Kind
    source: str
    connection: str
    event: dict[str, JsonValue]
    state: DeliveryState
    attempts: int
    repeated: bool
    error: str | None
    created_at: datetime
    next_attempt_at: datetime
    sent_at: datetime | None


class NotificationPosition(NamedTuple):
    """The key of a notification, behind which the next page begins."""

    created_at: datetime
    event_key: str
    destination: str


class NotificationPage(NamedTuple):
    """Notifications, the latest first; `next` is where older ones go on."""

    notifications: list[Notification]
    next: NotificationPosition | None


class FailingDestination(NamedTuple):
    """A destination whose latest notification was given up or is tried again."""

    destination: str
    failures: int  # within a day
    since: datetime
    error: str


class UnannouncedEnd(NamedTuple):
    """A run's end that was entered for none of its destinations, or not for all."""

    summary: BatchSummary
    ended_at: datetime
    destination: str


_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Notification.model_fields))


def enter(
    connection: Connection,
    event_key: str,
    destinations: Collection[str],
    *,
    kind: Kind,
    source: str,
    connection_name: str,
    event: dict[str, JsonValue],
) -> None:
    """Enter an event for each destination, in the caller's transaction. Safe to repeat."""
    clean = cleaned(event, lambda text: storable_text(redacted(text)))
    for destination in sorted(destinations):
        connection.execute(
            """
            INSERT INTO etl_notifications (event_key, destination, kind, source, connection, event)
            VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (event_key, destination) DO NOTHING
            """,
            [event_key, destination, kind, source, connection_name, Jsonb(clean)],
        )


def claim(
    warehouse: Warehouse, destination: str, *, within: timedelta, event_key: str | None = None
) -> Notification | None:
    """Claim the next notification that is due for a destination; None where none is.

    Of several processes at once, one gets it. It counts as `repeated` where another process had
    claimed it and did not say within `within` what came of it; a second time it is given up.
    `event_key` names the only one that is wanted.
    """
    with warehouse.connection() as connection:
        return claim_in(connection, destination, within=within, event_key=event_key)


def claim_in(
    connection: Connection, destination: str, *, within: timedelta, event_key: str | None = None
) -> Notification | None:
    """As `claim`, in the caller's transaction: what that has entered, nobody else can claim."""
    values: dict[str, Any] = {"destination": destination, "within": within, "key": event_key}
    connection.execute(_GIVE_UP_TWICE_LOST, values)
    return (
        connection.cursor(row_factory=class_row(Notification))
        .execute(_CLAIM.format(_RETURNED), values)
        .fetchone()
    )


_GIVE_UP_TWICE_LOST = """
    UPDATE etl_notifications SET state = 'failed',
        error = 'two processes ended while they sent it: it may have arrived'
    WHERE destination = %(destination)s AND state = 'sending' AND repeated
      AND next_attempt_at <= clock_timestamp()
"""
_CLAIM = sql.SQL(
    """
    WITH due AS (
        SELECT event_key, state FROM etl_notifications
        WHERE destination = %(destination)s AND state IN ('pending', 'sending')
          AND next_attempt_at <= clock_timestamp()
          AND (%(key)s::text IS NULL OR event_key = %(key)s)
        ORDER BY created_at, event_key LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    UPDATE etl_notifications AS n SET state = 'sending', attempts = n.attempts + 1,
        repeated = n.repeated OR due.state = 'sending',
        next_attempt_at = clock_timestamp() + %(within)s
    FROM due WHERE n.event_key = due.event_key AND n.destination = %(destination)s
    RETURNING {}
    """
)
_RETURNED = sql.SQL(", ").join(sql.Identifier("n", name) for name in Notification.model_fields)


def mark_sent(warehouse: Warehouse, claimed: Notification) -> None:
    """Mark a claimed notification as sent; not where another process has claimed it since."""
    _mark(warehouse, claimed, "sent", None, None)


def mark_failed(
    warehouse: Warehouse, claimed: Notification, error: str, *, again_in: timedelta | None
) -> None:
    """The same for one that was not sent; it is tried again, or given up where `again_in` is None.

    Secrets that this process knows are taken out of the error.
    """
    state: DeliveryState = "failed" if again_in is None else "pending"
    _mark(warehouse, claimed, state, storable_text(redacted(error)), again_in)


def release(warehouse: Warehouse, claimed: Notification) -> None:
    """Give a claimed notification back, because its sending was called off: it may have arrived."""
    with warehouse.connection() as connection:
        connection.execute(
            """
            UPDATE etl_notifications SET state = 'pending', repeated = true, error = NULL,
                next_attempt_at = clock_timestamp()
            WHERE event_key = %s AND destination = %s AND state = 'sending' AND attempts = %s
            """,
            [claimed.event_key, claimed.destination, claimed.attempts],
        )


def _mark(
    warehouse: Warehouse,
    claimed: Notification,
    state: DeliveryState,
    error: str | None,
    again_in: timedelta | None,
) -> None:
    with warehouse.connection() as connection:
        connection.execute(
            """
            UPDATE etl_notifications SET state = %(state)s, error = %(error)s,
                sent_at = CASE WHEN %(state)s = 'sent' THEN clock_timestamp() END,
                next_attempt_at = clock_timestamp() + coalesce(%(again_in)s::interval, '0')
            WHERE event_key = %(key)s AND destination = %(destination)s AND state = 'sending'
              AND attempts = %(attempts)s
            """,
            {
                "state": state,
                "error": error,
                "again_in": again_in,
                "key": claimed.event_key,
                "destination": claimed.destination,
                "attempts": claimed.attempts,
            },
        )


def register_destinations(warehouse: Warehouse, destinations: Sequence[str]) -> None:
    """Note which destinations there are: ends of batches from now on are announced to them.

    One that no process has had for a day counts as new. Also deletes what is old, and gives up what
    no process could send for a day.
    """
    with warehouse.connection() as connection:
        for destination in sorted(destinations):
            connection.execute(
                """
                INSERT INTO etl_notification_destinations AS d (destination) VALUES (%s)
                ON CONFLICT (destination) DO UPDATE SET seen_at = clock_timestamp(),
                    since = CASE WHEN d.seen_at < clock_timestamp() - %s::interval
                        THEN clock_timestamp() ELSE d.since END
                """,
                [destination, _GIVEN_UP_AFTER],
            )
        connection.execute(
            """
            UPDATE etl_notifications SET state = 'failed',
                error = coalesce(error, 'no process has had this destination for a day')
            WHERE (event_key, destination) IN (
                SELECT event_key, destination FROM etl_notifications
                WHERE state IN ('pending', 'sending') AND next_attempt_at < clock_timestamp()
                  AND created_at < clock_timestamp() - %(age)s
                LIMIT %(at_once)s FOR UPDATE SKIP LOCKED)
            """,
            {"age": _GIVEN_UP_AFTER, "at_once": _AT_ONCE},
        )
        connection.execute(
            """
            DELETE FROM etl_notifications WHERE (event_key, destination) IN (
                SELECT event_key, destination FROM etl_notifications
                WHERE created_at < clock_timestamp() - %(age)s
                ORDER BY created_at LIMIT %(at_once)s FOR UPDATE SKIP LOCKED)
            """,
            {"age": _KEPT, "at_once": _AT_ONCE},
        )


def unannounced_ends(
    warehouse: Warehouse, destinations: Sequence[str], states: Sequence[str]
) -> list[UnannouncedEnd]:
    """Runs of the last day that ended in one of `states` and were not entered for each of these.

    Not those whose request wants nobody notified. Whoever ran them: a process that died before it
    announced an end, and an engine that announces none, are made up for. One that ended before it
    had a batch has announced nothing.
    """
    with warehouse.connection() as connection:
        rows: Sequence[Any] = connection.execute(
            """
            SELECT e.summary, e.ended_at, d.destination
            FROM etl_notification_destinations AS d
            JOIN (
                SELECT batch_id AS name, summary, ended_at, metadata->>'notify' AS notify
                FROM etl_batches WHERE ended_at >= clock_timestamp() - %(age)s::interval
                UNION ALL
                SELECT workflow_id, jsonb_build_object(
                    'batch_id', '', 'workflow_id', workflow_id, 'source', source,
                    'connection', connection, 'mode', request->>'mode', 'error', error,
                    'state', CASE wanted WHEN 'cancel' THEN 'cancelled' ELSE 'failed' END,
                    'seconds', round(extract(epoch FROM ended_at - requested_at), 3)
                ), ended_at, request->>'notify'
                FROM etl_runs WHERE batch_id IS NULL AND engine IS NOT NULL
                  AND error_type IS DISTINCT FROM %(skipped)s
                  AND ended_at >= clock_timestamp() - %(age)s::interval
            ) AS e ON e.ended_at >= d.since
            WHERE d.destination = ANY (%(destinations)s) AND e.summary->>'state' = ANY (%(states)s)
              AND coalesce(e.notify::boolean, true)
              AND NOT EXISTS (
                SELECT FROM etl_notifications AS n WHERE n.destination = d.destination
                  AND n.event_key = ANY (ARRAY['failed:' || e.name, 'finished:' || e.name]))
            ORDER BY e.ended_at LIMIT %(at_once)s
            """,
            {
                "age": _GIVEN_UP_AFTER,
                "skipped": SKIPPED,
                "destinations": list(destinations),
                "states": list(states),
                "at_once": _AT_ONCE,
            },
        ).fetchall()
    return [
        UnannouncedEnd(BatchSummary.model_validate(summary), ended_at, str(destination))
        for summary, ended_at, destination in rows
    ]


def read_notifications(
    warehouse: Warehouse,
    *,
    limit: int,
    before: NotificationPosition | None = None,
    state: DeliveryState | None = None,
) -> NotificationPage:
    """A page of the notifications, the latest first, from behind `before` on; of one state."""
    query = sql.SQL(
        "SELECT {} FROM etl_notifications WHERE (%(at)s::timestamptz IS NULL "
        "OR (created_at, event_key, destination) < (%(at)s, %(key)s::text, %(destination)s::text)) "
        "AND (%(state)s::text IS NULL OR state = %(state)s) "
        "ORDER BY created_at DESC, event_key DESC, destination DESC LIMIT %(limit)s"
    ).format(_COLUMNS)
    values: dict[str, Any] = {
        "at": before and before.created_at,
        "key": before and before.event_key,
        "destination": before and before.destination,
        "state": state,
        # One more than is shown: whether there are others.
        "limit": limit + 1,
    }
    with warehouse.connection() as connection:
        rows = connection.cursor(row_factory=dict_row).execute(query, values).fetchall()
    found = [Notification.model_validate(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return NotificationPage(found, None)
    last = found[-1]
    following = NotificationPosition(last.created_at, last.event_key, last.destination)
    return NotificationPage(found, following)


def known_destinations(warehouse: Warehouse) -> list[str]:
    """The destinations that some process of the platform has now, by name."""
    with warehouse.connection() as connection:
        rows = connection.execute(
            """
            SELECT destination FROM etl_notification_destinations
            WHERE seen_at > clock_timestamp() - %s ORDER BY destination
            """,
            [_SEEN_WITHIN],
        ).fetchall()
    return [str(name) for (name,) in rows]


def failing_destinations(warehouse: Warehouse) -> list[FailingDestination]:
    """Destinations that have not taken what they were sent last, of the last day.

    One that has worked since is none. What a test was refused says nothing: it may have been sent
    from elsewhere.
    """
    with warehouse.connection() as connection:
        rows: Sequence[Any] = connection.execute(
            """
            SELECT destination, count(*) FILTER (WHERE failing),
                min(created_at) FILTER (WHERE failing),
                (array_agg(error ORDER BY created_at DESC) FILTER (WHERE failing))[1]
            FROM (SELECT *, kind <> 'test' AND error IS NOT NULL AND state <> 'sent' AS failing
                  FROM etl_notifications WHERE created_at > clock_timestamp() - %s) AS n
            GROUP BY destination
            HAVING max(next_attempt_at) FILTER (WHERE failing) > coalesce(max(sent_at), '-infinity')
            ORDER BY destination
            """,
            [_GIVEN_UP_AFTER],
        ).fetchall()
    return [FailingDestination(*row) for row in rows]
