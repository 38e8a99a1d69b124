"""Every way of paging, over real HTTP, against whatever a list can do while it is read."""

import contextlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from temporaletl import (
    ETLInput,
    Page,
    PageRequest,
    RetryableError,
    SourceProtocolError,
    SourceUnavailableError,
    Window,
)
from temporaletl.external import http, rest
from temporaletl.external.rest import RestApi, TokenSettings
from temporaletl.query import Query
from tests.fakes.exchange import Request, Response
from tests.fakes.faults import TRANSPORT, Faults
from tests.fakes.server import FakeServer
from tests.fakes.shop import OWN_FAULTS, Orders, ShopService, generate

type Way = Callable[[RestApi, PageRequest[Query]], AsyncGenerator[Page]]


def way_of(paginator: Any, path: str, **how: Any) -> Way:
    return lambda api, request: paginator(api, path, request, records="orders", **how)


by_time = partial(rest.by_time, records="orders", time="updated_at", since="updated_from")
WAYS: dict[str, Way] = {
    "time": lambda api, request: by_time(api, "orders", request, page="page", more="more"),
    "time, no word of more": lambda api, request: by_time(api, "orders", request, page="page"),
    "number": way_of(rest.by_number, "orders/by-number", total="total"),
    "number, no total": way_of(rest.by_number, "orders/by-number"),
    "offset": way_of(rest.by_offset, "orders/by-offset", total="total"),
    "offset, no total": way_of(rest.by_offset, "orders/by-offset"),
    "token": way_of(
        rest.by_token, "orders/by-token", next="meta.next", token="after", size="limit"
    ),
    "link": way_of(rest.by_link, "orders/by-link", next="links.next", size="limit"),
    "link header": way_of(rest.by_link, "orders/by-link", size="limit"),
}
EVERY = pytest.mark.parametrize("way", WAYS)
JOB = ETLInput(batch_id="b", seq=0, job_id="j", source="shop", stream="orders", mode="full")


class Shop:
    """A shop that is served, and the orders that are read of it."""

    def __init__(self, server: FakeServer, service: ShopService, size: int) -> None:
        self.server = server
        self.service = service
        self.orders = service.orders
        self.use(size)

    def close(self) -> None:
        self.api.close()

    def use(self, size: int) -> None:
        self.api = RestApi(
            "shop",
            TokenSettings.model_validate(
                {
                    "url": f"{self.server.url}/v1",
                    "token": "x",
                    "page_size": size,
                }
            ),
        )

    async def pages(self, way: str, cursor: Any = None) -> AsyncGenerator[Page]:
        request = PageRequest(job=JOB, query=Query(), cursor=json.loads(json.dumps(cursor)))
        async with contextlib.aclosing(WAYS[way](self.api, request)) as pages:
            async for page in pages:
                yield page

    async def read(self, way: str) -> Counter[int]:
        """How often each order came; goes on from the last cursor as the platform does."""
        found: Counter[int] = Counter()
        cursor: Any = None
        for _ in range(30):
            try:
                async with contextlib.aclosing(self.pages(way, cursor)) as pages:
                    async for page in pages:
                        found.update(ids_of(page))
                        cursor = page.cursor
            except RetryableError:
                continue
            return found
        pytest.fail("it never comes to an end")


def ids_of(page: Page) -> list[int]:
    return [json.loads(bytes(record.raw))["id"] for record in page.records]


Serve = Callable[..., Shop]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:

        def start(orders: Orders, *faults: str, size: int = 7, seed: int = 3) -> Shop:
            service = ShopService(orders)
            known = {**TRANSPORT, **OWN_FAULTS}
            injected = Faults(faults, known=known, seed=seed, retry_after=timedelta(0))
            server = stack.enter_context(FakeServer(service, faults=injected))
            shop = Shop(server, service, size)
            stack.callback(shop.close)
            return shop

        yield start


@EVERY
@pytest.mark.parametrize("count", [0, 1, 7, 14, 60])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_every_record_is_read(serve: Serve, way: str, count: int, size: int) -> None:
    shop = serve(generate(count), size=size)
    found = await shop.read(way)
    assert set(found) == set(shop.orders.by_id)
    if not way.startswith("time"):
        assert set(found.values()) <= {1}


@EVERY
async def test_reading_goes_on_from_every_cursor(serve: Serve, way: str) -> None:
    shop = serve(generate(60))
    pages = [page async for page in shop.pages(way)]
    assert len(pages) > 7
    known: set[int] = set()
    for page in pages:
        known |= set(ids_of(page))
        rest_of_it = {id_ async for other in shop.pages(way, page.cursor) for id_ in ids_of(other)}
        assert known | rest_of_it == set(shop.orders.by_id)


