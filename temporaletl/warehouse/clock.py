"""The warehouse's clock, which orders what is loaded and bounds every watermark."""

from datetime import datetime

from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.sessions import only_row


def warehouse_now(warehouse: Warehouse) -> datetime:
    """The warehouse's present time."""
    with warehouse.connection() as connection:
        now: datetime = only_row(connection.execute("SELECT clock_timestamp()"))[0]
    return now
