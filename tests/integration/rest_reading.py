"""Lists read over REST from a server that answers whatever a test wants."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from temporaletl import ETLInput, PageRequest, SourceUnavailableError
from temporaletl.errors import ETLError
from temporaletl.external.rest import RestApi, TokenSettings
from temporaletl.query import Query
from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.server import FakeServer

type Answering = Callable[[Request], Response]

JOB = ETLInput(batch_id="b", seq=0, job_id="j", source="shop", stream="orders", mode="full")
IDS = list(range(35))
SIZE = 10


@dataclass
class Odd:
    """A server that answers as it is told."""

    answering: Answering
    own_faults: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def bind(self, base_url: str, faults: Faults) -> None: ...

    def refuse(self, status: int) -> Response:
        return Response.of({}, status)

    def answer(self, request: Request) -> Response:
        self.asked.append(request.target)
        return self.answering(request)


@dataclass
class Reading:
    """What came of a list: the ids in their order, the cursors, and how it ended."""

    asked: list[str]
    ids: list[int] = field(default_factory=list)
    cursors: list[Any] = field(default_factory=list)
    error: Exception | None = None

    def failed(self) -> str:
        assert isinstance(self.error, SourceUnavailableError)
        return str(self.error)

    def once_each(self) -> bool:
        assert self.error is None
        return self.ids == IDS


async def read(paginator: Any, answering: Answering, cursor: Any = None, **how: Any) -> Reading:
    service = Odd(answering)
    reading = Reading(service.asked)
    with FakeServer(service) as server:
        settings = {"url": f"{server.url}/v1", "token": "x", "page_size": SIZE}
        api = RestApi("shop", TokenSettings.model_validate(settings))
        request = PageRequest(job=JOB, query=Query(), cursor=json.loads(json.dumps(cursor)))
        try:
            async for page in paginator(api, "orders", request, **how):
                reading.ids += [json.loads(bytes(record.raw))["id"] for record in page.records]
                reading.cursors.append(page.cursor)
        except ETLError as error:
            reading.error = error
        finally:
            api.close()
    return reading


def rows_of(ids: list[int]) -> list[dict[str, Any]]:
    return [{"id": id_, "at": f"2025-01-01T00:{id_:02d}:00Z"} for id_ in ids]


def page_of(ids: list[int], **more: Any) -> Response:
    return Response.of({"orders": rows_of(ids), **more})


def number_of(request: Request) -> int:
    return int(request.first("page", "1"))