@EVERY
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_paging_fault_hides_anything(serve: Serve, way: str, seed: int) -> None:
    faults = [f"{kind}:0.2" for kind in OWN_FAULTS]
    if way in {"time, no word of more", "offset, no total"}:
        # Nothing tells an empty page from the end, but that it stays empty.
        faults.remove("empty-page:0.2")
    shop = serve(generate(60, seed=seed), *faults, seed=seed)
    assert set(await shop.read(way)) == set(shop.orders.by_id)


@EVERY
@pytest.mark.parametrize("kind", [kind for kind in TRANSPORT if kind not in {"hang", "429-date"}])
async def test_no_transport_fault_hides_anything(serve: Serve, way: str, kind: str) -> None:
    shop = serve(generate(30), f"{kind}:0.2")
    assert set(await shop.read(way)) == set(shop.orders.by_id)


@EVERY
async def test_another_page_size_from_some_cursor_on_hides_nothing(serve: Serve, way: str) -> None:
    shop = serve(generate(60), size=7)
    found: set[int] = set()
    async for page in shop.pages(way):
        found |= set(ids_of(page))
        cursor = page.cursor
        if len(found) > 20:
            break
    shop.use(11)
    found |= {id_ async for page in shop.pages(way, cursor) for id_ in ids_of(page)}
    assert found == set(shop.orders.by_id)


@EVERY
async def test_a_cursor_of_another_paginator_begins_anew(serve: Serve, way: str) -> None:
    shop = serve(generate(20))
    found = {id_ async for page in shop.pages(way, ["other", 5]) for id_ in ids_of(page)}
    assert found == set(shop.orders.by_id)


MOVING = pytest.mark.parametrize("way", ["number", "offset", "offset, no total"])


@MOVING
async def test_rows_removed_in_front_hide_nothing_behind(serve: Serve, way: str) -> None:
    shop = serve(generate(60))
    found: set[int] = set()
    async for page in shop.pages(way):
        found |= set(ids_of(page))
        if len(found) < 40 and shop.orders.by_id:
            shop.orders.remove(min(shop.orders.by_id))
    assert set(shop.orders.by_id) <= found


@pytest.mark.parametrize("way", ["offset", "offset, no total"])
async def test_the_last_row_read_may_go_as_well(serve: Serve, way: str) -> None:
    shop = serve(generate(60))
    found: set[int] = set()
    gone = False
    async for page in shop.pages(way):
        found |= set(ids_of(page))
        if not gone and len(found) > 20:
            shop.orders.remove(ids_of(page)[-1])
            gone = True
    assert set(shop.orders.by_id) <= found


@pytest.mark.parametrize("way", ["time", "time, no word of more"])
async def test_records_that_change_all_the_time_hide_nothing(serve: Serve, way: str) -> None:
    shop = serve(generate(60), "changing-rows:0.5")
    found = await shop.read(way)
    assert set(found) == set(shop.orders.by_id)
    assert shop.server.faults.injected["changing-rows"] > 3


async def test_a_window_begins_where_it_says(serve: Serve) -> None:
    shop = serve(generate(60))
    times = sorted(order.updated_at for order in shop.orders.by_id.values())
    window = Window(start=times[20], end=times[40])
    assert window.start is not None
    assert window.end is not None
    for bounds in (window, Window(start=window.start), Window(end=window.end)):
        request = PageRequest(job=JOB, query=Query())
        how = {"window": bounds, "page": "page", "more": "more"}
        pages = by_time(shop.api, "orders", request, **how)  # type: ignore[arg-type]
        found = {id_ async for page in pages for id_ in ids_of(page)}
        wanted = {o.id for o in shop.orders.by_id.values() if o.updated_at in bounds}
        assert found == wanted


class Scripted:
    """Gives the same answers in order, the last one for ever."""

    own_faults: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def bind(self, base_url: str, faults: Faults) -> None: ...

    def refuse(self, status: int) -> Response:
        return Response.of({}, status)

    def answer(self, request: Request) -> Response:
        self.asked.append(request.target)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def read(way: str, *answers: Response, size: int = 2) -> tuple[list[int], Scripted]:
    service = Scripted(*answers)
    with FakeServer(service) as server:
        settings = {"url": f"{server.url}/v1", "token": "x", "page_size": size}
        api = RestApi("shop", TokenSettings.model_validate(settings))
        try:
            pages = WAYS[way](api, PageRequest(job=JOB, query=Query()))
            return [id_ async for page in pages for id_ in ids_of(page)], service
        finally:
            api.close()


def page_of(*ids: int, at: str = "2025-01-01T00:00:00Z", **more: Any) -> Response:
    return Response.of({"orders": [{"id": id_, "updated_at": at} for id_ in ids], **more})


async def test_tokens_that_lead_in_circles_are_given_up() -> None:
    with pytest.raises(SourceUnavailableError, match="leads in circles"):
        await read("token", page_of(1, 2, meta={"next": "a"}), page_of(3, meta={"next": "a"}))


