"""Rate limits of requests, and how requests are counted."""

import contextlib
import contextvars
import threading
from concurrent.futures import CancelledError
from datetime import timedelta

import pytest

from temporaletl.budget import (
    HELD_BYTES,
    RateBudget,
    RateLimiter,
    acquire,
    counted_request,
    rate_limited,
    unlimited,
)
from temporaletl.errors import ConfigurationError


@pytest.mark.parametrize("rate", [0, -1, 1e-310, 0.009, 1_000_001, float("inf"), float("nan")])
def test_a_rate_that_no_limiter_can_keep_is_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError, match=r"from 0\.01 to 1,000,000"):
        RateBudget(requests_per_second=rate)


@pytest.mark.parametrize("rate", [0.01, 1_000_000])
def test_the_bounds_of_a_rate_belong_to_it(rate: float) -> None:
    budget = RateBudget(requests_per_second=rate)
    assert budget.requests_per_second == rate


def test_requests_elsewhere_are_not_rate_limited_and_are_counted() -> None:
    reserved: list[int] = []

    def reserve(count: int) -> timedelta:
        reserved.append(count)
        return timedelta(0)

    with rate_limited(RateLimiter(1_000, reserve)) as requests:
        with unlimited():
            acquire()
            with counted_request():
                pass
        assert (reserved, requests.count) == ([], 1)
        acquire()
        with counted_request():
            pass
    assert (reserved, requests.count) == ([1], 2)


def test_reservations_grow_with_the_number_of_requests() -> None:
    reserved: list[int] = []

    def reserve(count: int) -> timedelta:
        reserved.append(count)
        return timedelta(0)

    limiter = RateLimiter(20_000, reserve)
    for _ in range(15):
        limiter.acquire()
    assert reserved == [1, 2, 4, 8]


@pytest.mark.parametrize("stop", [None, threading.Event()])
def test_who_waits_for_a_turn_when_the_work_ends_sends_nothing(
    stop: threading.Event | None,
) -> None:
    waits, ended = threading.Event(), threading.Event()

    def reserve(_count: int) -> timedelta:
        waits.set()
        return timedelta(hours=1)

    def ask() -> None:
        with contextlib.suppress(CancelledError):
            acquire(stop)
            return
        ended.set()

    with rate_limited(RateLimiter(1, reserve)):
        context = contextvars.copy_context()
        waiting = threading.Thread(target=context.run, args=(ask,))
        waiting.start()
        assert waits.wait(timeout=120)
    waiting.join(timeout=120)
    assert ended.is_set()
    with pytest.raises(CancelledError):
        context.run(acquire)


def test_outside_of_a_segment_there_is_nothing_to_wait_for() -> None:
    acquire()
    with counted_request():
        pass


def test_while_too_much_waits_to_be_loaded_nothing_is_asked_for() -> None:
    with rate_limited(None) as requests:
        with counted_request() as counted:
            counted.received_bytes = HELD_BYTES + 1
        requests.hold(requests.received_bytes)
        waiting = threading.Thread(target=contextvars.copy_context().run, args=(acquire,))
        waiting.start()
        waiting.join(timeout=0.1)
        assert waiting.is_alive()
        requests.hold(-requests.received_bytes)
        waiting.join(timeout=120)
        assert not waiting.is_alive()


def test_who_waits_for_room_waits_no_longer_than_anybody_wants_the_answer() -> None:
    stop = threading.Event()
    with rate_limited(None) as requests:
        requests.hold(HELD_BYTES + 1)
        stop.set()
        acquire(stop)
        threads = [threading.Thread(target=requests.wait_for_room) for _ in range(2)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
