"""Building blocks of a source's fake: an HTTP server on loopback that injects faults."""

from temporaletl.testing.fakes.command import open_server, run_alone, serving_options
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
from temporaletl.testing.fakes.server import Complaining, FakeServer, Service

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
