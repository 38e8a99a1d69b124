from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from temporaletl.ids import job_id_of
from temporaletl.messages import ENDED, ETLInput, QueuerInput, RunPolicy, Window

JAN = datetime(2024, 1, 1, tzinfo=UTC)
FEB = datetime(2024, 2, 1, tzinfo=UTC)


def job(**changes: object) -> ETLInput:
    return ETLInput.model_validate(
        {
            "batch_id": "shop-full-1",
            "seq": 0,
            "job_id": "",
            "source": "shop",
            "stream": "orders",
            "mode": "full",
            "window": Window(start=JAN, end=FEB),
            "params": {"region": "north", "size": 5},
            **changes,
        }
    )


def test_a_window_holds_its_start_and_not_its_end() -> None:
    window = Window(start=JAN, end=FEB)
    assert JAN in window
    assert FEB not in window
    assert FEB - timedelta(microseconds=1) in window


def test_an_unbounded_side_holds_everything_there() -> None:
    assert datetime.min.replace(tzinfo=UTC) in Window(end=FEB)
    assert datetime.max.replace(tzinfo=UTC) in Window(start=JAN)
    assert JAN in Window()


def test_an_empty_window_is_allowed_and_holds_nothing() -> None:
    assert JAN not in Window(start=JAN, end=JAN)


def test_a_window_upside_down_is_refused_with_both_ends() -> None:
    with pytest.raises(ValidationError, match=r"starts at 2024-02-01.*after its end 2024-01-01"):
        Window(start=FEB, end=JAN)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="must carry a time zone"):
        Window(start=datetime(2024, 1, 1))  # noqa: DTZ001 - the point


def test_times_are_kept_in_utc() -> None:
    window = Window(start=datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert window.start == JAN
    assert window.start is not None
    assert window.start.tzinfo is UTC


def test_messages_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        job().seq = 1  # type: ignore[misc]


def test_a_message_of_a_later_version_is_read_without_its_new_fields() -> None:
    later = {**job().model_dump(mode="json"), "colour": "red"}
    assert ETLInput.model_validate(later) == job()


def test_a_message_of_an_earlier_version_is_read_with_defaults() -> None:
    earlier = job().model_dump(mode="json", exclude={"policy", "paused", "connection"})
    assert ETLInput.model_validate(earlier) == job()


def test_a_job_survives_its_journey_as_json() -> None:
    told = job(policy=RunPolicy(job_timeout=timedelta(minutes=1.5)))
    assert ETLInput.model_validate_json(told.model_dump_json()) == told


def test_a_later_batch_gives_the_same_slice_the_same_job_id() -> None:
    later = job(batch_id="shop-full-2", seq=7, policy=RunPolicy(max_attempts=1), paused=True)
    assert job_id_of(later) == job_id_of(job())


def test_the_order_of_parameters_does_not_name_another_job() -> None:
    assert job_id_of(job(params={"size": 5, "region": "north"})) == job_id_of(job())


@pytest.mark.parametrize(
    "change",
    [
        {"source": "store"},
        {"stream": "refunds"},
        {"mode": "backfill"},
        {"connection": "second"},
        {"window": Window(start=JAN)},
        {"params": {"region": "south", "size": 5}},
        {"params": {"region": "north", "size": "5"}},
    ],
)
def test_whatever_changes_what_a_job_covers_changes_its_id(change: dict[str, object]) -> None:
    assert job_id_of(job(**change)) != job_id_of(job())


def test_a_slice_has_the_id_that_earlier_versions_gave_it() -> None:
    """They may be running it."""
    told = job(params={"note": 'é "}\0', "size": [1.5, None]})
    assert job_id_of(told) == "shop-orders-full-789397dddfcfbaa6"


def test_a_job_id_says_what_it_is_of() -> None:
    assert job_id_of(job()).startswith("shop-orders-full-")


@pytest.mark.parametrize("number", [0, 1001])
def test_jobs_in_flight_are_bounded(number: int) -> None:
    with pytest.raises(ValidationError, match="max_in_flight"):
        QueuerInput(source="shop", max_in_flight=number)


def test_a_job_that_is_paused_has_not_ended() -> None:
    assert frozenset({"completed", "failed", "cancelled", "skipped"}) == ENDED
