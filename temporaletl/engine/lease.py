"""Heartbeat of a batch: its lease is renewed beside the event loop, which a source may block."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from temporaletl.messages import BatchMetadata
from temporaletl.telemetry.logs import get_logger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.leases import renew_lease

log = get_logger("temporaletl.engine")

#: So often within a lease: one that is late, or fails, is not yet missed.
_TIMES = 4
#: From a batch's end in the ledger to the block's.
_JUST_CLOSED_SECONDS = 1.0


@contextmanager
def kept_lease(
    warehouse: Warehouse, metadata: BatchMetadata, lost: Callable[[], None]
) -> Iterator[None]:
    """Renew a batch's lease inside the block; call `lost` once somebody has closed the batch.

    While the warehouse does not answer, the lease may run out. It is renewed once it answers,
    unless somebody was faster. `lost` is called from a thread.
    """
    lease = metadata.policy.heartbeat_timeout
    over = threading.Event()

    def renew() -> None:
        while not over.wait(lease.total_seconds() / _TIMES):
            try:
                alive = renew_lease(warehouse, metadata.batch_id, lease)
            except Exception as error:  # noqa: BLE001 - the next time may be better
                log.warning("lease_not_renewed", batch_id=metadata.batch_id, reason=str(error))
                continue
            if not alive:
                if over.wait(_JUST_CLOSED_SECONDS):
                    return  # it was the block itself that closed the batch
                log.warning("lease_lost", batch_id=metadata.batch_id)
                lost()
                return

    thread = threading.Thread(target=renew, name=f"lease {metadata.batch_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
