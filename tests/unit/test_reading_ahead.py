"""Pages read ahead: in order, several completed at once, none begun once the segment ends."""

import asyncio
import itertools
from collections.abc import AsyncGenerator

import pytest

from temporaletl.errors import SourceUnavailableError
from temporaletl.external.ahead import in_order
from temporaletl.extraction import Page, PageRequest
from tests.unit.loading_double import Shop, ShopQuery, shop
from tests.waiting import until

__all__ = ["shop"]

MOST = 3


class Source:
    """Numbers that are fetched one by one; finishing each waits for `may_finish`."""

    def __init__(self, count: int, *, faults: frozenset[int] = frozenset()) -> None:
        self.fetched: list[int] = []
        self.finishing = self.most_at_once = 0
        self.may_finish = asyncio.Event()
        self._count = count
        self._faults = faults

    async def fetch(self) -> int | None:
        await asyncio.sleep(0)
        if len(self.fetched) == self._count:
            return None
        self.fetched.append(len(self.fetched))
        return self.fetched[-1]

    async def finish(self, number: int) -> int:
        self.finishing += 1
        self.most_at_once = max(self.finishing, self.most_at_once)
        try:
            await self.may_finish.wait()
        finally:
            self.finishing -= 1
        if number in self._faults:
            raise SourceUnavailableError(f"page {number}")
        return number

    def pages(self, request: PageRequest[ShopQuery]) -> AsyncGenerator[int]:
        return in_order(request, self.fetch, self.finish, most=MOST)


@pytest.fixture
def request_() -> PageRequest[ShopQuery]:
    return PageRequest(Shop().job(), ShopQuery())


async def test_several_pages_are_finished_at_once_and_yielded_in_order(
    request_: PageRequest[ShopQuery],
) -> None:
    source = Source(10)
    reading = asyncio.create_task(anext(pages := source.pages(request_)))
    await until(lambda: source.finishing == MOST)
    assert source.fetched == [0, 1, 2]
    source.may_finish.set()
    assert [await reading, *[page async for page in pages]] == list(range(10))
    assert source.most_at_once == MOST


async def test_what_comes_before_a_failure_is_yielded_before_it_is_raised(
    request_: PageRequest[ShopQuery],
) -> None:
    source = Source(10, faults=frozenset({2}))
    source.may_finish.set()
    pages = source.pages(request_)
    assert [await anext(pages), await anext(pages)] == [0, 1]
    with pytest.raises(SourceUnavailableError, match="page 2"):
        await anext(pages)


async def test_leaving_ends_what_is_under_way(request_: PageRequest[ShopQuery]) -> None:
    source = Source(10)
    reading = asyncio.create_task(anext(pages := source.pages(request_)))
    await until(lambda: source.finishing == MOST)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await pages.aclose()
    assert source.finishing == 0


async def test_what_is_under_way_when_a_segment_ends_is_loaded_and_nothing_more_is_fetched(
    shop: Shop,
) -> None:
    numbers = itertools.count()
    fetched: list[int] = []

    async def extract(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        behind = int(str(request.cursor or 0))

        async def fetch() -> int:
            await asyncio.sleep(0.001)
            fetched.append(behind + next(numbers))
            return fetched[-1]

        async def finish(number: int) -> Page:
            if len(fetched) > 2 * MOST:
                await until(lambda: request.ending.is_due)
            return Page(records=[number], cursor=number + 1)

        async for page in in_order(request, fetch, finish, most=MOST):
            yield page

    shop.extract = extract
    result = await shop.run(seconds=1)
    assert not result.done
    assert shop.loaded == [str(number) for number in fetched]
    assert result.progress.cursor == len(fetched)


async def test_an_end_that_comes_while_a_segment_ends_is_the_jobs(shop: Shop) -> None:
    async def extract(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        yield Page(records=[0], cursor=1)
        await until(lambda: request.ending.is_due)

    shop.extract = extract
    assert (await shop.run(seconds=1)).done
