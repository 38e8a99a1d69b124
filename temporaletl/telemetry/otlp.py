"""OpenTelemetry: whether it is wanted, and where to, by its standard variables.

It is on where an endpoint is named for a signal, OTEL_SDK_DISABLED is not true, and the extra
`otel` is installed. Off, nothing of it is imported. The SDK of OpenTelemetry reads the other
variables itself: samplers, attributes of the resource, timeouts, certificates.
"""

import os
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Literal, NamedTuple
from urllib.parse import unquote

from temporaletl.secrets import remember_secret
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.telemetry.exporting")

Signal = Literal["traces", "metrics"]

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"


class _Names(NamedTuple):
    """The variables of one signal, which go before those of both."""

    endpoint: str
    headers: str
    protocol: str
    exporter: str


_OF: dict[Signal, _Names] = {
    "traces": _Names(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_TRACES_EXPORTER",
    ),
    "metrics": _Names(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        "OTEL_METRICS_EXPORTER",
    ),
}
#: Those that are read here; whoever lists settings names them, too.
SECRET_VARIABLES = (_HEADERS, *(names.headers for names in _OF.values()))
VARIABLES = (
    *(_ENDPOINT, _PROTOCOL, "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_SDK_DISABLED"),
    *(name for of in _OF.values() for name in (of.endpoint, of.protocol, of.exporter)),
)
_EXTRA = "pip install 'temporaletl[otel]'"
_DEFAULT_INTERVAL_MILLISECONDS = 60_000


@dataclass(frozen=True, slots=True)
class Target:
    """Where a signal goes, and with what headers; they may hold a key, which is no log's."""

    url: str
    headers: dict[str, str] = field(repr=False)


def target(signal: Signal) -> Target | None:
    """Where a signal is exported to; None where it is not wanted, or cannot be, which is logged."""
    names = _OF[signal]
    own, base = _value(names.endpoint), _value(_ENDPOINT)
    exporter = _value(names.exporter).lower() or "otlp"
    if not (own or base) or exporter == "none" or _value("OTEL_SDK_DISABLED").lower() == "true":
        return None
    if (why := _unfit(signal, exporter)) is not None:
        _say_off(signal, why)
        return None
    headers = _headers(_value(names.headers) or _value(_HEADERS))
    return Target(own or f"{base.rstrip('/')}/v1/{signal}", headers)


def interval_seconds() -> float:
    """How often metrics are exported."""
    text = _value("OTEL_METRIC_EXPORT_INTERVAL")
    return (int(text) if text.isdigit() and int(text) else _DEFAULT_INTERVAL_MILLISECONDS) / 1_000


def _unfit(signal: Signal, exporter: str) -> str | None:
    protocol = _value(_OF[signal].protocol) or _value(_PROTOCOL)
    if exporter != "otlp":
        return f"{_OF[signal].exporter}={exporter}: otlp or none"
    if protocol not in ("", "http/protobuf"):
        return f"{_PROTOCOL}={protocol}: only http/protobuf is spoken"
    try:
        installed = find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        installed = False
    return None if installed else f"{_EXTRA} installs what it takes"


@cache
def _say_off(signal: Signal, why: str) -> None:
    log.warning("telemetry_off", signal=signal, reason=why)


def _value(name: str) -> str:
    return os.environ.get(name, "").strip()


def _headers(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(","):
        name, is_pair, value = part.partition("=")
        if is_pair:
            found[name.strip().lower()] = unquote(value.strip())
    for value in found.values():
        remember_secret(value)
    return found
