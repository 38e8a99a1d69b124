"""The HTTP server under every fake."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Concatenate, Protocol

from temporaletl.testing.fakes.exchange import Exchange, Request, Response, Traffic
from temporaletl.testing.fakes.faults import Fault, Faults
from temporaletl.testing.fakes.server import FakeServer, Service

__all__ = [
    "Exchange",
    "FakeServer",
    "Request",
    "Response",
    "Serve",
    "Service",
    "Traffic",
    "serving",
]


class Serve[D](Protocol):
    """Creates a server of a fake's data, not started yet.

    The named arguments are those of `FakeServer`; what is left goes to the fake's service.
    """

    def __call__(
        self,
        data: D,
        /,
        *,
        faults: Iterable[str | Fault] | Faults = (),
        seed: int = 0,
        port: int = 0,
        latency: timedelta = timedelta(0),
        requests_per_second: float | None = None,
        **service: Any,
    ) -> FakeServer: ...


def serving[D](make: Callable[Concatenate[D, ...], Service]) -> Serve[D]:
    """Return the `serve` of a fake; `make` creates its service from its data."""

    def serve(
        data: D,
        /,
        *,
        faults: Iterable[str | Fault] | Faults = (),
        seed: int = 0,
        port: int = 0,
        latency: timedelta = timedelta(0),
        requests_per_second: float | None = None,
        **service: Any,
    ) -> FakeServer:
        return FakeServer(
            make(data, **service),
            port=port,
            faults=faults,
            seed=seed,
            latency=latency,
            requests_per_second=requests_per_second,
        )

    return serve
