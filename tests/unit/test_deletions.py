"""Which stored items a deletion scan finds deleted."""

from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest
from pydantic import JsonValue

from temporaletl import (
    ConfigurationError,
    ETLInput,
    Page,
    PageRequest,
    Query,
    SourceProtocolError,
    SourceUnavailableError,
    Window,
)
from temporaletl.deletions import DeletionScan, FindDeleted, Items, scans_for_deletions
from temporaletl.messages import Mode
from temporaletl.testing.scans import MemoryScan
from temporaletl.worker.scanning import scanned_pages

ORDERS = Items("order:")


def scan_job(**params: JsonValue) -> ETLInput:
    return ETLInput(
        batch_id="b", seq=1, job_id="j", source="shop", stream="orders", mode="full",
        window=Window(), params=params, scan=True,
    )  # fmt: skip


def pages_of(
    scan: DeletionScan, store: MemoryScan, cursor: Any = None, *, accept: bool = False
) -> AbstractAsyncContextManager[AsyncGenerator[Page]]:
    def declared(_request: PageRequest[Query]) -> Iterator[DeletionScan]:
        yield scan

    job = scan_job(accept_deletions=True) if accept else scan_job()
    return aclosing(scanned_pages(declared, store, PageRequest(job, Query(), cursor)))


def storing(ids: Collection[str], **options: Any) -> MemoryScan:
    return MemoryScan(lambda: [f"order:{id_}:created" for id_ in ids], **options)


def listing(*ids: str) -> Callable[[JsonValue], Iterator[tuple[Collection[str], JsonValue]]]:
    """A list of one item a page, that can be taken up behind each."""

    def list_ids(position: JsonValue) -> Iterator[tuple[Collection[str], JsonValue]]:
        for following, id_ in enumerate(ids, 1):
            if following > int(str(position or 0)):
                yield [id_], following

    return list_ids


async def run(scan: DeletionScan, store: MemoryScan, **options: Any) -> list[str]:
    """Scan to the end of a job; return its pages' notes."""
    notes: list[str | None] = []
    async with pages_of(scan, store, **options) as pages:
        async for page in pages:
            store.take(page)
            notes.append(page.note)
    return [note for note in notes if note]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


async def test_what_is_stored_and_not_listed_is_deleted() -> None:
    store = storing(numbers(18))
    scan = DeletionScan("orders", ORDERS, listing(*sorted({*numbers(20)} - {"3", "7"})))
    assert await run(scan, store) == []
    assert store.deleted == ["order:3:", "order:7:"]


async def test_what_is_there_when_it_is_checked_is_not_deleted() -> None:
    store = storing(numbers(8))
    await run(DeletionScan("orders", ORDERS, listing(), lambda id_: id_ == "4"), store)
    assert store.deleted == ["order:4:"]


async def test_what_is_there_again_when_it_is_to_be_deleted_stays() -> None:
    asked: list[str] = []

    def is_deleted(id_: str) -> bool:
        asked.append(id_)
        return id_ == "4" or asked.count(id_) == 1

    store = storing(numbers(8))
    await run(DeletionScan("orders", ORDERS, listing("0", "1", "2", "3"), is_deleted), store)
    assert store.deleted == ["order:4:"]
    assert {asked.count(id_) for id_ in "4567"} == {2}


async def test_where_nothing_is_stored_nothing_is_listed() -> None:
    def listed(_: JsonValue) -> Iterator[Any]:
        raise AssertionError("it was asked for")

    store = storing([])
    await run(DeletionScan("orders", ORDERS, listed), store)
    assert store.deleted == []


@pytest.mark.parametrize(("missing", "fails"), [(10, False), (11, True)])
@pytest.mark.parametrize("is_deleted", [None, lambda _: True])
async def test_more_than_a_few_and_a_tenth_must_be_accepted(
    missing: int, fails: bool, is_deleted: Callable[[str], bool] | None
) -> None:
    scan = DeletionScan("orders", ORDERS, listing(*numbers(60 - missing)), is_deleted)
    store = storing(numbers(60))
    if not fails:
        await run(scan, store)
        assert len(store.deleted) == missing
        return
    with pytest.raises(SourceProtocolError, match=r"shop: 11 of the 60 orders .*accept_deletions"):
        await run(scan, store)
    assert store.deleted == []
    await run(scan, store, accept=True)
    assert len(store.deleted) == 11


