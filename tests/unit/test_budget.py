"""Turns of requests, and how they are counted."""

import contextvars
import threading
from datetime import timedelta

from temporaletl.budget import (
    HELD_BYTES,
    Permits,
    counted_request,
    spending,
    take_permit,
    without_turns,
)


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


def test_while_too_much_waits_to_be_loaded_nothing_is_asked_for() -> None:
    with spending(None) as requests:
        with counted_request() as counted:
            counted.received_bytes = HELD_BYTES + 1
        requests.hold(requests.received_bytes)
        asking = threading.Thread(target=contextvars.copy_context().run, args=(take_permit,))
        asking.start()
        asking.join(timeout=0.1)
        assert asking.is_alive()
        requests.hold(-requests.received_bytes)
        asking.join(timeout=10)
        assert not asking.is_alive()


def test_who_waits_for_room_waits_no_longer_than_anybody_wants_the_answer() -> None:
    stop = threading.Event()
    with spending(None) as requests:
        requests.hold(HELD_BYTES + 1)
        stop.set()
        take_permit(stop)
        threads = [threading.Thread(target=requests.wait_for_room) for _ in range(2)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()