async def test_two_tokens_that_lead_to_each_other_are_given_up() -> None:
    to_a, to_b = page_of(1, meta={"next": "a"}), page_of(2, meta={"next": "b"})
    with pytest.raises(SourceUnavailableError, match="leads in circles"):
        await read("token", *([to_a, to_b] * 20))


async def test_tokens_that_all_expire_are_given_up() -> None:
    expired = Response.of({"error": "expired"}, 410)
    pages = [page_of(1, meta={"next": "a"}), expired]
    with pytest.raises(SourceUnavailableError, match="keeps refusing its own pages"):
        await read("token", *(pages * 10))


async def test_a_link_to_another_host_is_followed_on_ours() -> None:
    away = "https://evil.example.com/v1/more?page=2"
    found, service = await read("link", page_of(1, links={"next": away}), page_of(2, links=None))
    assert found == [1, 2]
    assert service.asked[1] == "/v1/more?page=2"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Response.of({"error": "no such list"}), "without 'orders', where its records belong"),
        (Response.of({"orders": {"a": 1}}), "what is no list at 'orders'"),
        (Response.of([1]), "what cannot be read"),
    ],
)
@EVERY
async def test_an_answer_that_is_no_list_is_an_error_and_not_an_end(
    way: str, answer: Response, told: str
) -> None:
    with pytest.raises(SourceProtocolError, match=f"shop: /v1/orders.* answered 200 {told}"):
        await read(way, answer)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Response(200, b"<html>", "text/html"), "a page of HTML"),
        (Response(200, b'{"orders": [1', "text/html"), "no JSON"),
    ],
)
@EVERY
async def test_an_answer_that_is_none_may_be_one_later(
    way: str, answer: Response, told: str
) -> None:
    with pytest.raises(SourceUnavailableError, match=f"/v1/orders.* answered 200 with.*{told}"):
        await read(way, answer)


@EVERY
async def test_null_is_a_list_without_records(way: str) -> None:
    nothing = {"orders": None, "more": False, "meta": None, "links": None}
    found, _ = await read(way, Response.of(nothing))
    assert found == []


async def test_a_page_that_does_not_tell_whether_more_follows_is_no_end() -> None:
    with pytest.raises(SourceProtocolError, match="without 'more'"):
        await read("time", page_of(1, 2))
    found, _ = await read("time", page_of(1), page_of(1, more=True), page_of(2, more=False))
    assert set(found) == {1, 2}


async def test_a_list_in_another_order_is_an_error() -> None:
    rows = [{"id": 1, "updated_at": "2025-02-01"}, {"id": 2, "updated_at": "2025-01-01"}]
    with pytest.raises(SourceProtocolError, match="not in the order of 'updated_at'"):
        await read("time", Response.of({"orders": rows, "more": True}))


async def test_too_many_records_of_one_time_need_the_number_of_a_page() -> None:
    WAYS["time, no page"] = lambda api, request: by_time(api, "orders", request, more="more")
    try:
        with pytest.raises(SourceProtocolError, match="2 records or more of one time"):
            await read("time, no page", page_of(1, 2, more=True))
    finally:
        del WAYS["time, no page"]


async def test_more_that_never_comes_is_an_error() -> None:
    with pytest.raises(SourceProtocolError, match="says that more follows"):
        await read("time", page_of(1, 2, more=True))


async def test_a_record_whose_time_cannot_be_read_is_not_lost() -> None:
    rows = [
        {"id": 1, "updated_at": "2025-01-01"},
        {"id": 2, "updated_at": None},
        {"id": 3, "updated_at": "soon"},
        {"id": 4, "updated_at": "2025-01-02"},
    ]
    found, _ = await read("time", Response.of({"orders": rows, "more": False}), size=9)
    assert found == [1, 2, 3, 4]


async def test_a_list_whose_records_have_no_time_at_all_is_noted(serve: Serve) -> None:
    shop = serve(generate(9))
    request = PageRequest(job=JOB, query=Query())
    reading = partial(by_time, shop.api, "orders", request, page="page", more="more")
    misnamed = [page.note async for page in reading(time="changed")]
    assert misnamed
    told = "shop: orders: no record has a time at 'changed', by which the list is read: "
    assert set(misnamed) == {f"{told}does `time` name the field?"}
    assert [page.note async for page in reading()] == [None, None]


def test_moments_are_written_and_read_as_most_apis_do() -> None:
    moment = datetime(2025, 1, 31, 6, 0, 0, 250, UTC)
    assert rest.iso_utc(moment) == "2025-01-31T06:00:00.000250Z"
    assert rest.iso_utc(moment.replace(microsecond=0)) == "2025-01-31T06:00:00Z"
    assert rest.utc_from_iso("2025-01-31T07:00:00.000250+01:00") == moment
    assert rest.utc_from_iso("2025-01-31T06:00:00.00025") == moment
