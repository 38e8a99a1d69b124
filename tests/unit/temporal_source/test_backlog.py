import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from temporaletl import ConfigurationError, Plan, Window
from temporaletl.external.temporal import closed_in
from temporaletl.messages import Mode
from temporaletl.queuer.sources.temporal import inputs
from temporaletl.queuer.sources.temporal.inputs import expand, split
from temporaletl.queuer.sources.temporal.params import Backlog, describe
from temporaletl.worker.sources.temporal.query import TemporalQuery
from tests.integration.job_reading import plan_of

START = datetime(2025, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)
END = datetime(2025, 2, 1, 0, 0, 0, 750_000, tzinfo=UTC)


def make_plan(mode: Mode = "incremental", **params: Any) -> Plan:
    return plan_of("temporal", ["workflows"], mode, start=START, end=END, **params)


async def parts_of(window: Window, closed: Sequence[datetime], *, most: int) -> list[Window]:
    async def count(part: Window) -> int:
        return sum(timestamp in part for timestamp in closed)

    return [part async for part in split(window, count, most=most)]


def make_timestamps(number: int, *, start: datetime = START, end: datetime = END) -> list[datetime]:
    chosen = random.Random(7)  # noqa: S311 - repeatable, not secret
    span = (end - start) / timedelta(microseconds=1)
    return [start + timedelta(microseconds=chosen.randrange(int(span))) for _ in range(number)]


@pytest.mark.parametrize(
    "window",
    [
        Window(start=START, end=END),
        Window(end=END),
        Window(start=START),
        Window(),
        Window(start=END, end=END),
    ],
)
@pytest.mark.parametrize("number", [0, 1, 500])
async def test_the_parts_of_a_window_meet_exactly_and_are_the_window(
    window: Window, number: int
) -> None:
    parts = await parts_of(window, make_timestamps(number), most=20)
    assert (parts[0].start, parts[-1].end) == (window.start, window.end)
    for part, following in pairwise(parts):
        assert part.end is not None
        assert part.end == following.start
        assert part.end.microsecond == 0


async def test_no_part_holds_more_than_asked_for() -> None:
    closed = make_timestamps(500)
    parts = await parts_of(Window(end=END), closed, most=20)
    assert all(sum(timestamp in part for timestamp in closed) <= 20 for part in parts)
    assert len(parts) < 100


async def test_one_crowded_second_is_not_cut() -> None:
    crowd = [datetime(2025, 1, 5, 12, 0, 1, n, tzinfo=UTC) for n in range(100)]
    parts = await parts_of(Window(start=START, end=END), crowd, most=20)
    (crowded,) = [part for part in parts if crowd[0] in part]
    assert all(timestamp in crowded for timestamp in crowd)
    assert crowded.start is not None
    assert crowded.end is not None
    assert crowded.end - crowded.start <= timedelta(seconds=1)


@pytest.mark.parametrize(
    "window", [Window(start=START, end=END), Window(end=END), Window(start=END), Window()]
)
async def test_counts_that_ignore_their_windows_cut_nothing(window: Window) -> None:
    requests = 0

    async def count(part: Window) -> int:
        nonlocal requests
        del part
        requests += 1
        assert requests < 100
        return 1_000_000

    with capture_logs() as logs:
        assert [part async for part in split(window, count, most=50_000)] == [window]
    assert [each["event"] for each in logs] == ["counts_ignore_their_windows"]


async def test_counts_that_grow_with_each_cut_soon_cut_no_more() -> None:
    requests = 0

    async def count(part: Window) -> int:
        nonlocal requests
        requests += 1
        assert requests < 1_000
        assert part.start is not None
        assert part.end is not None
        # Three quarters of the whole in each half, and so on.
        return int(1_000_000 * ((part.end - part.start) / (END - START)) ** -math.log2(0.75))

    parts = [part async for part in split(Window(start=START, end=END), count, most=9)]
    assert (parts[0].start, parts[-1].end) == (START, END)
    assert all(part.end == following.start for part, following in pairwise(parts))


def test_filters_keep_microseconds_and_the_half_open_edges() -> None:
    assert closed_in(Window(start=START, end=END)) == (
        "CloseTime >= '2025-01-01T00:00:00.250000Z' AND CloseTime < '2025-02-01T00:00:00.750000Z'"
    )
    assert closed_in(Window(end=END)) == "CloseTime < '2025-02-01T00:00:00.750000Z'"
    # A running execution has a close time in some stores: see the function.
    assert closed_in(Window()) == "ExecutionStatus != 'Running'"


@pytest.mark.parametrize(("mode", "running"), [("incremental", True), ("full", True)])
def test_running_executions_are_planned_beside_windows(
    mode: Mode, running: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_TEMPORAL_NAMESPACES", "shop, billing ,")
    assert describe(make_plan(mode)) == Backlog(
        namespaces=("shop", "billing"),
        window=Window(start=START, end=END),
        running=running,
        executions_per_job=50_000,
    )


def test_a_backfill_is_its_window_alone() -> None:
    backlog = describe(make_plan("backfill", namespaces=["shop"], executions_per_job=3))
    assert backlog == Backlog(("shop",), Window(start=START, end=END), False, 3)


@pytest.mark.parametrize(
    "params", [{"namespace": "shop"}, {"executions_per_job": 0}, {"namespaces": "shop"}]
)
def test_a_wrong_parameter_is_named(params: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(params))):
        describe(make_plan(**params))


class _Counting:
    """Stands in for the visibility store: everything fits into one job."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def count(self, namespace: str, query: str) -> int:
        self.requests.append(f"{namespace}: {query}")
        return 5


async def test_jobs_carry_parameters_that_their_query_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = _Counting()
    monkeypatch.setattr(inputs, "visibility", lambda: store)
    plan = make_plan(namespaces=["shop", "billing"], executions_per_job=10, keep_undecodable=True)
    jobs = [job async for job in expand(plan, describe(plan))]
    queries = [TemporalQuery.from_dict(job.params) for job in jobs]
    assert [(query.namespace, query.running) for query in queries] == [
        ("shop", True),
        ("shop", False),
        ("billing", True),
        ("billing", False),
    ]
    assert [job.window for job in jobs[:2]] == [Window(), Window(start=START, end=END)]
    assert all(query.keep_undecodable for query in queries)
    assert [request.partition(":")[0] for request in store.requests] == ["shop", "billing"]
