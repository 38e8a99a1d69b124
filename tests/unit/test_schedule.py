import re
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import (
    ScheduleActionStartWorkflow,
    ScheduleOverlapPolicy,
    ScheduleRange,
)

from temporaletl.control.cli.commands.schedules import read_when
from temporaletl.control.operations.schedule_definitions import define
from temporaletl.errors import ConfigurationError, UnknownSourceError
from temporaletl.messages import QueuerInput
from temporaletl.queuer.scheduling import (
    Overlap,
    calendar,
    cron_calendars,
    make_schedule,
    parse_interval,
)
from temporaletl.strategies import Planner, planners
from tests.registries import forget_sources


def expanded(ranges: Any) -> list[int]:
    return sorted({n for r in ranges for n in range(r.start, max(r.end, r.start) + 1, r.step or 1)})


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("1", [1]),
        ("0", [0]),
        ("7", [0]),
        ("1-5", [1, 2, 3, 4, 5]),
        ("5-7", [0, 5, 6]),
        ("0-7", [0, 1, 2, 3, 4, 5, 6]),
        ("1,3", [1, 3]),
        ("1, 3-4", [1, 3, 4]),
        ("6,7", [0, 6]),
        ("*", [0, 1, 2, 3, 4, 5, 6]),
        ("1-5/2", [1, 3, 5]),
        ("*/2", [0, 2, 4, 6]),
        ("mon-Fri", [1, 2, 3, 4, 5]),
        ("sunday", [0]),
        ("1-7/2", [0, 1, 3, 5]),
        ("2-7/2", [2, 4, 6]),
        ("0-7/7", [0]),
    ],
)
def test_days_are_those_of_cron(text: str, days: list[int]) -> None:
    assert expanded(calendar(text, "3").day_of_week) == days


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("3", [3]),
        ("0-23/6", [0, 6, 12, 18]),
        ("8-10,20", [8, 9, 10, 20]),
        ("*", list(range(24))),
    ],
)
def test_hours_are_those_of_cron(text: str, hours: list[int]) -> None:
    assert expanded(calendar("*", text).hour) == hours


def test_a_run_begins_at_the_hour_and_once() -> None:
    spec = calendar("1", "3")
    assert spec.minute == spec.second == [ScheduleRange(0)]