async def test_exact_items_are_whole_ids() -> None:
    store = MemoryScan(lambda: ["order:1:a", "order:1:b"])
    await run(DeletionScan("rows", Items("order:", exact=True), listing("1:a")), store)
    assert store.deleted == ["order:1:b"]


async def test_one_scan_checks_no_more_than_it_may() -> None:
    asked: list[str] = []

    def is_deleted(id_: str) -> bool:
        asked.append(id_)
        return False

    store = storing(numbers(1000))
    await run(DeletionScan("orders", ORDERS, listing(), is_deleted, max_checks=70), store)
    assert len(asked) == 70
    assert store.deleted == []


async def test_an_account_that_sees_less_deletes_nothing_and_says_what_to_do() -> None:
    store = storing(numbers(8))
    store.lacking = "account 'me' lacks 1 of the 2 containers it had when rows were loaded: 'A'"
    scan = DeletionScan("orders", ORDERS, listing("1"))
    with pytest.raises(SourceProtocolError, match=r"lacks 1 of the 2 .*accept_deletions=true"):
        await run(scan, store)
    assert store.findings == {}
    assert store.deleted == []
    await run(scan, store, accept=True)
    assert len(store.deleted) == 7


async def test_an_account_that_loses_its_view_while_it_lists_deletes_nothing() -> None:
    store = storing(numbers(8))

    def listed(_: JsonValue) -> Iterator[Any]:
        yield ["1"], 1
        store.lacking = "less"

    with pytest.raises(SourceProtocolError, match="less"):
        await run(DeletionScan("orders", ORDERS, listed), store)
    assert store.deleted == []


async def test_what_a_narrower_scope_covers_no_more_stays_and_is_told_of() -> None:
    store = storing(numbers(60), scope=["all orders"])
    narrow = DeletionScan("orders", ORDERS, listing("1"), scope=["the orders of A"])
    (note,) = await run(narrow, store)
    assert "59 orders are stored that what is read covers no more (without all orders)" in note
    assert store.deleted == []
    # From now on like is compared with like.
    assert await run(DeletionScan("orders", ORDERS, listing(), scope=narrow.scope), store) == []
    assert store.deleted == ["order:1:"]


async def test_what_was_left_behind_is_looked_for_where_a_person_asks_for_it() -> None:
    store = storing(numbers(3), scope=["all orders"])
    narrow = DeletionScan("orders", ORDERS, listing("1"), scope=["the orders of A"])
    await run(narrow, store)
    await run(narrow, store, accept=True)
    assert store.deleted == ["order:0:", "order:2:"]


async def test_an_account_that_is_nobody_while_items_are_asked_for_deletes_nothing() -> None:
    store = storing(numbers(3))

    def is_deleted(_: str) -> bool:
        store.lacking = "less"
        return True

    with pytest.raises(SourceProtocolError, match="less"):
        await run(DeletionScan("orders", ORDERS, listing(), is_deleted), store)
    assert (store.deleted, store.count("gone")) == ([], 0)


async def test_an_item_that_the_source_fails_at_is_not_gone() -> None:
    store = storing(numbers(4))

    def is_deleted(id_: str) -> bool:
        if id_ == "2":
            raise SourceUnavailableError("500 for good")
        return True

    await run(DeletionScan("orders", ORDERS, listing(), is_deleted), store)
    assert store.deleted == ["order:0:", "order:1:", "order:3:"]


async def test_a_wider_scope_deletes_as_ever() -> None:
    store = storing(numbers(3), scope=["ann"])
    await run(DeletionScan("orders", ORDERS, listing("1"), scope=["ann", "bob"]), store)
    assert store.deleted == ["order:0:", "order:2:"]


