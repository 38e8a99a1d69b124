"""Pagination that never ends is given up: in circles, or on and on without a record."""

import pytest

from temporaletl import SourceUnavailableError
from temporaletl.external.headway import Headway


def test_every_new_token_leads_on() -> None:
    headway = Headway("the list", begin="0")
    assert all(headway.leads_on(str(number), rows=1) for number in range(1, 3_000))


def test_a_token_that_was_followed_is_asked_for_again_and_then_given_up() -> None:
    headway = Headway("the list", begin="0")
    assert headway.leads_on("1", rows=1)
    assert [headway.leads_on("0", rows=1) for _ in range(4)] == [False] * 4
    with pytest.raises(SourceUnavailableError, match="the list leads in circles"):
        headway.leads_on("1", rows=1)


def test_a_new_token_in_between_counts_as_headway() -> None:
    headway = Headway("the list")
    for number in range(20):
        assert headway.leads_on(f"new {number}", rows=1)
        assert [headway.leads_on("new 0", rows=1) for _ in range(3)] == [False] * 3


def test_empty_pages_without_end_are_given_up_whatever_their_tokens() -> None:
    headway = Headway("the list")
    assert all(headway.leads_on(str(number), rows=0) for number in range(1_000))
    with pytest.raises(SourceUnavailableError, match="the list does not end: 1,001 pages"):
        headway.leads_on("another", rows=0)


def test_a_list_that_begins_anew_may_come_by_its_tokens_again() -> None:
    headway = Headway("the list", begin="0")
    assert headway.leads_on("1", rows=0)
    headway.begin_anew()
    assert headway.leads_on("0", rows=0)
    assert headway.leads_on("1", rows=0)


def test_pages_of_known_records_without_end_are_given_up() -> None:
    headway = Headway("the list")
    assert headway.brings_news(["a", "b"])
    assert not any(headway.brings_news(["b", "a"][: 1 + turn % 2]) for turn in range(100))
    with pytest.raises(SourceUnavailableError, match="101 pages in a row held only records of"):
        headway.brings_news(["a"])


def test_a_new_record_among_known_ones_is_headway() -> None:
    headway = Headway("the list")
    for number in range(300):
        assert headway.brings_news(["a", "b", str(number)])
        assert not headway.brings_news(["a", "b"]) or number == 0
        assert not headway.brings_news([])
        assert headway.stale <= 1


def test_a_page_is_known_again_in_however_long_a_list() -> None:
    headway = Headway("the list")
    pages = [[f"{page} {row}" for row in range(100)] for page in range(150)]
    assert all(headway.brings_news(page) for page in pages)
    assert not headway.brings_news(pages[0])


def test_another_reading_goes_on_with_what_the_first_one_knew() -> None:
    first, second = Headway("the list"), Headway("the list")
    for _ in range(101):
        first.brings_news(["a", "b"])
    second.resume(first.page, first.stale)
    with pytest.raises(SourceUnavailableError, match="held only records"):
        second.brings_news(["a", "b"])
    second.begin_anew()
    assert second.brings_news(["a", "b"])
