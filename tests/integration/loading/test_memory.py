"""What a segment holds in memory at once."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from temporaletl.budget import HELD_BYTES, acquire, counted_request
from temporaletl.extraction import Page, PageRequest
from temporaletl.query import Query
from temporaletl.warehouse.connection import Warehouse
from tests.integration.loading import segments
from tests.integration.loading.jobs import Job, fetch, make_event

_PAGES = 12


async def _most_waiting(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, size: int
) -> tuple[int, int]:
    """How many pages of that size are read before they are loaded, and how many are loaded."""
    waiting: list[int] = []

    def ask(number: int) -> None:
        acquire()
        with counted_request() as counted:
            counted.received_bytes = size
        [row] = fetch(warehouse, "SELECT coalesce(max(pages), 0) AS loaded FROM etl_jobs")
        waiting.append(number - row["loaded"])

    async def extract(_request: PageRequest[Query]) -> AsyncGenerator[Page]:
        for number in range(_PAGES):
            await asyncio.to_thread(ask, number)
            yield Page(records=[make_event(number)], cursor=number)

    segments.register(monkeypatch, extract)
    result = await segments.run(Job(warehouse))
    assert result.done
    return max(waiting), result.progress.rows.inserted


async def test_small_pages_are_read_ahead(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, loaded = await _most_waiting(warehouse, monkeypatch, 1_000)
    assert (most > 1, loaded) == (True, _PAGES)


async def test_behind_a_large_page_nothing_is_read_until_it_is_loaded(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, loaded = await _most_waiting(warehouse, monkeypatch, HELD_BYTES + 1)
    assert (most, loaded) == (0, _PAGES)
