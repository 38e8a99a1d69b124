"""Which stored items a census finds gone."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from temporaletl import ETLInput, PageRequest, Query, SourceProtocolError, Whole, Window
from temporaletl.census import Census, FindDeleted, takes_census
from temporaletl.messages import Mode


class ShopQuery(Query):
    accept_deletions: bool = False


async def start[T](function: Callable[..., T], *args: Any) -> T:
    return function(*args)


Start = Callable[..., Awaitable[Any]]


def request_for(stored: set[str], *, job_id: str = "j", accept: bool = False) -> PageRequest:
    job = ETLInput(
        batch_id="b", seq=1, job_id=job_id, source="shop", stream="orders", mode="full",
        window=Window(),
    )  # fmt: skip
    return PageRequest(
        job=job,
        query=ShopQuery(accept_deletions=accept),
        stored_items=lambda prefix: frozenset(stored) if prefix == "order:" else frozenset(),
    )


async def gone(census: Census, stored: set[str], **options: Any) -> list[str]:
    before = datetime.now(UTC)
    found: list[str] = []
    async with aclosing(census.pages(request_for(stored, **options), start)) as pages:
        async for page in pages:
            assert page.extracted_at is not None
            assert page.extracted_at >= before
            for record in page.records:
                assert isinstance(record, Whole)
                found.append(record.prefix)
    return found


def numbers(count: int) -> set[str]:
    return {str(number) for number in range(count)}


async def test_what_is_stored_and_not_listed_is_gone() -> None:
    census = Census("orders", lambda: numbers(20) - {"3", "7"}, prefix="order:")
    assert await gone(census, numbers(18)) == ["order:3:", "order:7:"]


async def test_what_is_there_when_it_is_asked_for_is_not_gone() -> None:
    census = Census("orders", set, lambda id_: id_ == "4", prefix="order:")
    assert await gone(census, numbers(8)) == ["order:4:"]


async def test_where_nothing_is_stored_nothing_is_listed() -> None:
    def listed() -> set[str]:
        raise AssertionError("it was asked for")

    assert await gone(Census("orders", listed, prefix="order:"), set()) == []


@pytest.mark.parametrize(("missing", "fails"), [(10, False), (11, True)])
async def test_more_than_a_few_and_a_tenth_must_be_accepted(missing: int, fails: bool) -> None:
    here = numbers(60 - missing)
    census = Census("orders", lambda: here, prefix="order:")
    if not fails:
        assert len(await gone(census, numbers(60))) == missing
        return
    with pytest.raises(SourceProtocolError, match=r"shop: 11 of the 60 orders .*accept_deletions"):
        await gone(census, numbers(60))
    assert len(await gone(census, numbers(60), accept=True)) == 11


async def test_exact_items_are_whole_ids() -> None:
    census = Census("orders", lambda: {"1:a"}, prefix="order:", exact=True)
    request = replace(request_for(set()), stored_ids=lambda _: frozenset({"1:a", "1:b"}))
    async with aclosing(census.pages(request, start)) as pages:
        records = [record async for page in pages for record in page.records]
    assert records == [Whole("order:1:b", exact=True)]


async def test_one_census_asks_for_no_more_than_it_may_and_another_for_others() -> None:
    asked: list[str] = []

    def is_gone(id_: str) -> bool:
        asked.append(id_)
        return False

    census = Census("orders", set, is_gone, prefix="order:", most_asked=5)
    assert await gone(census, numbers(1000)) == []
    first = list(asked)
    assert len(set(first)) == 5
    await gone(census, numbers(1000))
    assert asked[5:] == first
    await gone(census, numbers(1000), job_id="k")
    assert set(asked[10:]) != set(first)


@pytest.mark.parametrize(
    ("find_deleted", "modes"),
    [("always", {"full", "incremental"}), ("full", {"full"}), ("never", set())],
)
def test_a_backfill_looks_for_nothing_that_is_gone(
    find_deleted: FindDeleted, modes: set[str]
) -> None:
    asked: tuple[Mode, ...] = ("full", "incremental", "backfill", "replay")
    assert {mode for mode in asked if takes_census(find_deleted, mode)} == modes
