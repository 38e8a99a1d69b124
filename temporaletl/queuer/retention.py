"""Retention by the services: every hour, pages and jobs of old runs are summarised and removed."""

import asyncio
import threading
from datetime import timedelta
from functools import partial

from temporaletl.errors import ETLError
from temporaletl.settings.platform import LedgerSettings
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.retention import Removed, prune

log = get_logger("temporaletl.queuer.retention")

PRUNE_EVERY = timedelta(hours=1)
#: How long a cancellation waits for the transaction that is under way.
_CALLED_OFF_WITHIN = timedelta(seconds=2)


async def keep_pruning(warehouse: Warehouse, settings: LedgerSettings) -> None:
    """Prune the ledger from time to time, until cancelled; what fails is logged and tried again.

    Between two steps it rests for as long as the last one took: loads go first.
    """
    while True:
        try:
            removed = await _prune(warehouse, settings)
            if removed != Removed():
                log.info(
                    "ledger_pruned",
                    runs=removed.batches,
                    pages=removed.pages,
                    jobs=removed.jobs,
                )
        except ETLError as error:
            log.warning("ledger_not_pruned", reason=str(error))
        except Exception as error:  # noqa: BLE001 - the next time may be better
            log.warning("ledger_not_pruned", exception=unexpected(error))
        await asyncio.sleep(PRUNE_EVERY.total_seconds())


async def _prune(warehouse: Warehouse, settings: LedgerSettings) -> Removed:
    """Remove all that is due; a cancellation ends it with its present transaction."""
    stop = threading.Event()
    pruning = asyncio.create_task(
        asyncio.to_thread(partial(prune, warehouse, settings, pause=stop.wait))
    )
    try:
        return await asyncio.shield(pruning)
    except asyncio.CancelledError:
        stop.set()
        done, _ = await asyncio.wait({pruning}, timeout=_CALLED_OFF_WITHIN.total_seconds())
        for ended in done:
            ended.exception()  # nobody misses it
        raise
