"""REST servers that do not page as they should: nothing is lost in silence, or read for ever."""

import itertools
from collections import Counter
from functools import partial
from typing import Any

import pytest

from temporaletl import SourceProtocolError
from temporaletl.external import headway, rest
from tests.fakes.exchange import Request, Response
from tests.integration.rest_reading import IDS, SIZE, number_of, page_of, read, rows_of

COUNT = len(IDS)

by_number = partial(rest.by_number, records="orders")
by_offset = partial(rest.by_offset, records="orders")
by_time = partial(rest.by_time, records="orders", time="at", since="since")
by_token = partial(rest.by_token, records="orders", next="next", token="after")
by_link = partial(rest.by_link, records="orders")


def size_of(request: Request) -> int:
    return int(request.first("per_page", str(SIZE)))


def numbered(request: Request, number: int, ids: list[int] = IDS, **more: Any) -> Response:
    size = size_of(request)
    return page_of(ids[(number - 1) * size : number * size], **more)


def clamped(request: Request, ids: list[int], **more: Any) -> Response:
    """The last page for every number behind it."""
    pages = max(1, -(-len(ids) // size_of(request)))
    return numbered(request, min(number_of(request), pages), ids, **more)


def with_holes(request: Request, *, pages: int, **more: Any) -> Response:
    """Orders on the first page and the last."""
    number = number_of(request)
    ids = {1: IDS[:10], pages: IDS[10:20]}.get(number, [])
    return page_of(ids, more=number < pages, **more)


# By number


async def test_empty_pages_are_passed_where_the_server_says_that_more_follows() -> None:
    reading = await read(by_number, lambda r: with_holes(r, pages=30), more="more")
    assert (reading.ids, reading.error) == (IDS[:20], None)


async def test_empty_pages_are_passed_until_the_total_is_reached() -> None:
    reading = await read(by_number, lambda r: with_holes(r, pages=6, total=20), total="total")
    assert (reading.ids, reading.error) == (IDS[:20], None)


async def test_more_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headway, "_MOST_EMPTY", 50)
    reading = await read(by_number, lambda _: page_of([], more=True), more="more")
    assert "does not end: 51 pages in a row held nothing" in reading.failed()
    assert len(reading.asked) == 51


async def test_a_total_that_is_not_reached_in_any_round_is_no_end() -> None:
    reading = await read(by_number, lambda r: numbered(r, number_of(r), total=40), total="total")
    assert "orders gave 35 of the 40 records that it counts" in reading.failed()
    assert Counter(reading.ids) == dict.fromkeys(IDS, 3)


async def test_what_did_not_come_in_the_first_round_comes_in_the_next() -> None:
    firsts = itertools.count()

    def answering(request: Request) -> Response:
        if number_of(request) == 2 and next(firsts) == 0:
            return page_of([], total=COUNT)
        return numbered(request, number_of(request), total=COUNT)

    reading = await read(by_number, answering, total="total")
    assert set(reading.ids) == set(IDS)
    assert reading.error is None


async def test_a_total_that_shrinks_to_what_came_is_reached() -> None:
    def answering(request: Request) -> Response:
        number = number_of(request)
        return numbered(request, number, total=COUNT if number > 4 else 40)

    reading = await read(by_number, answering, total="total")
    assert set(reading.ids) == set(IDS)
    assert reading.error is None


@pytest.mark.parametrize("total", [-1, 0, True])
async def test_what_counts_nothing_is_no_total(total: object) -> None:
    def by_page(request: Request) -> Response:
        return numbered(request, number_of(request), total=total)

    def by_start(request: Request) -> Response:
        start = int(request.first("offset", "0"))
        return page_of(IDS[start : start + int(request.first("limit", ""))], total=total)

    assert (await read(by_number, by_page, total="total")).once_each()
    assert (await read(by_offset, by_start, total="total")).once_each()


@pytest.mark.parametrize("count", [0, 1, 5, 10, 35, 40])
async def test_a_last_page_that_comes_for_every_number_behind_it_is_the_end(count: int) -> None:
    ids = list(range(count))
    reading = await read(by_number, lambda r: clamped(r, ids))
    assert (reading.ids, reading.error) == (ids, None)
    assert len(reading.asked) < 12


async def test_a_page_that_comes_again_tells_what_changed_in_it() -> None:
    def answering(request: Request) -> Response:
        if number_of(request) < 5:
            return numbered(request, number_of(request))
        return Response.of({"orders": [row | {"paid": True} for row in rows_of(IDS[30:])]})

    reading = await read(by_number, answering)
    assert reading.ids == IDS + IDS[30:]


@pytest.mark.parametrize("how", [{}, {"total": "total"}, {"more": "more"}])
async def test_a_number_that_is_not_heard_is_named(how: dict[str, str]) -> None:
    reading = await read(by_number, lambda r: numbered(r, 1, total=COUNT, more=True), **how)
    assert "does it take the parameter 'page'?" in reading.failed()
    assert set(reading.ids) == set(IDS[:10])
    assert len(reading.asked) < 15


async def test_a_number_that_is_not_heard_is_so_from_any_cursor_on() -> None:
    def answering(request: Request) -> Response:
        return numbered(request, 1, total=COUNT)

    cursor = None
    for _ in range(5):
        reading = await read(by_number, answering, cursor, total="total")
        assert "gave 10 of the 35" in reading.failed()
        cursor = reading.cursors[-1] if reading.cursors else cursor


# By offset


@pytest.mark.parametrize("how", [{}, {"total": "total"}])
async def test_an_offset_that_is_not_heard_is_named(how: dict[str, str]) -> None:
    def answering(request: Request) -> Response:
        return page_of(IDS[: int(request.first("limit", ""))], total=COUNT)

    reading = await read(by_offset, answering, **how)
    assert "does it take the parameter 'offset'?" in reading.failed()
    assert len(reading.asked) < 15


async def test_a_list_that_ends_before_its_total_has_not_ended() -> None:
    def answering(request: Request) -> Response:
        start = int(request.first("offset", ""))
        return page_of(IDS[start : start + SIZE], total=40)

    reading = await read(by_offset, answering, total="total")
    assert "orders gave 35 of the 40 records" in reading.failed()
    assert reading.ids == IDS


@pytest.mark.parametrize("how", [{}, {"total": "total"}])
@pytest.mark.parametrize("count", [1, 10, 35])
async def test_an_offset_that_is_cut_down_to_the_last_page_is_the_end(
    how: dict[str, str], count: int
) -> None:
    def answering(request: Request) -> Response:
        size = int(request.first("limit", ""))
        start = min(int(request.first("offset", "")), max(0, count - size))
        return page_of(IDS[:count][start : start + size], total=count)

    reading = await read(by_offset, answering, **how)
    assert (reading.ids, reading.error) == (IDS[:count], None)


# By time


def since(request: Request, ids: list[int] = IDS) -> list[int]:
    beginning = request.first("since", "")
    return [row["id"] for row in rows_of(ids) if row["at"] >= beginning]


@pytest.mark.parametrize("how", [{}, {"page": "page"}])
async def test_a_record_that_differs_with_each_answer_is_the_last_all_the_same(
    how: dict[str, str],
) -> None:
    signatures = itertools.count()

    def answering(request: Request) -> Response:
        rows = rows_of(since(request)[:SIZE])
        return Response.of({"orders": [row | {"picture": next(signatures)} for row in rows]})

    reading = await read(by_time, answering, **how)
    assert set(reading.ids) == set(IDS)
    assert reading.error is None
    assert len(reading.asked) < 25


async def test_records_that_nothing_identifies_are_not_read_for_ever() -> None:
    numbers = itertools.count()

    def answering(_: Request) -> Response:
        return Response.of({"orders": [{"id": next(numbers), "at": "2025-01-01T00:00:00Z"}]})

    reading = await read(by_time, answering, id="number")
    assert "leads no further" in reading.failed()


@pytest.mark.parametrize("count", [1, 5, 10, 35])
async def test_a_time_whose_last_page_comes_for_every_number_behind_it_ends(count: int) -> None:
    reading = await read(by_time, lambda r: clamped(r, since(r, IDS[:count])), page="page")
    assert set(reading.ids) == set(IDS[:count])
    assert reading.error is None
    assert len(reading.asked) < 15


@pytest.mark.parametrize("count", [8, 10, 25])
@pytest.mark.parametrize("heard", [True, False])
async def test_equal_times_need_a_number_that_is_heard(count: int, heard: bool) -> None:
    rows = [{"id": id_, "at": "2025-01-01T00:00:00Z"} for id_ in range(count)]

    def answering(request: Request) -> Response:
        size = size_of(request)
        start = (min(number_of(request), -(-count // size)) - 1) * size if heard else 0
        return Response.of({"orders": rows[start : start + size]})

    reading = await read(by_time, answering, page="page")
    if heard:
        assert set(reading.ids) == set(range(count))
        assert reading.error is None
    else:
        assert "does it take the parameter 'page'?" in reading.failed()
    assert len(reading.asked) < 30


# By token and by link


@pytest.mark.parametrize("end", [False, None, ""])
async def test_a_token_of_nothing_is_none(end: object) -> None:
    def answering(request: Request) -> Response:
        number = int(request.first("after", "1"))
        return numbered(request, number, next=number + 1 if number < 4 else end)

    assert (await read(by_token, answering)).once_each()


@pytest.mark.parametrize("token", [True, ["a"], {"after": "a"}])
async def test_what_is_no_token_is_not_followed(token: object) -> None:
    reading = await read(by_token, lambda _: page_of([1], next=token))
    assert isinstance(reading.error, SourceProtocolError)
    assert "gave a 'next' that is no token" in str(reading.error)


@pytest.mark.parametrize("shuffled", [False, True])
async def test_one_page_under_ever_new_tokens_is_given_up(shuffled: bool) -> None:
    tokens = itertools.count()

    def answering(_: Request) -> Response:
        token = next(tokens)
        turn = token % SIZE if shuffled else 0
        return page_of(IDS[turn:SIZE] + IDS[:turn], next=f"token {token}")

    reading = await read(by_token, answering)
    assert "held only records of the pages before them" in reading.failed()
    # However often the reading is interrupted.
    again = await read(by_token, answering, reading.cursors[-2])
    assert "held only records of the pages before them" in again.failed()
    assert len(again.asked) < 5


@pytest.mark.parametrize("link", ["?page={}", "orders?page={}", "/v1/orders?page={}"])
@pytest.mark.parametrize("next_", [None, "next"])
async def test_a_relative_link_goes_on_from_the_page_that_gave_it(
    link: str, next_: str | None
) -> None:
    def answering(request: Request) -> Response:
        if request.path != "/v1/orders":
            return Response.of({"error": "there is nothing here"}, 404)
        number = number_of(request)
        following = link.format(number + 1) if number < 4 else None
        answer = numbered(request, number, next=following)
        if following is not None and next_ is None:
            answer.headers = {"Link": f'<{following}>; rel="next"'}
        return answer

    assert (await read(by_link, answering, next=next_)).once_each()


@pytest.mark.parametrize("link", ["http://[bad", 5, ["/v1/orders"], True])
async def test_what_is_no_link_is_not_followed(link: object) -> None:
    reading = await read(by_link, lambda _: page_of([1], next=link), next="next")
    assert isinstance(reading.error, SourceProtocolError)
    assert "gave a link that" in str(reading.error)


async def test_a_link_that_looks_like_another_host_is_not_followed() -> None:
    reading = await read(by_link, lambda _: page_of([1], next="http://h//evil/v1"), next="next")
    assert isinstance(reading.error, SourceProtocolError)
    assert len(reading.asked) == 1
