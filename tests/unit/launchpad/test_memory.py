"""What an extraction knows to be read already."""

from datetime import UTC, datetime

from pydantic import JsonValue

from temporaletl import ETLInput, PageRequest, Window
from temporaletl.worker.sources.launchpad.extract.memory import Memory, recall


class Site:
    """Stands for one Launchpad: memories are kept by it."""


def open_memory(site: Site, cursor: JsonValue, seq: int = 1) -> Memory:
    job = ETLInput(
        batch_id="b",
        seq=seq,
        job_id=f"j{seq}",
        source="launchpad",
        stream="bugs",
        mode="full",
        window=Window(),
    )
    return recall(site, PageRequest(job=job, query=None, cursor=cursor))  # type: ignore[arg-type]


def known(memory: Memory) -> set[int]:
    return {number for number in range(20) if number in memory}


def read(memory: Memory, cursor: JsonValue, *numbers: int) -> None:
    for number in numbers:
        memory.add(number)
    memory.turn(cursor)


def test_what_is_on_pages_up_to_the_cursor_is_known() -> None:
    site = Site()
    first = open_memory(site, None)
    read(first, "a", 1, 2)
    read(first, "b", 3)
    read(first, "c", 4)
    first.add(5)  # on no page yet
    assert known(first) == {1, 2, 3, 4, 5}
    assert known(open_memory(site, "b")) == {1, 2, 3}


def test_what_earlier_extractions_committed_stays_known() -> None:
    site = Site()
    read(open_memory(site, None), "a", 1)
    read(open_memory(site, "a"), "b", 2)
    # The page behind this cursor is another process's.
    assert known(open_memory(site, "z")) == {1}


def test_from_the_beginning_nothing_is_known() -> None:
    site = Site()
    read(open_memory(site, None), "a", 1)
    assert known(open_memory(site, None)) == set()


def test_an_extraction_that_was_given_up_adds_nothing_any_more() -> None:
    site = Site()
    given_up = open_memory(site, None)
    read(given_up, "a", 1)
    present = open_memory(site, "a")
    read(given_up, "b", 2)
    read(present, "b", 3)
    assert known(open_memory(site, "b")) == {1, 3}


def test_of_two_pages_with_one_cursor_the_first_is_sure_to_be_committed() -> None:
    site = Site()
    first = open_memory(site, None)
    read(first, "a", 1)
    read(first, "a", 2)
    assert known(open_memory(site, "a")) == {1}


def test_jobs_and_sites_know_nothing_of_each_other() -> None:
    site = Site()
    read(open_memory(site, None), "a", 1)
    assert known(open_memory(site, "a", seq=2)) == set()
    assert known(open_memory(Site(), "a")) == set()


def test_when_something_last_changed_is_remembered() -> None:
    site, moment = Site(), datetime(2025, 3, 1, tzinfo=UTC)
    first = open_memory(site, None)
    first.add(1, moment)
    first.turn("a")
    assert open_memory(site, "a").changed(1) == moment
