"""Streaming replicas: whether the warehouse that is read is one, and how far it is behind."""

from datetime import timedelta

from temporaletl.errors import WarehouseUnavailableError
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.sessions import only_row

# Without new transactions, the age of the last one says nothing while all that came is applied.
_LAG = """
    SELECT pg_is_in_recovery(), CASE
        WHEN NOT pg_is_in_recovery() THEN NULL
        WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()
            AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN interval '0'
        ELSE clock_timestamp() - pg_last_xact_replay_timestamp() END
"""


def replica_remark(warehouse: Warehouse) -> str | None:
    """What a reader of a streaming replica should know: how far it is behind. None of a primary."""
    with warehouse.connection() as connection:
        is_replica, lag = only_row(connection.execute(_LAG))
    if not is_replica:
        return None
    behind = "by how much is unknown" if lag is None else f"{lag / timedelta(seconds=1):,.1f} s"
    return f"the warehouse is a streaming replica, behind its primary: {behind}"


def require_primary(warehouse: Warehouse) -> None:
    """Refuse a replica.

    Raises:
        WarehouseUnavailableError: it is one; it may be promoted at any time.
    """
    remark = replica_remark(warehouse)
    if remark is not None:
        raise WarehouseUnavailableError(
            f"{remark}; a service needs the primary (WPE_DB_HOST or DATABASE_URL), or waits until "
            "this one is promoted"
        )
