"""Links and tokens that repeat a credential: no table and no history keeps it."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest

import temporaletl as etl
from temporaletl import Page, PageRequest, SourceProtocolError
from temporaletl.external import http, rest
from temporaletl.external.rest import TokenSettings
from temporaletl.external.rest.narrowing import Gap
from temporaletl.messages import QueuerInput
from temporaletl.testing.batch import Batch
from temporaletl.testing.contents import read_as_text
from temporaletl.warehouse.connection import Warehouse
from tests.fakes.exchange import Request, Response
from tests.fakes.server import FakeServer
from tests.integration.rest_reading import Odd, number_of, page_of

SECRET = "EAAB-a-secret+token/0123456789"

by_token = partial(rest.by_token, records="orders", next="next", token="after")
by_link = partial(rest.by_link, records="orders")


@rest.rest_source("graph", streams=("linked", "asked", "token"))
class GraphSettings(TokenSettings, alias_generator=rest.variables("GRAPH")): ...


@etl.query_type("graph")
class GraphQuery(etl.Query): ...


@etl.extract_method("graph-linked")
async def linked(request: PageRequest[GraphQuery]) -> AsyncGenerator[Page]:
    api = rest.open_api("graph", GraphSettings.load())
    async for page in by_link(api, "linked", request, next="paging.next"):
        yield page


@etl.extract_method("graph-asked")
async def asked(request: PageRequest[GraphQuery]) -> AsyncGenerator[Page]:
    settings = GraphSettings.load()
    params = {"access_token": settings.token.get_secret_value(), "fields": "id"}
    api = rest.open_api("graph", settings)
    async for page in by_link(api, "asked", request, next="paging.next", params=params):
        yield page


@etl.extract_method("graph-token")
async def token(request: PageRequest[GraphQuery]) -> AsyncGenerator[Page]:
    api = rest.open_api("graph", GraphSettings.load())
    async for page in by_token(api, "token", request):
        yield page


class Linked(msgspec.Struct):
    id: int


@etl.transform_method("graph")
@rest.decoded(Linked)
def events(record: Linked, context: etl.TransformContext[GraphQuery]) -> Iterator[etl.Event]:
    yield etl.Event(
        event_id=f"{context.job.stream}:{record.id}",
        event_type="met",
        event_time_utc=datetime(2025, 1, 1, tzinfo=UTC),
        parent_item_id=str(record.id),
    )


def graph(request: Request) -> Response:
    """As Graph does: a link repeats the credential that it was asked with."""
    if request.path == "/v1/asked" and request.first("access_token", "") != SECRET:
        return Response.of({"error": "who are you?"}, 401)
    number = number_of(request)
    secret = SECRET if number % 2 else "".join(f"%{ord(each):02x}" for each in SECRET)
    link = f"http://graph.internal{request.path}?access_token={secret}&page={number + 1}&z="
    following = {"next": link} if number < 4 else {}
    return page_of([number], paging=following, next=f"https://h/?access_token={SECRET}")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Odd]:
    service = Odd(graph)
    with FakeServer(service) as server:
        monkeypatch.setenv("GRAPH_URL", f"{server.url}/v1")
        monkeypatch.setenv("GRAPH_TOKEN", SECRET)
        yield service
        rest.close_apis()


@pytest.mark.parametrize("stream", ["linked", "asked"])
def test_no_credential_of_a_link_is_kept(served: Odd, warehouse: Warehouse, stream: str) -> None:
    request = QueuerInput(source="graph", mode="full", streams=(stream,))
    batch = Batch(warehouse)
    asyncio.run(batch.run(request, scheduled=datetime.now(UTC), pages_per_segment=1))
    kept = read_as_text(warehouse) + batch.history
    assert "page=2" in kept
    assert "0123456789" not in kept
    assert "%" not in "".join(line for line in kept.splitlines() if "access_token" in line)
    assert batch.rows.inserted == 4
    assert served.asked[-1].startswith(f"/v1/{stream}?page=4&z=")


def test_a_token_that_holds_a_credential_is_refused(served: Odd, warehouse: Warehouse) -> None:
    request = QueuerInput(source="graph", mode="full", streams=("token",))
    with pytest.raises(SourceProtocolError, match="holds a credential") as raised:
        asyncio.run(Batch(warehouse).run(request, scheduled=datetime.now(UTC)))
    assert SECRET not in str(raised.value) + read_as_text(warehouse)
    assert len(served.asked) == 1


async def test_no_credential_is_kept_of_a_list_that_cannot_give_a_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answering(request: Request) -> Response:
        number, size = number_of(request), int(request.first("per_page", ""))
        if size > 1 or number == 2:
            return Response.of({"error": "this record breaks us"}, 500)
        return page_of([number][: number < 4], more=False)

    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)
    with FakeServer(Odd(answering)) as server:
        monkeypatch.setenv("GRAPH_URL", f"{server.url}/v1")
        monkeypatch.setenv("GRAPH_TOKEN", SECRET)
        monkeypatch.setenv("GRAPH_PAGE_SIZE", "3")
        job = etl.ETLInput(
            batch_id="b", seq=0, job_id="j", source="graph", stream="linked", mode="full"
        )
        pages = rest.by_number(
            rest.open_api("graph", GraphSettings.load()),
            "linked",
            PageRequest(job=job, query=GraphQuery()),
            records="orders",
            total="total",
            params={"access_token": SECRET, "fields": "id"},
        )
        page = await anext(pages)
        await pages.aclose()
        rest.close_apis()
    (reject,) = page.rejects
    assert isinstance(reject.payload, Gap)
    assert reject.payload.params == {"fields": "id"}
