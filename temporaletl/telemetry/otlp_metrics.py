"""Export of the platform's own metrics by OTLP: the values of `telemetry.metrics`, as they are.

Names are those of OpenTelemetry: `etl_rows_total` is `etl.rows`, and its unit is apart. What turns
them into Prometheus' again, as collectors do, arrives at the names of the endpoint.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge as GaugeData,
    Histogram as HistogramData,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from temporaletl.telemetry import metrics, otlp
from temporaletl.telemetry.instruments import AnyInstrument, Counter, Histogram, Labels
from temporaletl.telemetry.logs import get_logger
from temporaletl.telemetry.tracing import resource_of

log = get_logger("temporaletl.telemetry.exporting")

_UNITS = {"seconds": "s", "bytes": "By"}


@asynccontextmanager
async def metrics_exported(
    service: str, refresh: Callable[[], Awaitable[None]] | None
) -> AsyncIterator[None]:
    """Inside the block, export metrics every OTEL_METRIC_EXPORT_INTERVAL, and once at its end."""
    exporter, began = OTLPMetricExporter(), time.time_ns()

    async def export() -> None:
        if refresh is not None:
            await refresh()
        data = snapshot(service, began)
        if await asyncio.to_thread(exporter.export, data) is not MetricExportResult.SUCCESS:
            log.warning("metrics_not_exported", reason="the endpoint did not take them")

    async def keep() -> None:
        while True:
            await asyncio.sleep(otlp.interval_seconds())
            await _logged(export)

    keeping = asyncio.create_task(keep())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await _logged(export)
        await asyncio.to_thread(exporter.shutdown)


async def _logged(export: Callable[[], Awaitable[None]]) -> None:
    try:
        await export()
    except Exception as error:  # noqa: BLE001 - what is measured goes on without
        log.warning("metrics_not_exported", reason=str(error) or type(error).__name__)


def snapshot(service: str, began: int) -> MetricsData:
    """All values as OpenTelemetry has them, counted since `began` (nanoseconds since 1970)."""
    now = time.time_ns()
    found = [_metric(one, began, now) for one in metrics.registry.collect() if one.samples()]
    scope = InstrumentationScope("temporaletl")
    return MetricsData(
        [ResourceMetrics(resource_of(service), [ScopeMetrics(scope, found, "")], "")]
    )


def _metric(one: AnyInstrument, began: int, now: int) -> Metric:
    name, unit = name_and_unit(one)
    cumulative = AggregationTemporality.CUMULATIVE
    data: Sum | GaugeData | HistogramData
    if isinstance(one, Histogram):
        data = HistogramData(list(_distributions(one, began, now)), cumulative)
    else:
        points = [
            NumberDataPoint(_attributes(one, labels), began, now, value)
            for labels, value in one.samples()
        ]
        is_sum = isinstance(one, Counter)
        data = Sum(points, cumulative, is_monotonic=True) if is_sum else GaugeData(points)
    return Metric(name, one.about, unit, data)


def _distributions(one: Histogram, began: int, now: int) -> Iterator[HistogramDataPoint]:
    for labels, found in one.samples():
        yield HistogramDataPoint(
            _attributes(one, labels),
            began,
            now,
            sum(found.counts),
            found.total,
            found.counts,
            one.bounds,
            # Neither is kept.
            float("nan"),
            float("nan"),
        )


def _attributes(one: AnyInstrument, labels: Labels) -> dict[str, str]:
    return dict(zip(one.labels, labels, strict=True))


def name_and_unit(one: AnyInstrument) -> tuple[str, str]:
    """The name and the unit that a metric has in OpenTelemetry."""
    words = one.name.removesuffix("_total").split("_")
    unit = _UNITS.get(words[-1], "1")
    if unit != "1":
        words.pop()
    return ".".join(words), unit
