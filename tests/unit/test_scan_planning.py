"""Which deletion scans the platform plans, and whose word it takes that what is gone is gone."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import JsonValue

from temporaletl import (
    ConfigurationError,
    DeletionScan,
    ETLInput,
    FindDeleted,
    Items,
    PageRequest,
    Plan,
    Query,
    Window,
    deletion_scan,
    scan_inputs_method,
    strategies,
)
from temporaletl.deletions import accepts_deletions
from temporaletl.errors import DuplicateStrategyError, UnknownSourceError
from temporaletl.messages import Mode, QueuerInput
from temporaletl.queuer.scans import check_acceptance, scan_jobs
from temporaletl.strategies import Strategies
from temporaletl.testing.scans import MemoryScan
from temporaletl.worker.scanning import scanning
from tests.integration.job_reading import plan_of
from tests.registries import forget_sources

NOW = datetime(2024, 5, 1, tzinfo=UTC)
FULL = Window(end=NOW)


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_sources(monkeypatch)


def planned(mode: Mode = "full", **windows: Window) -> list[ETLInput]:
    plan = plan_of("shop", [], mode, accept_deletions=True)
    known = windows or {"orders": FULL, "refunds": FULL}
    metadata = plan.metadata.model_copy(update={"windows": known})
    return list(scan_jobs(Plan(metadata), "everything"))


def shop(**find_deleted: FindDeleted) -> None:
    @scan_inputs_method("shop", find_deleted=lambda stream: find_deleted.get(stream, "always"))
    def scan_inputs(_plan: Plan, backlog: str, stream: str) -> dict[str, JsonValue] | None:
        return {"of": f"{backlog} in {stream}"} if stream != "lists" else None


def test_each_stream_has_one_scan_without_a_window_with_what_the_source_adds() -> None:
    shop()
    orders, refunds = planned()
    assert (orders.scan, orders.stream, orders.window) == (True, "orders", Window())
    assert orders.params == {"accept_deletions": True, "of": "everything in orders"}
    assert refunds.params["of"] == "everything in refunds"


def test_a_stream_that_is_read_otherwise_than_usual_has_none() -> None:
    shop()
    assert planned(lists=FULL) == []


def test_an_empty_window_has_none() -> None:
    shop()
    assert planned("incremental", orders=Window(start=NOW, end=NOW)) == []


@pytest.mark.parametrize(
    ("mode", "streams"),
    [("full", ["orders", "refunds"]), ("incremental", ["orders"]), ("backfill", [])],
)
def test_each_stream_is_scanned_in_the_runs_that_it_says(mode: Mode, streams: list[str]) -> None:
    shop(refunds="full", lists="never")
    assert [job.stream for job in planned(mode, orders=FULL, refunds=FULL, lists=FULL)] == streams


def test_a_source_without_scans_has_none_and_takes_no_word_for_them() -> None:
    assert planned() == []
    request = QueuerInput(source="shop", params={"accept_deletions": False})
    with pytest.raises(ConfigurationError, match="'shop', which has no deletion scans"):
        check_acceptance(request)
    assert not check_acceptance(QueuerInput(source="shop"))


@pytest.mark.parametrize(("value", "accepted"), [(True, True), (False, False), ("true", True)])
def test_acceptance_is_yes_or_no(value: JsonValue, accepted: bool) -> None:
    shop()
    request = QueuerInput(source="shop", params={"accept_deletions": value})
    assert check_acceptance(request) is accepted


@pytest.mark.parametrize("value", [None, "perhaps", 2, ["x"]])
def test_what_is_neither_is_refused(value: JsonValue) -> None:
    with pytest.raises(ConfigurationError, match="accept_deletions is true or false, not"):
        accepts_deletions({"accept_deletions": value})


def test_a_query_need_not_know_of_acceptance_but_may() -> None:
    class OldQuery(Query):
        accept_deletions: bool = False

    assert Query.from_dict({"accept_deletions": True}) == Query()
    assert OldQuery.from_dict({"accept_deletions": True}).accept_deletions


class ShopQuery(Query): ...


class OtherQuery(Query): ...


def scan(_request: PageRequest[ShopQuery]) -> Iterator[DeletionScan]:
    yield DeletionScan("orders", Items("order:"), lambda _: iter(()))


def scanned(stream: str) -> Strategies:
    strategies.query_type("shop")(ShopQuery)
    job = ETLInput(
        batch_id="b", seq=0, job_id="j", source="shop", stream=stream, mode="full", scan=True
    )
    found: Any = Strategies(ShopQuery, None, None, ())  # type: ignore[arg-type] # not asked
    return scanning(found, job, MemoryScan(list))


def test_a_scan_is_found_by_its_stream_or_stands_for_all() -> None:
    deletion_scan("shop-orders")(scan)
    assert callable(scanned("orders").extract)


def test_a_scan_that_nobody_registered_is_named_with_those_there_are() -> None:
    deletion_scan("shop-orders")(scan)
    with pytest.raises(UnknownSourceError, match=r"stream 'lists' of source 'shop'.*: shop-orders"):
        scanned("lists")


def test_a_scan_for_queries_that_no_job_brings_is_refused() -> None:
    @deletion_scan("shop-*")
    def other(_request: PageRequest[OtherQuery]) -> Iterator[DeletionScan]:
        yield from ()

    with pytest.raises(ConfigurationError, match=r"other:.*OtherQuery, .*ShopQuery"):
        scanned("orders")


def test_a_scan_is_a_generator_of_a_stream_and_registered_once() -> None:
    def plain(_request: PageRequest[ShopQuery]) -> Iterator[DeletionScan]:
        return iter(())

    with pytest.raises(ConfigurationError, match=r"plain.* is not a generator"):
        deletion_scan("shop-orders")(plain)
    with pytest.raises(ConfigurationError, match="must be named <source>-<stream>"):
        deletion_scan("shop")(scan)
    assert deletion_scan("shop-orders")(scan) is scan
    with pytest.raises(DuplicateStrategyError):
        deletion_scan("shop-orders")(scan)
