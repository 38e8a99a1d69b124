"""The HTTP server under every fake."""

from temporaletl.testing.fakes.exchange import Exchange, Request, Response, Traffic
from temporaletl.testing.fakes.server import (
    FakeServer,
    Service,
    open_server,
    run_alone,
    serving_options,
)

__all__ = [
    "Exchange",
    "FakeServer",
    "Request",
    "Response",
    "Service",
    "Traffic",
    "open_server",
    "run_alone",
    "serving_options",
]
