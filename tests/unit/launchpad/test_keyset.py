"""Keyset pagination over bugs ends, whatever the pages lead to."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest
from pydantic import JsonValue

from temporaletl import SourceUnavailableError
from temporaletl.worker.sources.launchpad.extract import keyset as module
from temporaletl.worker.sources.launchpad.extract.client import CollectionPage, span_of
from temporaletl.worker.sources.launchpad.extract.keyset import KeysetPagination
from temporaletl.worker.sources.launchpad.extract.subjects import Hidden

ROOT = "https://launchpad.example/devel"
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)
SIZE = 5


class Search:
    """Stands for a client: a search for bugs, which all changed at one time."""

    stop = threading.Event()
    site = None

    def __init__(self, bugs: int, entries: Callable[[int, int], range]) -> None:
        self.entries = entries
        self.bugs = bugs
        self.requests = 0

    def read(self, kind: type[CollectionPage], url: str) -> CollectionPage:
        self.requests += 1
        assert self.requests < 1_500
        start, size = span_of(url)
        more = start + size < self.bugs
        return kind(
            [entry(number) for number in self.entries(start, size)],
            next_collection_link=f"{ROOT}/s?ws.size={size}&ws.start={start + size}"
            if more
            else None,
        )

    def paginate(self, cursor: JsonValue = None) -> KeysetPagination:
        hidden = Hidden(resumed=True)
        return KeysetPagination(cast("Any", self), ["~a"], None, SIZE, cursor, hidden)


def entry(number: int) -> msgspec.Raw:
    links = {"self_link": f"{ROOT}/x/+bug/{number}", "bug_link": f"{ROOT}/bugs/{number}"}
    return msgspec.Raw(json.dumps(links).encode())


@pytest.fixture(autouse=True)
def _searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "bug_searches", lambda *_: [f"{ROOT}/s"])


def numbers_of(pagination: KeysetPagination) -> Iterator[list[int]]:
    while (page := pagination.fetch()) is not None:
        yield list(page.bugs)
        pagination.advance(page, [LONG_AGO] * len(page.bugs))


def test_a_long_run_of_one_time_is_read_to_its_end() -> None:
    search = Search(1_000, lambda start, size: range(start, min(start + size, 1_000)))
    found = [number for page in numbers_of(search.paginate()) for number in page]
    assert set(found) == set(range(1_000))


def test_empty_pages_without_end_are_given_up() -> None:
    search = Search(10**9, lambda start, size: range(0 if start else size))
    with pytest.raises(SourceUnavailableError, match="does not end: 1,001 pages"):
        list(numbers_of(search.paginate()))


def test_one_page_at_every_place_is_given_up() -> None:
    search = Search(10**9, lambda _start, _size: range(SIZE))
    with pytest.raises(SourceUnavailableError, match="11 pages in a row held only tasks"):
        list(numbers_of(search.paginate()))
    assert search.requests < 20


def test_pages_that_come_again_in_whatever_order_are_given_up() -> None:
    # Behind the twelfth page follows the first one.
    search = Search(10**9, lambda start, size: range(start % 60, start % 60 + size))
    with pytest.raises(SourceUnavailableError, match="11 pages in a row held only tasks"):
        list(numbers_of(search.paginate()))
    assert search.requests < 40


def test_one_page_at_every_place_is_given_up_though_each_is_asked_for_by_another() -> None:
    search = Search(10**9, lambda _start, _size: range(SIZE))
    cursor: JsonValue = None

    def go_on() -> JsonValue:
        pagination = search.paginate(cursor)
        pages = numbers_of(pagination)
        next(pages)
        next(pages)
        return pagination.cursor

    for _ in range(12):
        cursor = go_on()
    with pytest.raises(SourceUnavailableError, match="held only tasks that came before"):
        go_on()
