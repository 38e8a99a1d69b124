"""Turns of requests, and how they are counted."""

from datetime import timedelta

from temporaletl.budget import Permits, counted_request, spending, take_permit, without_turns


def test_what_goes_elsewhere_waits_for_no_turn_and_is_counted() -> None:
    reserved: list[int] = []

    def reserve(count: int) -> timedelta:
        reserved.append(count)
        return timedelta(0)

    with spending(Permits(1_000, reserve)) as requests:
        with without_turns():
            take_permit()
            with counted_request():
                pass
        assert (reserved, requests.count) == ([], 1)
        take_permit()
        with counted_request():
            pass
    assert (reserved, requests.count) == ([1], 2)


def test_turns_are_reserved_for_more_and_more_requests() -> None:
    reserved: list[int] = []

    def reserve(count: int) -> timedelta:
        reserved.append(count)
        return timedelta(0)

    permits = Permits(20_000, reserve)
    for _ in range(15):
        permits.take()
    assert reserved == [1, 2, 4, 8]


def test_outside_of_a_segment_there_is_nothing_to_wait_for() -> None:
    take_permit()
    with counted_request():
        pass
