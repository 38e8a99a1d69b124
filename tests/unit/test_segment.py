"""Segments of a job: pages, interruptions, cancellation and superseded attempts."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from temporaletl.errors import (
    ConfigurationError,
    RateLimitedError,
    SourceUnavailableError,
    WarehouseUnavailableError,
)
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import JobProgress, RunPolicy, SegmentResult
from temporaletl.worker.loading import PageLoad
from tests.unit.loading_double import (
    NOW,
    Listener,
    Shop,
    ShopQuery,
    counting,
    failing,
    gate,
    never,
    order,
    shop,
)
from tests.waiting import until

__all__ = ["shop"]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


async def test_all_pages_are_loaded_in_order_and_the_job_ends(shop: Shop) -> None:
    shop.extract = counting(7, size=3)
    listener = Listener()
    result = await shop.run(listener=listener)

    assert result.done
    assert result.progress.state == "completed"
    assert (result.progress.records, result.progress.cursor) == (21, 7)
    assert shop.loaded == numbers(21)
    assert [load.number for load in shop.loads] == list(range(len(shop.loads)))
    assert [report.pages for report in listener.reports] == list(range(1, len(shop.loads) + 1))
    assert shop.closed == 1


async def test_a_job_without_records_completes(shop: Shop) -> None:
    shop.extract = counting(0)
    assert (await shop.run()).progress.state == "completed"
    assert shop.loads == []


async def test_a_page_without_records_still_moves_the_cursor(shop: Shop) -> None:
    shop.extract = counting(1, size=0)
    assert (await shop.run()).progress.cursor == 1


async def test_pages_that_wait_are_loaded_together_up_to_rows_per_page(shop: Shop) -> None:
    ahead = threading.Event()

    async def extract(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        async for page in counting(12, size=10)(request):
            yield page
            if page.cursor == 5:
                ahead.set()

    shop.extract = extract
    shop.before_load = gate(ahead)
    await shop.run(rows_per_page=30)

    assert shop.loads[1].records == 30
    assert all(load.records <= 30 for load in shop.loads)
    assert shop.loaded == numbers(120)


async def test_rows_not_records_are_what_is_counted_together(shop: Shop) -> None:
    """A record that becomes ten rows fills a transaction ten times as fast."""
    shop.extract = counting(12, size=10)
    shop.transform = lambda record, context: [
        row for part in range(10) for row in order(f"{record}.{part}", context)
    ]
    await shop.run(rows_per_page=200)
    assert all(len(load.rows) <= 300 for load in shop.loads[1:])


async def test_a_page_is_never_split(shop: Shop) -> None:
    shop.extract = counting(2, size=50)
    await shop.run(rows_per_page=10)
    assert [load.records for load in shop.loads] == [50, 50]


async def test_segments_of_no_time_load_a_page_each_and_lose_none(shop: Shop) -> None:
    shop.extract = counting(9, size=2)
    segments = 0
    while not (await shop.run(seconds=0)).done:
        segments += 1
        assert segments < 10
    assert shop.loaded == numbers(18)
    assert segments > 0
    assert shop.closed == segments + 1


async def test_the_first_page_is_waited_for_beyond_the_segments_time(shop: Shop) -> None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()

    async def extract(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        await arrived.wait()
        async for page in counting(1)(request):
            yield page

    shop.extract = extract
    loop.call_later(0.05, arrived.set)
    result = await shop.run(seconds=0)
    assert result.progress.pages == 1


async def test_a_source_that_brings_no_page_is_told_before_the_segments_time_is_over(
    shop: Shop,
) -> None:
    shop.extract = never
    shop.policy = RunPolicy(activity_timeout=timedelta(seconds=0.2))
    with pytest.raises(SourceUnavailableError, match=r"shop orders: no page came in 0:00:00\.19"):
        await shop.run()
    assert shop.closed == 1


async def test_pages_in_time_are_loaded_though_the_segment_takes_longer(shop: Shop) -> None:
    async def extract(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        async for page in counting(3)(request):
            yield page
            await asyncio.sleep(0.1)

    shop.extract = extract
    shop.policy = RunPolicy(activity_timeout=timedelta(seconds=0.2))
    assert (await shop.run()).done
    assert shop.loaded == numbers(3)


async def test_a_source_that_hangs_is_left_when_the_time_is_over(shop: Shop) -> None:
    shop.extract = counting(1, then=never)
    result = await shop.run(seconds=0.05)
    assert (result.done, result.progress.pages, result.progress.state) == (False, 1, "running")
    assert shop.closed == 1


async def test_a_source_that_takes_its_cancellation_for_its_end_is_not_at_its_end(
    shop: Shop,
) -> None:
    async def extract(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        async for page in counting(1)(request):
            yield page
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    shop.extract = extract
    result = await shop.run(seconds=0.05)
    assert not result.done
    assert shop.progress.state == "running"


async def test_a_source_that_ignores_its_cancellation_is_left_at_its_next_page(shop: Shop) -> None:
    async def extract(_request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        for page in range(1000):
            try:
                yield Page(records=[page], cursor=page + 1)
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue

    shop.extract = extract
    assert not (await shop.run(seconds=0.02)).done
    assert shop.loaded == numbers(len(shop.loaded))
    assert len(shop.loaded) < 1000


async def test_a_stop_ends_the_segment_at_the_page_boundary(shop: Shop) -> None:
    shop.extract = counting(100)
    result = await shop.run(listener=Listener(stop_after=2))
    assert (result.done, result.progress.pages) == (False, 2)
    assert shop.closed == 1


async def test_a_stop_does_not_wait_for_the_source(shop: Shop) -> None:
    shop.extract = counting(1, then=never)
    result = await shop.run(listener=Listener(stop_after=1))
    assert (result.done, result.progress.pages) == (False, 1)


async def test_a_stop_before_the_first_page_loads_nothing(shop: Shop) -> None:
    shop.extract = counting(5)
    listener = Listener()
    listener.stopping.set()
    result = await shop.run(listener=listener)
    assert (result.done, shop.loads) == (False, [])


async def test_an_interruption_before_any_page_is_raised(shop: Shop) -> None:
    shop.extract = failing(SourceUnavailableError("broke off"))
    with pytest.raises(SourceUnavailableError, match="broke off"):
        await shop.run()


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (SourceUnavailableError("broke off"), timedelta(seconds=1)),
        (RateLimitedError("broke off", delay=timedelta(minutes=5)), timedelta(minutes=5)),
    ],
)
async def test_an_interruption_after_a_page_ends_the_segment_and_says_how_long_to_wait(
    shop: Shop, error: Exception, wait: timedelta
) -> None:
    shop.extract = counting(6, then=failing(error))
    assert await shop.run() == SegmentResult(
        progress=shop.progress.model_copy(update={"error": "broke off"}), done=False, wait=wait
    )
    assert shop.loaded == numbers(6)


async def test_what_was_loaded_by_earlier_segments_does_not_hide_an_interruption(
    shop: Shop,
) -> None:
    """Else a source that is down for good would be asked for ever."""
    shop.progress = JobProgress(state="running", stream="orders", pages=3, cursor=3)
    shop.extract = failing(SourceUnavailableError("broke off"))
    with pytest.raises(SourceUnavailableError):
        await shop.run()


@pytest.mark.parametrize("kind", [ConfigurationError, ZeroDivisionError])
async def test_pages_before_a_permanent_error_are_loaded(shop: Shop, kind: type[Exception]) -> None:
    shop.extract = counting(6, then=failing(kind("no more")))
    with pytest.raises(kind, match="no more"):
        await shop.run()
    assert shop.loaded == numbers(6)


async def test_a_warehouse_that_breaks_off_after_a_page_ends_the_segment(shop: Shop) -> None:
    def break_off(page: PageLoad) -> None:
        if page.number == 1:
            raise WarehouseUnavailableError("gone")

    shop.extract = counting(3)
    shop.before_load = break_off
    result = await shop.run()
    assert (result.done, result.progress.pages, result.progress.error) == (False, 1, "gone")
    shop.before_load = None
    assert (await shop.run()).done
    assert shop.loaded == numbers(3)


async def test_a_superseded_attempt_leaves_the_job_to_the_other(shop: Shop) -> None:
    def other_loads(page: PageLoad) -> None:
        if page.number == 1:
            shop.progress = shop.progress.model_copy(update={"pages": 2, "cursor": 2})

    shop.extract = counting(3)
    shop.before_load = other_loads
    result = await shop.run()
    assert (result.done, result.wait) == (False, None)
    assert shop.progress.state == "running"


async def test_a_job_that_has_ended_is_not_modified(shop: Shop) -> None:
    shop.progress = JobProgress(state="cancelled", stream="orders", pages=2)
    shop.extract = failing(AssertionError("it was extracted"))
    assert await shop.run() == SegmentResult(progress=shop.progress, done=True)


async def test_a_segment_that_is_cancelled_while_it_loads_closes_the_source(shop: Shop) -> None:
    committing, commit = threading.Event(), threading.Event()

    def slow(_page: PageLoad) -> None:
        committing.set()
        assert commit.wait(timeout=120)

    shop.extract = counting(100)
    shop.before_load = slow
    running = asyncio.create_task(shop.run())
    await until(committing.is_set)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert shop.closed == 1
    commit.set()
    await until(lambda: len(shop.loads) == 1)


async def test_rows_are_as_new_as_the_oldest_page_they_came_with(shop: Shop) -> None:
    ahead = threading.Event()

    async def extract(_request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        for page in range(3):
            yield Page(records=[page], cursor=page, extracted_at=NOW + timedelta(hours=page))
        ahead.set()

    shop.extract = extract
    shop.before_load = gate(ahead)
    await shop.run(rows_per_page=100)
    assert shop.loads[0].extracted_at == NOW
    assert shop.loaded == numbers(3)


async def test_a_bad_parameter_is_named_before_the_ledger_is_touched(shop: Shop) -> None:
    shop.extract = counting(1)
    with pytest.raises(ConfigurationError, match="takes no parameter 'rigeon'"):
        await shop.run(params={"rigeon": "north"})
    assert shop.progress.state == "planned"
