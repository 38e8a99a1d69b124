"""The cache of what a job has read already."""

from datetime import UTC, datetime

from pydantic import JsonValue

from temporaletl import ETLInput, PageRequest, Window
from temporaletl.worker.sources.launchpad.extract.read_cache import ReadCache, open_read_cache


class Site:
    """Stands for one Launchpad: read caches are kept by it."""


def open_cache(site: Site, cursor: JsonValue, seq: int = 1) -> ReadCache:
    job = ETLInput(
        batch_id="b",
        seq=seq,
        job_id=f"j{seq}",
        source="launchpad",
        stream="bugs",
        mode="full",
        window=Window(),
    )
    return open_read_cache(site, PageRequest(job=job, query=None, cursor=cursor))  # type: ignore[arg-type]


def known(read_cache: ReadCache) -> set[int]:
    return {number for number in range(20) if number in read_cache}


def read(read_cache: ReadCache, cursor: JsonValue, *numbers: int) -> None:
    for number in numbers:
        read_cache.add(number)
    read_cache.end_page(cursor)


def test_what_is_on_pages_up_to_the_cursor_is_known() -> None:
    site = Site()
    first = open_cache(site, None)
    read(first, "a", 1, 2)
    read(first, "b", 3)
    read(first, "c", 4)
    first.add(5)  # on no page yet
    assert known(first) == {1, 2, 3, 4, 5}
    assert known(open_cache(site, "b")) == {1, 2, 3}


def test_what_earlier_extractions_committed_stays_known() -> None:
    site = Site()
    read(open_cache(site, None), "a", 1)
    read(open_cache(site, "a"), "b", 2)
    # The page behind this cursor is another process's.
    assert known(open_cache(site, "z")) == {1}


def test_from_the_beginning_nothing_is_known() -> None:
    site = Site()
    read(open_cache(site, None), "a", 1)
    assert known(open_cache(site, None)) == set()


def test_an_extraction_that_was_given_up_adds_nothing_any_more() -> None:
    site = Site()
    given_up = open_cache(site, None)
    read(given_up, "a", 1)
    present = open_cache(site, "a")
    read(given_up, "b", 2)
    read(present, "b", 3)
    assert known(open_cache(site, "b")) == {1, 3}


def test_of_two_pages_with_one_cursor_the_first_is_sure_to_be_committed() -> None:
    site = Site()
    first = open_cache(site, None)
    read(first, "a", 1)
    read(first, "a", 2)
    assert known(open_cache(site, "a")) == {1}


def test_jobs_and_sites_know_nothing_of_each_other() -> None:
    site = Site()
    read(open_cache(site, None), "a", 1)
    assert known(open_cache(site, "a", seq=2)) == set()
    assert known(open_cache(Site(), "a")) == set()


def test_when_something_last_changed_is_cached() -> None:
    site, timestamp = Site(), datetime(2025, 3, 1, tzinfo=UTC)
    first = open_cache(site, None)
    first.add(1, timestamp)
    first.end_page("a")
    assert open_cache(site, "a").changed(1) == timestamp