@pytest.mark.parametrize(
    "list_ids", [listing(*numbers(9)), lambda _: iter([(numbers(4), None), (numbers(9), None)])]
)
async def test_a_scan_that_is_interrupted_behind_every_page_comes_to_the_same_end(
    list_ids: Any,
) -> None:
    store = storing(numbers(12))
    scan = DeletionScan("orders", ORDERS, list_ids, lambda id_: id_ != "10")
    cursor: Any = None
    for _ in range(40):
        async with pages_of(scan, store, cursor) as pages:
            page = await anext(pages, None)
        if page is None:
            break
        store.take(page)
        cursor = page.cursor
    assert page is None
    assert store.deleted == ["order:11:", "order:9:"]


async def test_a_scan_whose_findings_a_crash_lost_begins_anew() -> None:
    store = storing(numbers(12))
    scan = DeletionScan("orders", ORDERS, listing(*numbers(9)))
    async with pages_of(scan, store) as pages:
        for _ in range(5):
            page = await anext(pages)
            store.take(page)
    store.findings.clear()
    store.intact = False
    await run(scan, store, cursor=page.cursor)
    assert store.deleted == ["order:10:", "order:11:", "order:9:"]


async def test_a_scan_whose_time_is_over_says_that_it_goes_on() -> None:
    store = storing(numbers(5))
    store.over = True
    (note,) = await run(DeletionScan("orders", ORDERS, listing("1", "2", "3")), store)
    assert "goes on in the next run: 1 are listed so far" in note
    assert store.deleted == []


async def test_a_list_that_cannot_be_taken_up_is_read_to_its_end() -> None:
    store = storing(numbers(2))
    store.over = True
    await run(DeletionScan("orders", ORDERS, lambda _: iter([(["1"], None)])), store)
    assert store.deleted == ["order:0:"]


async def test_a_cursor_that_an_earlier_version_left_is_gone_on_from() -> None:
    store = storing(numbers(12))
    store.findings.update(dict.fromkeys(numbers(9), "listed"))
    store.findings.update(dict.fromkeys(("9", "10"), "missing"))
    scan = DeletionScan("orders", ORDERS, listing(), lambda id_: id_ != "10")
    since = "2024-05-01T12:00:00+00:00"
    await run(scan, store, cursor={"phase": "check", "since": since, "position": 12})
    assert store.deleted == ["order:9:"]


async def test_what_a_scan_opened_is_let_go_of_however_it_ends() -> None:
    left: list[str] = []

    def declared(_request: PageRequest[Query]) -> Iterator[DeletionScan]:
        try:
            yield DeletionScan("orders", ORDERS, listing("1", "2", "3"))
        finally:
            left.append("left")

    store = storing(numbers(5))
    request = PageRequest(scan_job(), Query())
    async with aclosing(scanned_pages(declared, store, request)) as pages:
        await anext(pages)
    assert left == ["left"]
    store.lacking = "less"
    with pytest.raises(SourceProtocolError):
        await anext(scanned_pages(declared, store, request))
    assert left == ["left", "left"]


async def test_a_cursor_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="deletion scan"):
        await run(DeletionScan("orders", ORDERS, listing()), storing([]), cursor="42")


@pytest.mark.parametrize(
    ("find_deleted", "modes"),
    [
        ("always", {"full", "incremental"}),
        ("daily", {"full", "incremental"}),
        ("full", {"full"}),
        ("never", set()),
    ],
)
@pytest.mark.parametrize("scanned", [False, True])
def test_a_backfill_looks_for_nothing_that_is_gone(
    find_deleted: FindDeleted, modes: set[str], scanned: bool
) -> None:
    asked: tuple[Mode, ...] = ("full", "incremental", "backfill", "replay")
    found = {mode for mode in asked if scans_for_deletions(find_deleted, mode, scanned=scanned)}
    assert found == modes - ({"incremental"} if scanned and find_deleted == "daily" else set())
