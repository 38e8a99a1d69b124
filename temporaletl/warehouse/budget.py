"""What all workers together know of how a source may be asked: turns given out, and closures."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import class_row

from temporaletl.errors import RateLimitedError
from temporaletl.names import connection_option, label
from temporaletl.settings import WaitSettings
from temporaletl.warehouse.connection import Warehouse

#: A closure that ends sooner is waited for where it is met.
_SHORT = timedelta(seconds=5)
#: With turns given out so far ahead, another segment would only wait in its slot.
_LONGEST_QUEUE = timedelta(seconds=2)
#: No turn is honestly given out further ahead: what is was noted while the clock was wrong.
_FURTHEST_TURN = timedelta(minutes=10)
#: What is noted of the future counts only as far as it can be honest.
_GRANTED = "(CASE WHEN granted_until <= clock_timestamp() + %(furthest)s THEN granted_until END)"
_CLOSED = "(CASE WHEN closed_until <= clock_timestamp() + %(longest)s THEN closed_until END)"


@dataclass(frozen=True, slots=True)
class Closure:
    """A source that asked to be left alone, over one connection."""

    source: str
    connection: str
    until: datetime  # UTC

    def __str__(self) -> str:
        named = connection_option(self.connection)
        return (
            f"{label(self.source, self.connection)} asked to be left alone (Retry-After): no run "
            f"asks it before {self.until:%Y-%m-%d %H:%M:%SZ}; "
            f"`etl state reset {self.source}{named} --unblock` lifts that"
        )


def _limits() -> dict[str, timedelta]:
    longest = timedelta(minutes=WaitSettings.load().longest_wait_minutes)
    # Some more: a closure is noted a little after the clock was read.
    return {"furthest": _FURTHEST_TURN, "longest": longest + _FURTHEST_TURN}


def reserve_requests(
    warehouse: Warehouse, source: str, connection_name: str, rate: float, count: int
) -> timedelta:
    """Take the next turns for `count` requests at `rate` a second; return how long to the first.

    Raises:
        RateLimitedError: the source is closed for longer than is waited for; nothing is taken.
    """
    values = {
        "source": source,
        "connection": connection_name,
        "span": timedelta(seconds=count / rate),
        "short": _SHORT,
        **_limits(),
    }
    with warehouse.connection() as connection:
        connection.execute(
            """
            INSERT INTO etl_budgets (source, connection) VALUES (%(source)s, %(connection)s)
            ON CONFLICT DO NOTHING
            """,
            values,
        )
        granted = connection.execute(
            f"""
            UPDATE etl_budgets
            SET granted_until = greatest({_GRANTED}, {_CLOSED}, clock_timestamp()) + %(span)s
            WHERE source = %(source)s AND connection = %(connection)s
              AND coalesce({_CLOSED}, '-infinity') <= clock_timestamp() + %(short)s
            RETURNING extract(epoch FROM granted_until - %(span)s - clock_timestamp())::float8
            """,  # noqa: S608 - constants
            values,
        ).fetchone()
    if granted is None:
        delay = time_to_opening(warehouse, source, connection_name) or _SHORT
        raise RateLimitedError(
            f"{label(source, connection_name)}: asked to be left alone for another "
            f"{delay.total_seconds():.0f} s",
            delay=delay,
        )
    return timedelta(seconds=max(0.0, float(str(granted[0]))))


def close_source(warehouse: Warehouse, source: str, connection_name: str, delay: timedelta) -> None:
    """Keep all workers away from a source that asked for it; a longer closure stands."""
    limits = _limits()
    with warehouse.connection() as connection:
        connection.execute(
            f"""
            INSERT INTO etl_budgets (source, connection, closed_until)
            VALUES (%(source)s, %(connection)s, clock_timestamp() + %(delay)s)
            ON CONFLICT (source, connection) DO UPDATE
            SET closed_until = greatest({_CLOSED.replace("closed_", "etl_budgets.closed_")},
                                        excluded.closed_until)
            """,  # noqa: S608 - constants
            {
                "source": source,
                "connection": connection_name,
                "delay": min(delay, limits["longest"]),
                **limits,
            },
        )


def time_to_opening(warehouse: Warehouse, source: str, connection_name: str) -> timedelta | None:
    """How long a segment had better stay away from the source; None if it need not."""
    with warehouse.connection() as connection:
        found = connection.execute(
            f"""
            SELECT extract(epoch FROM greatest(
                {_CLOSED} - clock_timestamp(),
                {_GRANTED} - clock_timestamp() - %(queue)s))::float8
            FROM etl_budgets WHERE source = %(source)s AND connection = %(connection)s
              AND greatest({_CLOSED}, {_GRANTED} - %(queue)s) > clock_timestamp()
            """,  # noqa: S608 - constants
            {
                "source": source,
                "connection": connection_name,
                "queue": _LONGEST_QUEUE,
                **_limits(),
            },
        ).fetchone()
    return None if found is None else timedelta(seconds=float(str(found[0])))


def closures(warehouse: Warehouse, source: str | None = None) -> list[Closure]:
    """The closures of one source, or of all, that have not ended."""
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(Closure)) as cursor,
    ):
        return cursor.execute(
            f"""
        SELECT source, connection, {_CLOSED} AS until FROM etl_budgets
        WHERE (%(source)s::text IS NULL OR source = %(source)s)
          AND {_CLOSED} > clock_timestamp()
        ORDER BY source, connection
        """,  # noqa: S608 - constants
            {"source": source, **_limits()},
        ).fetchall()


def open_source(warehouse: Warehouse, source: str, connection_name: str) -> bool:
    """Let a connection be asked again at once; whether it was closed."""
    with warehouse.connection() as connection:
        opened = connection.execute(
            """
            UPDATE etl_budgets SET closed_until = '-infinity',
                granted_until = least(granted_until, clock_timestamp())
            WHERE source = %s AND connection = %s AND closed_until > clock_timestamp()
            """,
            [source, connection_name],
        )
        return opened.rowcount > 0
