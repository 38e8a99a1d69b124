"""What all workers together know of how a source may be asked: turns given out, and closures."""

from datetime import timedelta

from temporaletl.errors import RateLimitedError
from temporaletl.warehouse.connection import Warehouse

#: A closure that ends sooner is waited for where it is met.
_SHORT = timedelta(seconds=5)
#: With turns given out so far ahead, another segment would only wait in its slot.
_LONGEST_QUEUE = timedelta(seconds=2)


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
            """
            UPDATE etl_budgets
            SET granted_until = greatest(granted_until, closed_until, clock_timestamp()) + %(span)s
            WHERE source = %(source)s AND connection = %(connection)s
              AND closed_until <= clock_timestamp() + %(short)s
            RETURNING extract(epoch FROM granted_until - %(span)s - clock_timestamp())::float8
            """,
            values,
        ).fetchone()
    if granted is None:
        delay = time_to_opening(warehouse, source, connection_name) or _SHORT
        raise RateLimitedError(
            f"{source}: asked to be left alone for another {delay.total_seconds():.0f} s",
            delay=delay,
        )
    return timedelta(seconds=max(0.0, float(str(granted[0]))))


def close_source(warehouse: Warehouse, source: str, connection_name: str, delay: timedelta) -> None:
    """Keep all workers away from a source that asked for it; a longer closure stands."""
    with warehouse.connection() as connection:
        connection.execute(
            """
            INSERT INTO etl_budgets AS b (source, connection, closed_until)
            VALUES (%(source)s, %(connection)s, clock_timestamp() + %(delay)s)
            ON CONFLICT (source, connection) DO UPDATE
            SET closed_until = greatest(b.closed_until, excluded.closed_until)
            """,
            {"source": source, "connection": connection_name, "delay": delay},
        )


def time_to_opening(warehouse: Warehouse, source: str, connection_name: str) -> timedelta | None:
    """How long a segment had better stay away from the source; None if it need not."""
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT extract(epoch FROM greatest(
                closed_until - clock_timestamp(),
                granted_until - clock_timestamp() - %(queue)s))::float8
            FROM etl_budgets WHERE source = %(source)s AND connection = %(connection)s
              AND greatest(closed_until, granted_until - %(queue)s) > clock_timestamp()
            """,
            {"source": source, "connection": connection_name, "queue": _LONGEST_QUEUE},
        ).fetchone()
    return None if found is None else timedelta(seconds=float(str(found[0])))
