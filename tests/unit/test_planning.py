import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from temporaletl import strategies
from temporaletl.connections.declarations import connection_settings
from temporaletl.errors import ConfigurationError, UnknownSourceError
from temporaletl.messages import (
    BatchMetadata,
    ETLInput,
    MetadataRequest,
    QueuerInput,
    RunPolicy,
    Window,
)
from temporaletl.query import Query
from temporaletl.queuer import planning, rejects
from temporaletl.queuer.planning import check_request, expand, jobs_of, resolve_batch, window_of
from temporaletl.registry import Registry
from temporaletl.strategies import Plan, Planner, TransformInputsMethod
from tests.registries import forget_sources

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture(autouse=True)
def planners(monkeypatch: pytest.MonkeyPatch) -> Registry[Planner]:
    forget_sources(monkeypatch)
    return strategies.planners


@pytest.fixture
def expanders() -> Registry[TransformInputsMethod]:
    return strategies.expanders


def planner(
    describe: Callable[[Plan], Any] = lambda _plan: None,
    settings: Callable[[], Any] | None = None,
) -> Planner:
    return Planner(
        describe, ("orders", "refunds"), overlap=HOUR, lag=lambda: MINUTE, settings=settings
    )


@pytest.fixture
def _shop(planners: Registry[Planner]) -> None:
    planners.register("shop", planner(), place="here")


def request(mode: str = "incremental", **more: Any) -> QueuerInput:
    return QueuerInput.model_validate({"source": "shop", "mode": mode, **more})


def window(asked: QueuerInput, watermark: datetime | None = None) -> Window:
    return window_of(asked, planner(), NOON, watermark)


LAGGED = NOON - MINUTE
PAST = {"date_start": NOON - 9 * HOUR}


@pytest.mark.parametrize(
    ("asked", "watermark", "start", "end"),
    [
        pytest.param(
            request(), NOON - 5 * HOUR, NOON - 6 * HOUR, LAGGED, id="incremental reaches back"
        ),
        pytest.param(request(), None, None, LAGGED, id="the first incremental has no start"),
        pytest.param(request("full"), NOON - HOUR, None, LAGGED, id="full heeds no watermark"),
        pytest.param(request(), NOON + 9 * HOUR, LAGGED, LAGGED, id="a watermark ahead: empty"),
        pytest.param(
            request("backfill", **PAST, date_end=NOON - 8 * HOUR),
            NOON - HOUR,
            NOON - 9 * HOUR,
            NOON - 8 * HOUR,
            id="a backfill covers what was asked",
        ),
        pytest.param(
            request("backfill", **PAST),
            None,
            NOON - 9 * HOUR,
            LAGGED,
            id="a backfill without an end goes up to what the source lists",
        ),
    ],
)
def test_the_window_of_a_request(
    asked: QueuerInput, watermark: datetime | None, start: datetime | None, end: datetime
) -> None:
    assert window(asked, watermark) == Window(start=start, end=end)


def test_a_backfill_that_begins_in_the_future_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"start 2024-05-01T13.* is not before"):
        window(request("backfill", date_start=NOON + HOUR))