@pytest.mark.parametrize(
    "day",
    ["8", "-1", "noday", "", "1-", "5-1", "1,,2", "1/0", "1-5/0", "*/0"],
)
def test_a_bad_day_is_refused_in_one_line(day: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^day of week .* from 0 to 7") as refused:
        calendar(day, "3")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("hour", ["24", "3.5", "3am", "22-26"])
def test_a_bad_hour_is_refused_in_one_line(hour: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^hour .* from 0 to 23") as refused:
        calendar("1", hour)
    assert "\n" not in str(refused.value)


@pytest.fixture
def _shop(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_sources(monkeypatch)
    planner = Planner(lambda _plan: None, ("orders",), timedelta(0), lambda: timedelta(0), None)
    planners.register("shop", planner, place="here")


SHOP, HOUR = QueuerInput(source="shop"), timedelta(hours=1)


@pytest.mark.usefixtures("_shop")
def test_a_schedule_starts_the_queuer_and_skips_what_overlaps() -> None:
    made = make_schedule(SHOP, times=[calendar("1", "3")])
    assert isinstance(made.action, ScheduleActionStartWorkflow)
    assert made.action.workflow == "QueuerFlow"
    assert made.action.id == "etl-shop"
    assert made.action.task_queue == "etl-queuer-queue"
    assert list(made.action.args) == [SHOP.model_copy(update={"schedule": "default", "only": True})]
    assert made.policy.overlap is ScheduleOverlapPolicy.SKIP
    assert made.policy.catchup_window == timedelta(hours=1)
    assert made.spec.time_zone_name == "UTC"


@pytest.mark.usefixtures("_shop")
def test_policies_are_the_callers_choice() -> None:
    made = make_schedule(
        SHOP,
        times=[calendar("*", "*")],
        time_zone="Europe/London",
        overlap=Overlap.BUFFER_ONE,
        catchup_window=timedelta(seconds=10),
        task_queue="mine",
    )
    assert made.policy.overlap is ScheduleOverlapPolicy.BUFFER_ONE
    assert made.policy.catchup_window == timedelta(seconds=10)
    assert made.spec.time_zone_name == "Europe/London"
    assert isinstance(made.action, ScheduleActionStartWorkflow)
    assert made.action.task_queue == "mine"


@pytest.mark.usefixtures("_shop")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"time_zone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"catchup_window": timedelta(seconds=9)}, "catch-up window 9 s is shorter than 10 s"),
        ({"name": "Nightly"}, "'Nightly' is no name of a schedule"),
        ({"name": "monday"}, "'monday' is no name of a schedule"),
        ({"times": timedelta(seconds=59)}, "59 s is not between a minute and a year"),
        ({"times": HOUR, "time_zone": "Europe/London"}, "an interval has no time zone"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make_schedule(SHOP, **{"times": [calendar("1", "3")], **change})


@pytest.mark.usefixtures("_shop")
def test_an_unknown_source_cannot_be_scheduled() -> None:
    with pytest.raises(UnknownSourceError, match="'store'; known: shop"):
        make_schedule(QueuerInput(source="store"), times=HOUR)


def test_every_word_for_an_overlap_is_one_of_temporals() -> None:
    assert {word.policy for word in Overlap} == set(ScheduleOverlapPolicy)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("*/15 * * *", "has not the five fields minute, hour, day of month, month and day of week"),
        ("0 0 * * * *", "has not the five fields"),
        ("60 * * * *", "minute '60' is not a number from 0 to 59"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day of month '0'"),
        ("* * * 13 *", "month '13'"),
        ("* * * mon *", "month 'mon'"),
        ("* * * * 8", "day of week '8'"),
        ("@often", "has not the five fields"),
    ],
)
def test_a_bad_cron_expression_names_its_field(wrong: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        cron_calendars(wrong)


def test_a_cron_expression_stands_in_each_of_its_calendars() -> None:
    both = cron_calendars(" 0  6 1 * 1 ")
    assert [one.comment for one in both] == ["0 6 1 * 1"] * 2
    assert expanded(both[0].day_of_week) == [*range(7)]
    assert expanded(both[1].day_of_month) == [*range(1, 32)]
    [daily] = cron_calendars("@daily")
    assert (expanded(daily.minute), expanded(daily.hour)) == ([0], [0])


@pytest.mark.parametrize(
    ("text", "minutes"), [("15m", 15), ("2h", 120), ("1d", 1440), ("1h30m", 90), ("90S", 1.5)]
)
def test_intervals_are_read(text: str, minutes: float) -> None:
    assert parse_interval(text) == timedelta(minutes=minutes)


@pytest.mark.parametrize("wrong", ["", "15", "m", "15 minutes", "-1h", "1m1h", "9" * 30 + "d"])
def test_what_is_no_interval_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_interval(wrong)


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ((), ("default", None, None)),
        (("1", "3"), ("default", "1", "3")),
        (("mon-fri", "3"), ("default", "mon-fri", "3")),
        (("monday",), ("default", "monday", None)),
        (("nightly", "*", "3"), ("nightly", "*", "3")),
        (("nightly",), ("nightly", None, None)),
    ],
)
def test_a_name_is_told_from_a_day(words: tuple[str, ...], read: tuple[str | None, ...]) -> None:
    assert read_when(words) == read


@pytest.mark.parametrize("wrong", [("1", "3", "x"), ("nightly", "1", "3", "x")])
def test_more_words_than_a_day_and_an_hour_are_refused(wrong: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="a cron expression goes to --cron"):
        read_when(wrong)


@pytest.mark.parametrize(
    "given",
    [
        {"days": "1", "cron": "0 0 * * *"},
        {"cron": "0 0 * * *", "every_minutes": 5},
        {"hours": "1", "every_minutes": 5},
    ],
)
def test_times_of_two_kinds_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="only one of these"):
        define(**given)
