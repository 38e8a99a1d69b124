"""Metrics of the warehouse and of freshness, which one process reads for all."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta

from temporaletl.control.operations.freshness import StreamFreshness, freshness
from temporaletl.control.operations.observation import Observations
from temporaletl.control.operations.platform import Platform
from temporaletl.errors import ETLError
from temporaletl.telemetry import metrics
from temporaletl.telemetry.instruments import Gauge, Labels
from temporaletl.telemetry.logs import get_logger
from temporaletl.warehouse.measures import Measures, measure

log = get_logger("temporaletl.telemetry.metrics")

_READ = (
    *(metrics.watermark, metrics.last_success, metrics.freshness_objective, metrics.stream_late),
    *(metrics.batches_open, metrics.jobs_open, metrics.oldest_waiting, metrics.cool_down),
    *(metrics.rejects_kept, metrics.table_bytes, metrics.table_rows),
)


class WarehouseMetrics:
    """Reader of the warehouse's metrics, which asks it no more often than `every`."""

    def __init__(self, platform: Platform, every: timedelta) -> None:
        self._platform = platform
        # A reader gets what is true now, or was within that time.
        self._observations = Observations(fresh=every, stale=every)

    async def refresh(self) -> None:
        """Bring the gauges up to date; where that fails, they go, and `etl_warehouse_up` is 0."""
        try:
            await self._observations.latest("all", self._read)
        except ETLError as error:
            log.warning("warehouse_not_measured", reason=str(error))
            metrics.warehouse_up.set(0)
            for gauge in _READ:
                gauge.set_all(())

    async def _read(self) -> None:
        report = await freshness(self._platform)
        warehouse = await self._platform.current_warehouse()
        _show(await asyncio.to_thread(measure, warehouse), report.entries)


def _show(found: Measures, streams: Iterable[StreamFreshness]) -> None:
    metrics.batches_open.set_all(found.batches_open)
    metrics.jobs_open.set_all(found.jobs_open)
    metrics.oldest_waiting.set(found.oldest_waiting_seconds)
    metrics.cool_down.set_all(found.cool_downs)
    metrics.rejects_kept.set_all(found.rejects_kept)
    metrics.table_bytes.set_all(found.table_bytes)
    metrics.table_rows.set_all(found.table_rows)
    by_labels = {(one.source, one.connection, one.stream): one for one in streams}
    _set_known(metrics.watermark, {of: one.loaded_until for of, one in by_labels.items()})
    _set_known(metrics.last_success, {of: one.last_loaded_at for of, one in by_labels.items()})
    metrics.freshness_objective.set_all(
        (of, one.fresh_within.total_seconds())
        for of, one in by_labels.items()
        if one.fresh_within is not None
    )
    metrics.stream_late.set_all((of, float(one.late)) for of, one in by_labels.items())
    metrics.warehouse_up.set(1)


def _set_known(gauge: Gauge, timestamps: dict[Labels, datetime | None]) -> None:
    gauge.set_all((of, at.timestamp()) for of, at in timestamps.items() if at is not None)
