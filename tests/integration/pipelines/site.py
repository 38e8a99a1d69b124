"""A site on loopback that pipelines send requests to: routes that tests give."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.faults import Faults
from tests.fakes.server import Exchange, FakeServer, Request, Response

Route = Callable[[Request], Response]


class Site:
    """Answers by path; see `tests.fakes.server.Service`."""

    own_faults: dict[str, str] = {}  # noqa: RUF012 - as of every service

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.url = ""
        self.server = FakeServer(self)

    def bind(self, base_url: str, faults: Faults) -> None:
        self.url = base_url
        self.faults = faults

    def refuse(self, status: int) -> Response:
        return Response.of({"error": "slow down"}, status)

    def answer(self, request: Request) -> Response:
        route = self.routes.get(request.path)
        return route(request) if route else Response.of({"error": "nothing here"}, 404)

    def requests(self, path: str = "") -> list[Request]:
        found: list[Exchange] = self.server.traffic.requested(path)
        return [one.request for one in found]


@contextmanager
def serving_site(patch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site that the guarded client of this process, and of its children, may reach."""
    site = Site()
    with site.server as server:
        patch.setenv("PIPELINE_ALLOWED_NETWORKS", "127.0.0.0/8")
        patch.setenv("PIPELINE_ALLOWED_PORTS", str(server.port))
        yield site
