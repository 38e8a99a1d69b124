"""The time of what is loaded is the warehouse's, whatever this machine's clock says."""

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import temporaletl.worker.sources
from temporaletl.clock import Clock, use_clock, utc_now
from temporaletl.external.threads import start
from temporaletl.extraction import Page, PageRequest
from temporaletl.query import Query
from tests.unit.loading_double import Shop, shop

__all__ = ["shop"]

_LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


def test_a_clock_goes_on_from_the_time_that_was_read() -> None:
    clock = Clock(_LONG_AGO)
    first, second = clock(), clock()
    assert _LONG_AGO <= first <= second < _LONG_AGO + timedelta(minutes=10)


def test_outside_of_a_segment_the_machines_clock_tells_the_time() -> None:
    before = datetime.now(UTC)
    assert before <= utc_now() <= datetime.now(UTC)


async def test_threads_of_a_source_see_the_segments_clock() -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(1) as threads, use_clock(lambda: _LONG_AGO):
        assert await start(threads, utc_now) == _LONG_AGO
    assert utc_now() != _LONG_AGO


async def test_pages_are_stamped_with_the_warehouses_time(shop: Shop) -> None:
    asked: list[datetime] = []

    async def extract(request: PageRequest[Query]) -> AsyncGenerator[Page]:
        yield Page(records=["1"], cursor=1)
        asked.append(request.now())
        yield Page(records=["2"], cursor=2, extracted_at=request.now())

    shop.extract = extract
    shop.clock = lambda: _LONG_AGO
    await shop.run()
    assert asked == [_LONG_AGO]
    assert {load.extracted_at for load in shop.loads} == {_LONG_AGO}


def test_no_source_tells_the_time_by_its_machine() -> None:
    """What a page is stamped with, and what is judged by it, comes from `utc_now`."""
    root = Path(next(iter(temporaletl.worker.sources.__path__)))
    own = re.compile(r"datetime\.(now|utcnow|today)\(|\btime\.time\(")
    offenders = [str(path) for path in root.rglob("*.py") if own.search(path.read_text())]
    assert offenders == []
