"""Telemetry of Temporal's SDK: its metrics, beside our own, and traces across Temporal."""

import contextlib
import socket
from collections.abc import Sequence
from datetime import timedelta

from temporalio.client import Interceptor
from temporalio.runtime import OpenTelemetryConfig, PrometheusConfig, Runtime, TelemetryConfig

from temporaletl.telemetry import otlp, tracing
from temporaletl.telemetry.endpoint import MetricsEndpoint
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal.connect import logging_to_python

log = get_logger("temporaletl.telemetry.metrics")

#: Another process may take the port between its choice and its use.
_PORTS_TRIED = 5


def measured_runtime(service: str, endpoint: MetricsEndpoint | None) -> Runtime | None:
    """A runtime whose metrics the endpoint passes on; without one, exported where OTEL_* says so.

    None where neither is wanted. Call once in a process: the exporter keeps its port.
    """
    if endpoint is not None:
        return _served(service, endpoint)
    target = otlp.target("metrics")
    if target is None:
        return None
    return _runtime(
        service,
        OpenTelemetryConfig(
            url=target.url,
            headers=target.headers,
            http=True,
            metric_periodicity=timedelta(seconds=otlp.interval_seconds()),
            durations_as_seconds=True,
        ),
    )


def _served(service: str, endpoint: MetricsEndpoint) -> Runtime | None:
    for _ in range(_PORTS_TRIED):
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        with contextlib.suppress(ValueError):  # the port was taken
            runtime = _runtime(
                service,
                PrometheusConfig(
                    bind_address=address,
                    counters_total_suffix=True,
                    unit_suffix=True,
                    durations_as_seconds=True,
                ),
            )
            endpoint.sdk = address
            return runtime
    log.warning("sdk_metrics_not_served", reason="no port of this machine was left for them")
    return None


def _runtime(service: str, metrics: PrometheusConfig | OpenTelemetryConfig) -> Runtime:
    return Runtime(
        telemetry=TelemetryConfig(
            logging=logging_to_python(),
            metrics=metrics,
            global_tags={"service": service},
            attach_service_name=False,
        )
    )


def tracing_interceptors() -> Sequence[Interceptor]:
    """What a client, and the workers with it, need for traces; none where those are off."""
    tracer = tracing.tracer()
    if tracer is None:
        return ()
    from temporalio.contrib.opentelemetry import TracingInterceptor  # noqa: PLC0415 - where wanted

    # Also a schedule's runs, which nothing traced has started, are traces of their own.
    return (TracingInterceptor(tracer, always_create_workflow_spans=True),)
