"""Rate limits of sources over all workers: reserved requests, and cool-downs (`Retry-After`)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from psycopg.rows import class_row

from temporaletl.bound_connection import bound
from temporaletl.budget import RateLimiter
from temporaletl.errors import RateLimitedError
from temporaletl.names import connection_option, label
from temporaletl.settings.platform import WaitSettings
from temporaletl.strategies import budgets
from temporaletl.warehouse.connection import Connection, Warehouse

#: A cool-down that ends sooner is waited out by the request that meets it.
_SHORT = timedelta(seconds=5)
#: With requests reserved so far ahead, another segment would only wait in its slot.
_LONGEST_QUEUE = timedelta(seconds=2)
#: A reservation further ahead was written while the clock was wrong.
_FURTHEST_RESERVATION = timedelta(minutes=10)
#: Times in the future count only as far ahead as a right clock can have written them.
_GRANTED = "(CASE WHEN granted_until <= clock_timestamp() + %(furthest)s THEN granted_until END)"
_BLOCKED = "(CASE WHEN closed_until <= clock_timestamp() + %(longest)s THEN closed_until END)"


@dataclass(frozen=True, slots=True)
class BlockedSource:
    """A rate-limited source: one connection, and when its cool-down ends."""

    source: str
    connection: str
    blocked_until: datetime  # UTC

    def __str__(self) -> str:
        named = connection_option(self.connection)
        return (
            f"{label(self.source, self.connection)} is rate-limited (Retry-After): no run sends it "
            f"a request before {self.blocked_until:%Y-%m-%d %H:%M:%SZ}; "
            f"`etl state reset {self.source}{named} --unblock` lifts that"
        )


def _limits() -> dict[str, timedelta]:
    longest = timedelta(minutes=WaitSettings.present().longest_wait_minutes)
    # Some more: a cool-down is written a little after the clock was read.
    return {"furthest": _FURTHEST_RESERVATION, "longest": longest + _FURTHEST_RESERVATION}


def rate_limiter_of(warehouse: Warehouse, source: str, connection_name: str) -> RateLimiter | None:
    """The rate limiter of requests to a source; None where the source has no limit.

    Raises:
        ConfigurationError: the source's settings are wrong.
    """
    if source not in budgets:
        return None
    with bound(source, connection_name):
        rate = budgets.get(source)().requests_per_second
    if rate is None:
        return None
    return RateLimiter(rate, partial(reserve_requests, warehouse, source, connection_name, rate))


def reserve_requests(
    warehouse: Warehouse, source: str, connection_name: str, rate: float, count: int
) -> timedelta:
    """Reserve `count` requests at `rate` a second; return the time until the first of them.

    Raises:
        RateLimitedError: the cool-down is too long to be waited out; nothing is reserved.
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
            SET granted_until = greatest({_GRANTED}, {_BLOCKED}, clock_timestamp()) + %(span)s
            WHERE source = %(source)s AND connection = %(connection)s
              AND coalesce({_BLOCKED}, '-infinity') <= clock_timestamp() + %(short)s
            RETURNING extract(epoch FROM granted_until - %(span)s - clock_timestamp())::float8
            """,  # noqa: S608 - constants
            values,
        ).fetchone()
    if granted is None:
        delay = remaining_cool_down(warehouse, source, connection_name) or _SHORT
        raise RateLimitedError(
            f"{label(source, connection_name)} is rate-limited for another "
            f"{delay.total_seconds():.0f} s",
            delay=delay,
        )
    return timedelta(seconds=max(0.0, float(str(granted[0]))))


def block_source(warehouse: Warehouse, source: str, connection_name: str, delay: timedelta) -> None:
    """Begin a source's cool-down for all workers; one that lasts longer stands."""
    limits = _limits()
    with warehouse.connection() as connection:
        connection.execute(
            f"""
            INSERT INTO etl_budgets (source, connection, closed_until)
            VALUES (%(source)s, %(connection)s, clock_timestamp() + %(delay)s)
            ON CONFLICT (source, connection) DO UPDATE
            SET closed_until = greatest({_BLOCKED.replace("closed_", "etl_budgets.closed_")},
                                        excluded.closed_until)
            """,  # noqa: S608 - constants
            {
                "source": source,
                "connection": connection_name,
                "delay": min(delay, limits["longest"]),
                **limits,
            },
        )


def remaining_cool_down(
    warehouse: Warehouse, source: str, connection_name: str
) -> timedelta | None:
    """How long a segment must wait before its first request; None where it need not."""
    with warehouse.connection() as connection:
        return left_of_cool_down(connection, source, connection_name)


def left_of_cool_down(
    connection: Connection, source: str, connection_name: str
) -> timedelta | None:
    """How long a segment must wait, as `remaining_cool_down`, read in the caller's transaction."""
    found = connection.execute(
        f"""
        SELECT extract(epoch FROM greatest(
            {_BLOCKED} - clock_timestamp(),
            {_GRANTED} - clock_timestamp() - %(queue)s))::float8
        FROM etl_budgets WHERE source = %(source)s AND connection = %(connection)s
          AND greatest({_BLOCKED}, {_GRANTED} - %(queue)s) > clock_timestamp()
        """,  # noqa: S608 - constants
        {
            "source": source,
            "connection": connection_name,
            "queue": _LONGEST_QUEUE,
            **_limits(),
        },
    ).fetchone()
    return None if found is None else timedelta(seconds=float(str(found[0])))


def blocked_sources(warehouse: Warehouse, source: str | None = None) -> list[BlockedSource]:
    """The connections whose cool-down has not ended, of one source or of all."""
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(BlockedSource)) as cursor,
    ):
        return cursor.execute(
            f"""
        SELECT source, connection, {_BLOCKED} AS blocked_until FROM etl_budgets
        WHERE (%(source)s::text IS NULL OR source = %(source)s)
          AND {_BLOCKED} > clock_timestamp()
        ORDER BY source, connection
        """,  # noqa: S608 - constants
            {"source": source, **_limits()},
        ).fetchall()


def unblock_source(warehouse: Warehouse, source: str, connection_name: str) -> bool:
    """End a connection's cool-down now; return whether it was blocked."""
    with warehouse.connection() as connection:
        return end_cool_down(connection, source, connection_name)


def end_cool_down(connection: Connection, source: str, connection_name: str) -> bool:
    """The same in the caller's transaction."""
    unblocked = connection.execute(
        """
        UPDATE etl_budgets SET closed_until = '-infinity',
            granted_until = least(granted_until, clock_timestamp())
        WHERE source = %s AND connection = %s AND closed_until > clock_timestamp()
        """,
        [source, connection_name],
    )
    return unblocked.rowcount > 0