@pytest.mark.usefixtures("_shop")
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (request(streams=["orders", "customers"]), "no stream 'customers'; .* orders, refunds"),
        (request("backfill"), "needs a start date"),
        (request("backfill", date_start=NOON, date_end=NOON), "is not after its start"),
        (request("full", date_start=NOON), "dates belong to a backfill: mode full"),
        (request(date_end=NOON), "dates belong to a backfill: mode incremental"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(asked: QueuerInput, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        check_request(asked)


def test_an_unknown_source_is_answered_with_the_known_ones(planners: Registry[Planner]) -> None:
    planners.register("store", planner(), place="here")
    with pytest.raises(UnknownSourceError, match=r"^there is no source 'shop'; known: store$"):
        check_request(request())


def test_a_service_says_that_a_source_is_known_after_its_restart(
    planners: Registry[Planner],
) -> None:
    planners.register("store", planner(), place="here")
    asked = MetadataRequest(input=request(), nominal=NOON, workflow_id="w", run_id="r")
    with pytest.raises(
        UnknownSourceError, match=r"^there is no source 'shop'; known: store; .* after a restart"
    ):
        resolve_batch(cast("Any", None), asked, policy=RunPolicy(), worker_queue="q")


def test_parameters_are_checked_where_the_source_declares_them(
    planners: Registry[Planner],
) -> None:
    class ShopParams(Query):
        region: str = "north"

    planners.register("shop", replace(planner(), params=ShopParams), place="here")
    check_request(request(params={"region": "south"}))
    with pytest.raises(ConfigurationError, match="takes no parameter 'rigeon'; it takes: region"):
        check_request(request(params={"rigeon": "south"}))


class Books:
    """Double of the ledger that batches are resolved with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[BatchMetadata] = []
        self.watermarks = {
            ("orders", "default"): NOON - HOUR,
            ("orders", "second"): NOON - 2 * HOUR,
        }
        self.now = NOON + 24 * HOUR  # by the warehouse's clock
        monkeypatch.setattr(planning, "connections_for", lambda _warehouse, _name: None)
        monkeypatch.setattr(planning, "trusted_watermarks", self._trusted)
        monkeypatch.setattr(planning, "begin_batch", lambda _w, m, **_ids: self.begun.append(m))

    def _trusted(
        self, _warehouse: object, _source: str, connection: str, *, scopes: object
    ) -> tuple[datetime, dict[str, datetime | None]]:
        assert scopes == ({}, {})
        found = self.watermarks.items()
        return self.now, {stream: mark for (stream, over), mark in found if over == connection}

    def resolve(
        self, asked: QueuerInput, *, run_id: str = "run", scheduled: datetime = NOON
    ) -> BatchMetadata:
        return resolve_batch(
            None,  # type: ignore[arg-type] # the ledger is a double
            MetadataRequest(input=asked, nominal=scheduled, workflow_id="etl-shop", run_id=run_id),
            policy=RunPolicy(max_attempts=7),
            worker_queue="mine",
        )


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch, _shop: None) -> Books:
    return Books(monkeypatch)


def test_resolving_again_gives_the_same_batch(books: Books) -> None:
    assert books.resolve(request()) == books.resolve(request())
    assert books.begun[0].batch_id.startswith("shop-incremental-20240501T120000Z-")


def test_another_run_is_another_batch_even_of_the_same_second(books: Books) -> None:
    ids = {
        books.resolve(request()).batch_id,
        books.resolve(request(), run_id="other").batch_id,
        books.resolve(request(), scheduled=NOON + HOUR).batch_id,
        books.resolve(request("full")).batch_id,
    }
    assert len(ids) == 4


def test_each_stream_begins_at_its_own_watermark_over_the_same_connection(
    books: Books, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "connections.toml"
    file.write_text('[second]\nsource = "shop"\n')
    connection_settings("shop")
    monkeypatch.setenv("ETL_CONNECTIONS", str(file))
    windows = books.resolve(request()).windows
    assert windows == {
        "orders": Window(start=NOON - 2 * HOUR, end=NOON - MINUTE),
        "refunds": Window(end=NOON - MINUTE),
    }
    windows = books.resolve(request(connection="second", streams=["orders"])).windows
    assert windows == {"orders": Window(start=NOON - 3 * HOUR, end=NOON - MINUTE)}


def test_a_run_of_a_time_that_has_not_come_ends_at_the_present(books: Books) -> None:
    books.now = NOON
    windows = books.resolve(request(), scheduled=NOON + 3 * HOUR).windows
    assert {window.end for window in windows.values()} == {NOON - MINUTE}


def test_a_backfill_of_a_span_that_has_not_come_is_refused(books: Books) -> None:
    books.now = NOON
    asked = request("backfill", date_start=NOON + HOUR, date_end=NOON + 2 * HOUR)
    with pytest.raises(ConfigurationError, match=r"start 2024-05-01T13:00.* has not come yet"):
        books.resolve(asked, scheduled=NOON + 9 * HOUR)
    assert books.begun == []


def test_a_batch_is_timed_by_the_services_settings(books: Books) -> None:
    metadata = books.resolve(request())
    assert (metadata.policy.max_attempts, metadata.worker_queue) == (7, "mine")


def test_a_sources_settings_are_checked_before_the_batch_begins(
    monkeypatch: pytest.MonkeyPatch, planners: Registry[Planner]
) -> None:
    def missing() -> None:
        raise ConfigurationError("SHOP_URL is not set")

    planners.register("shop", planner(settings=missing), place="here")
    books = Books(monkeypatch)
    with pytest.raises(ConfigurationError, match="SHOP_URL"):
        books.resolve(request())
    assert books.begun == []


METADATA = BatchMetadata(
    batch_id="b",
    source="shop",
    mode="full",
    connection="default",
    windows={"orders": Window(end=NOON)},
    worker_queue="q",
    started=NOON,
)


def plain(plan: Plan, backlog: list[int]) -> Iterator[ETLInput]:
    for number in backlog:
        yield plan.job("orders", plan.windows["orders"], number=number)


async def asynchronous(plan: Plan, backlog: list[int]) -> AsyncGenerator[ETLInput]:
    for job in plain(plan, backlog):
        yield job


def describe(_plan: Plan) -> list[int]:
    return [1, 2, 3]


async def describe_async(_plan: Plan) -> list[int]:
    return [1, 2, 3]


@pytest.mark.parametrize("describing", [describe, describe_async])
@pytest.mark.parametrize("expanding", [plain, asynchronous])
async def test_strategies_may_be_plain_or_async(
    planners: Registry[Planner],
    expanders: Registry[Callable[[Plan, Any], Any]],
    describing: Callable[[Plan], Any],
    expanding: Callable[[Plan, Any], Any],
) -> None:
    planners.register("shop", planner(describing), place="here")
    expanders.register("shop", expanding, place="here")
    assert [job.params async for job in jobs_of(METADATA)] == [
        {"number": number} for number in (1, 2, 3)
    ]


async def test_plain_strategies_do_not_hold_up_the_event_loop(
    planners: Registry[Planner], expanders: Registry[Callable[[Plan, Any], Any]]
) -> None:
    threads = []

    def describe_here(_plan: Plan) -> list[int]:
        threads.append(threading.current_thread())
        return [1]

    def expand_here(plan: Plan, backlog: list[int]) -> Iterator[ETLInput]:
        threads.append(threading.current_thread())
        yield from plain(plan, backlog)

    planners.register("shop", planner(describe_here), place="here")
    expanders.register("shop", expand_here, place="here")
    assert len([job async for job in jobs_of(METADATA)]) == 1
    assert threading.current_thread() not in threads


async def test_jobs_that_came_before_a_fault_of_their_source_come_first(
    planners: Registry[Planner], expanders: Registry[Callable[[Plan, Any], Any]]
) -> None:
    def failing(plan: Plan, backlog: list[int]) -> Iterator[ETLInput]:
        yield from plain(plan, backlog)
        raise ConfigurationError("no more")

    planners.register("shop", planner(lambda _plan: range(502)), place="here")
    expanders.register("shop", failing, place="here")
    jobs = jobs_of(METADATA)
    assert [(await anext(jobs)).params["number"] for _ in range(502)] == list(range(502))
    with pytest.raises(ConfigurationError, match="no more"):
        await anext(jobs)


class Writer:
    """The ledger's job writer in memory; refuses the job of that number."""

    written: list[ETLInput]
    refused = -1
    complete = False

    def __init__(self, _warehouse: object, _batch_id: str, *, lease: timedelta) -> None:  # noqa: ARG002
        Writer.written = []

    @property
    def count(self) -> int:
        return len(self.written)

    def write(self, jobs: Iterable[ETLInput]) -> None:
        for job in jobs:
            if job.params["number"] == self.refused:
                raise ConfigurationError("too heavy")
            self.written.append(job)

    def close(self) -> int:
        return self.count


@pytest.mark.parametrize("expanding", [plain, asynchronous])
@pytest.mark.parametrize("number", [0, 1, 500, 501, 1203])
async def test_jobs_are_written_in_blocks_and_none_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
    planners: Registry[Planner],
    expanders: Registry[Callable[[Plan, Any], Any]],
    number: int,
    expanding: Callable[[Plan, Any], Any],
) -> None:
    monkeypatch.setattr(planning, "JobWriter", Writer)
    monkeypatch.setattr(planning, "last_cursors", lambda _warehouse, _metadata: {})
    monkeypatch.setattr(planning, "scanned_streams", lambda _warehouse, _metadata: set())
    monkeypatch.setattr(rejects, "streams_with_rejects", lambda *_: [])
    planners.register("shop", planner(lambda _plan: range(number)), place="here")
    expanders.register("shop", expanding, place="here")
    reports: list[int] = []
    assert await expand(None, METADATA, report=reports.append) == number  # type: ignore[arg-type]
    assert [job.params["number"] for job in Writer.written] == list(range(number))
    assert reports == list(range(500, number + 1, 500))


async def test_a_source_is_closed_when_its_jobs_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
    planners: Registry[Planner],
    expanders: Registry[Callable[[Plan, Any], Any]],
) -> None:
    closed = []

    async def closing(plan: Plan, backlog: list[int]) -> AsyncGenerator[ETLInput]:
        try:
            async for job in asynchronous(plan, backlog):
                yield job
        finally:
            closed.append(True)

    monkeypatch.setattr(planning, "JobWriter", Writer)
    monkeypatch.setattr(planning, "last_cursors", lambda _warehouse, _metadata: {})
    monkeypatch.setattr(planning, "scanned_streams", lambda _warehouse, _metadata: set())
    monkeypatch.setattr(Writer, "refused", 3)
    planners.register("shop", planner(lambda _plan: range(900)), place="here")
    expanders.register("shop", closing, place="here")
    with pytest.raises(ConfigurationError, match="too heavy"):
        await expand(None, METADATA, report=lambda _count: None)  # type: ignore[arg-type]
    assert closed
