"""Limits of the API: the rate limiter, the depth of JSON."""

import pytest

from temporaletl.control.api.bodies import MOST_DEPTH, is_deep
from temporaletl.control.api.limiter import RateLimiter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_caller_may_send_as_many_as_allowed_in_any_minute() -> None:
    clock = Clock()
    limiter = RateLimiter(60, clock=clock)
    assert [limiter.delay("one") for _ in range(60)] == [0.0] * 60
    assert limiter.delay("one") == 60
    assert limiter.delay("other") == 0
    clock.now = 59.0
    assert limiter.delay("one") == 1
    clock.now = 61.0
    # Of the minute before, 59 parts of 60 still count.
    assert limiter.delay("one") == 0
    wait = limiter.delay("one")
    assert 0 < wait <= 1
    clock.now += wait + 0.01
    assert limiter.delay("one") == 0


def test_callers_that_send_nothing_are_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter(1, clock=clock)
    for caller in range(1_000):
        assert limiter.delay(str(caller)) == 0
    clock.now = 500.0
    assert limiter.delay("5") == 0
    assert len(limiter._counts) + len(limiter._before) == 1


@pytest.mark.parametrize(
    ("body", "deep"),
    [
        (b"[" * MOST_DEPTH + b"]" * MOST_DEPTH, False),
        (b"[" * (MOST_DEPTH + 1), True),
        (b'{"a":' * 200_000, True),
        (b"[[],[]]," * 1_000, False),
        (b'"' + b"[" * 1_000 + b'"', False),
        (rb'"\"' + b"[" * 1_000 + b'"', False),
        (b'"' + b"[" * 1_000, True),
    ],
    ids=["deepest", "deeper", "objects", "flat", "text", "escaped", "open"],
)
def test_the_depth_of_json_is_that_of_its_brackets_outside_of_texts(
    body: bytes, deep: bool
) -> None:
    assert is_deep(body) is deep
