"""What a source's own fake is built on: an HTTP server on loopback, with faults on request."""

from temporaletl.testing.fakes.exchange import Exchange, Request, Response, Traffic
from temporaletl.testing.fakes.faults import (
    ANSWERS,
    ENDLESS,
    IN_BODY,
    IN_PLACE,
    TRANSPORT,
    Fault,
    Faults,
    FaultSpecError,
)
from temporaletl.testing.fakes.server import (
    Complaining,
    FakeServer,
    Service,
    open_server,
    run_alone,
    serving_options,
)

__all__ = [
    "ANSWERS",
    "ENDLESS",
    "IN_BODY",
    "IN_PLACE",
    "TRANSPORT",
    "Complaining",
    "Exchange",
    "FakeServer",
    "Fault",
    "FaultSpecError",
    "Faults",
    "Request",
    "Response",
    "Service",
    "Traffic",
    "open_server",
    "run_alone",
    "serving_options",
]
