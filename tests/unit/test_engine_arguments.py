"""Arguments of `run_batch` that make no sense are refused by their names, before all else."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from temporaletl.engine import EngineLimits, run_batch
from temporaletl.errors import ConfigurationError
from temporaletl.messages import RunPolicy
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.segment import SegmentLimits

_EAST = timezone(timedelta(hours=5))
_NESTED: Any = 1
for _ in range(10_000):
    _NESTED = [_NESTED]


@pytest.fixture
def warehouse() -> Warehouse:
    """One that is not open, and need not be."""
    url = "postgresql://nobody@127.0.0.1:9/none"
    return Warehouse(WarehouseSettings.model_validate({"database_url": url}))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"streams": None}, "streams: must be a list or tuple of names, not NoneType"),
        ({"streams": "issues"}, "streams: must be a list or tuple of names, not str"),
        ({"streams": b"issues"}, "streams: must be a list or tuple of names, not bytes"),
        ({"streams": 5}, "streams: must be a list"),
        ({"streams": [5]}, r"streams\.0: "),
        ({"params": "abc"}, "params: "),
        ({"params": [1]}, "params: "),
        ({"params": {1: 2}}, r"params\."),
        ({"params": {"a": object()}}, r"params\.a"),
        ({"params": {"a": float("nan")}}, "params: a number of it is none of JSON"),
        ({"params": {"a": ["\0"]}}, "params: a text of it holds a NUL"),
        ({"params": {"a": _NESTED}}, r"params\.a\..*\.…: .* validation depth"),
        ({"scheduled": "2026-01-01"}, "scheduled: must be a datetime, not str"),
        ({"scheduled": datetime(2026, 1, 1)}, "scheduled: .* has no time zone"),  # noqa: DTZ001
        ({"scheduled": datetime.min.replace(tzinfo=_EAST)}, "scheduled: .* before 1970"),
        ({"scheduled": datetime.min.replace(tzinfo=UTC)}, "scheduled: .* before 1970"),
        (
            {"scheduled": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
            "scheduled: .* last year",
        ),
        ({"date_start": datetime.min.replace(tzinfo=_EAST)}, "date_start: lies outside"),
        ({"date_end": "soon"}, "date_end: "),
        ({"mode": "some"}, "mode: "),
        ({"connection": None}, "connection: "),
        ({"accept_view": "perhaps"}, "accept_view: "),
        ({"source": 5}, "source: "),
        ({"cancel": threading.Event()}, r"cancel: must be asyncio.*, not threading\.Event"),
        ({"cancel": True}, "cancel: must be"),
        ({"limits": {"jobs_at_once": 3}}, "limits: must be"),
        ({"listener": print}, "listener: must be"),
        ({"warehouse": "postgresql://"}, "warehouse: must be"),
    ],
)
async def test_a_wrong_argument_is_named(
    warehouse: Warehouse, arguments: dict[str, Any], told: str
) -> None:
    given = {"warehouse": warehouse, "source": "numbers", **arguments}
    with pytest.raises(ConfigurationError, match=f"no batch of .*: {told}"):
        await run_batch(**given)


_YEARS = timedelta(days=366)
_POLICIES: list[tuple[str, Any]] = [
    ("heartbeat_timeout", timedelta(0)),
    ("heartbeat_timeout", timedelta(seconds=-1)),
    ("heartbeat_timeout", timedelta(milliseconds=1)),
    ("heartbeat_timeout", timedelta.max),
    ("activity_timeout", timedelta(0)),
    ("activity_timeout", _YEARS),
    ("job_timeout", timedelta(0)),
    ("initial_interval", timedelta(seconds=-1)),
    ("maximum_interval", timedelta.max),
    ("max_attempts", 0),
    ("max_attempts", -1),
    ("backoff_coefficient", 0.5),
    ("backoff_coefficient", float("nan")),
]
_SEGMENTS: list[tuple[str, Any]] = [
    ("duration", timedelta(0)),
    ("duration", timedelta.max),
    ("scan_duration", timedelta(seconds=-1)),
    ("rows_per_page", 0),
    ("rows_per_page", 1.5),
    ("pages", 0),
    ("reject_threshold", -0.1),
    ("conflict_threshold", 1.1),
    ("reject_payload_bytes", 0),
]


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        *((f"policy.{n}", lambda n=n, v=v: {"policy": RunPolicy(**{n: v})}) for n, v in _POLICIES),
        *(
            (f"segment.{n}", lambda n=n, v=v: {"segment": SegmentLimits(**{n: v})})
            for n, v in _SEGMENTS
        ),
        ("jobs_at_once", lambda: {"jobs_at_once": 0}),
        ("jobs_at_once", lambda: {"jobs_at_once": 1_001}),
        ("jobs_at_once", lambda: {"jobs_at_once": True}),
        ("longest_wait", lambda: {"longest_wait": timedelta(seconds=-1)}),
        ("longest_wait", lambda: {"longest_wait": 5}),
        ("policy", lambda: {"policy": None}),
        ("segment", lambda: {"segment": None}),
    ],
)
def test_a_senseless_limit_is_named_with_its_bounds(
    name: str, limits: Callable[[], dict[str, Any]]
) -> None:
    with pytest.raises(ConfigurationError, match=f"EngineLimits: {name} must be a"):
        EngineLimits(**limits())


def test_the_bounds_themselves_are_taken() -> None:
    EngineLimits(jobs_at_once=1_000, longest_wait=timedelta(0))
    day = timedelta(days=1)
    policy = RunPolicy(heartbeat_timeout=day, initial_interval=timedelta(0), max_attempts=1)
    EngineLimits(policy=policy, segment=SegmentLimits(pages=1, rows_per_page=1))
