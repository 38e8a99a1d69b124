"""The warehouse's clock, which orders what is loaded and bounds every watermark."""

from datetime import datetime

from temporaletl.clock import Clock
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.sessions import only_row


def read_clock(warehouse: Warehouse) -> Clock:
    """Read the warehouse's time; the clock is never ahead of it, and behind by one answer."""
    return Clock(warehouse_now(warehouse))


def warehouse_now(warehouse: Warehouse) -> datetime:
    """The warehouse's present time."""
    with warehouse.connection() as connection:
        now: datetime = only_row(connection.execute("SELECT clock_timestamp()"))[0]
    return now
