"""The warehouse's clock, which orders what is loaded and bounds every watermark."""

from datetime import datetime

from temporaletl.clock import Clock
from temporaletl.warehouse.connection import Warehouse


def read_clock(warehouse: Warehouse) -> Clock:
    """Read the warehouse's time; the clock is never ahead of it, and behind by one answer."""
    return Clock(warehouse_now(warehouse))


def warehouse_now(warehouse: Warehouse) -> datetime:
    with warehouse.connection() as connection:
        found = connection.execute("SELECT clock_timestamp()").fetchone()
    assert found is not None  # noqa: S101 - the statement has a row
    assert isinstance(found[0], datetime)  # noqa: S101 - the function's type
    return found[0]
