"""Cool-downs, and that a person who lifts one is heard by every client of the process."""

from datetime import timedelta

import pytest

from temporaletl.external.cooldown import CoolDown, lift_cool_downs

HOUR = timedelta(hours=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr("temporaletl.external.cooldown.time.monotonic", lambda: now[0])
    return now


def test_a_shorter_wait_does_not_shorten_the_present_one(clock: list[float]) -> None:
    shop = CoolDown("shop")
    shop.begin(HOUR, "rate limit")
    shop.begin(timedelta(seconds=1), "outage")
    clock[0] += 60
    assert shop.remaining() == (timedelta(minutes=59), "rate limit")


def test_what_is_lifted_for_all_workers_is_lifted_for_the_clients_of_the_source(
    clock: list[float],
) -> None:
    shops, other = [CoolDown("shop"), CoolDown("shop")], CoolDown("jira")
    for each in (*shops, other):
        each.begin(HOUR, "rate limit")
    clock[0] += 11
    lift_cool_downs("shop", "default")
    assert all(each.remaining()[0] <= timedelta(0) for each in shops)
    assert other.remaining()[0] > timedelta(minutes=59)


def test_one_that_has_just_begun_is_not_known_to_whoever_lifts(clock: list[float]) -> None:
    shop = CoolDown("shop")
    shop.begin(HOUR, "rate limit")
    clock[0] += 5
    lift_cool_downs("shop", "default")
    assert shop.remaining()[0] > timedelta(minutes=59)
