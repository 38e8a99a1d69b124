"""All that a process tells of itself: metrics and health at its endpoint, and OpenTelemetry."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from temporaletl.telemetry import otlp
from temporaletl.telemetry.endpoint import Group, MetricsEndpoint, Ready, metrics_served
from temporaletl.telemetry.tracing import traced_process


@asynccontextmanager
async def observed_process(
    service: str,
    ready: Ready,
    refresh: Callable[[], Awaitable[None]] | None = None,
    group: Group | None = None,
) -> AsyncIterator[MetricsEndpoint | None]:
    """Inside the block, serve and export what the settings say; None where nothing is served.

    `ready` says why the process is not ready; `refresh` is awaited before metrics are read;
    `group` is what the process is one of, if any.

    Raises:
        ConfigurationError: as `metrics_served`.
    """
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(metrics_served(service, ready, refresh, group))
        stack.enter_context(traced_process(service))
        if otlp.target("metrics") is not None:
            # It imports OpenTelemetry.
            from temporaletl.telemetry.otlp_metrics import metrics_exported  # noqa: PLC0415

            await stack.enter_async_context(metrics_exported(service, refresh))
        yield endpoint
