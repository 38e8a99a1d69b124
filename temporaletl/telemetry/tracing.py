"""Traces by OpenTelemetry, where `telemetry.otlp` says that they are wanted; else, nothing.

    with span("load page", stream="issues"):
        ...

Off, a span costs one look at a variable, and nothing of OpenTelemetry is imported.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from temporaletl.secrets import redacted
from temporaletl.telemetry import otlp
from temporaletl.telemetry.logs import name_trace_by

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Tracer

#: Of this process; None: traces are off.
_tracer: "Tracer | None" = None


def resource_of(service: str) -> "Resource":
    """What the signals of a service say of it; OTEL_SERVICE_NAME and _RESOURCE_ATTRIBUTES win."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - where it is wanted

    own = {"service.name": f"temporaletl-{service}", "service.version": version("temporaletl")}
    chosen = Resource.create().attributes
    named = chosen.get("service.name", "unknown_service")
    if not str(named).startswith("unknown_service"):
        own.pop("service.name")
    return Resource(chosen).merge(Resource(own))


@contextmanager
def traced_process(service: str) -> Iterator[None]:
    """Inside the block, export this process's traces where OTEL_* says so."""
    global _tracer  # noqa: PLW0603 - of a process, as its logs
    if otlp.target("traces") is None:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - likewise
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=resource_of(service), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("temporaletl", version("temporaletl"))
    name_trace_by(ids)
    try:
        yield
    finally:
        _tracer = None
        name_trace_by(None)
        provider.shutdown()


def tracer() -> "Tracer | None":
    """What makes spans in this process; None where traces are off."""
    return _tracer


def span(name: str, **attributes: str | float) -> AbstractContextManager[object]:
    """A span around the block; what it raises is its status."""
    return nullcontext() if _tracer is None else _span(_tracer, name, attributes)


@contextmanager
def _span(
    current_tracer: "Tracer", name: str, attributes: Mapping[str, str | float]
) -> Iterator[None]:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    # An exception's own text could hold a secret, and its traceback, too.
    with current_tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except BaseException as error:
            text = f"{type(error).__name__}: {redacted(str(error))}"
            current.set_status(Status(StatusCode.ERROR, text))
            raise


def traced[**P, R](name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have each call of a function in a span of its own."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with span(name):
                return function(*args, **kwargs)

        return call

    return decorate


def ids() -> dict[str, Any]:
    """The ids of the present trace and span, for logs; none outside of a span."""
    from opentelemetry.trace import get_current_span  # noqa: PLC0415

    found = get_current_span().get_span_context()
    if not found.is_valid:
        return {}
    return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}
