"""A source whose strategies are where one of the services never looks."""

from collections.abc import Callable
from typing import Any

import pytest

from temporaletl.control.operations import sources
from temporaletl.control.operations.sources import find_source, registered, strategies_of
from temporaletl.errors import ConfigurationError, StrategyImportError, UnknownSourceError
from temporaletl.messages import QueuerInput
from temporaletl.placement import check_halves, check_placement
from temporaletl.query import Query
from temporaletl.queuer.planning import check_request
from temporaletl.strategies import (
    extract_method,
    params_method,
    query_type,
    transform_inputs_method,
    transform_method,
)
from tests.registries import forget_sources


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_sources(monkeypatch)
    monkeypatch.setattr(sources, "import_sources", lambda *_: None)


def within(module: str, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__module__ = module
    return function


def register_queuers(module: str) -> None:
    def describe(plan: Any) -> None: ...

    def jobs(plan: Any, backlog: Any) -> Any: ...

    params_method("shop", streams=("orders",))(within(module, describe))
    transform_inputs_method("shop")(within(module, jobs))


def register_workers(module: str) -> None:
    async def pages(_request: Any) -> Any:
        yield

    def rows(record: Any, context: Any) -> Any: ...

    query_type("shop")(type("ShopQuery", (Query,), {"__module__": module}))
    extract_method("shop-orders")(within(module, pages))
    transform_method("shop")(within(module, rows))


QUEUERS, WORKERS = "temporaletl.queuer.sources.shop", "temporaletl.worker.sources.shop"


@pytest.mark.parametrize(
    ("queuers", "workers"),
    [
        (QUEUERS, WORKERS),
        (f"{QUEUERS}.planning", f"{WORKERS}.rows"),
        ("shop_source", "shop_source"),
        ("temporaletl.external.shop", WORKERS),
    ],
)
def test_a_source_that_both_services_import_is_found(queuers: str, workers: str) -> None:
    register_queuers(queuers)
    register_workers(workers)
    check_halves("shop")
    assert find_source("shop").streams == ("orders",)
    assert strategies_of("shop", "orders").query.__name__ == "ShopQuery"
    assert [stream.fault for source in registered() for stream in source.streams] == [None]


@pytest.mark.parametrize(
    ("module", "kind", "other"),
    [(QUEUERS, "query type", WORKERS), (WORKERS, "params method", QUEUERS)],
)
def test_a_source_in_the_modules_of_one_service_is_refused_with_the_other_module(
    module: str, kind: str, other: str
) -> None:
    register_queuers(module)
    register_workers(module)
    for refused in (
        lambda: check_placement("shop"),
        lambda: find_source("shop"),
        lambda: check_request(QueuerInput(source="shop")),
    ):
        with pytest.raises(StrategyImportError) as told:
            refused()
        assert f"source 'shop': its {kind} is in {module}, which only the" in str(told.value)
        assert f"it belongs in {other}; " in str(told.value)
        assert "`etl new-source NAME --wheel`" in str(told.value)
    [listed] = registered()
    assert [stream.fault for stream in listed.streams] == [str(told.value)]


def test_a_source_of_which_the_worker_has_nothing_is_refused_with_its_module() -> None:
    register_queuers(QUEUERS)
    assert find_source("shop").streams == ("orders",)
    with pytest.raises(StrategyImportError, match=f"by {QUEUERS}: for the worker, {WORKERS} must"):
        strategies_of("shop", "orders")
    [listed] = registered()
    [stream] = listed.streams
    assert stream.fault is not None
    assert "known to the queuer alone" in stream.fault


def test_a_source_of_which_the_queuer_has_nothing_is_refused_with_its_module() -> None:
    register_workers(WORKERS)
    with pytest.raises(ConfigurationError, match=f"by {WORKERS}: for the queuer, {QUEUERS} must"):
        find_source("shop")


def test_a_source_that_nobody_knows_is_no_matter_of_modules() -> None:
    register_workers(WORKERS)
    with pytest.raises(UnknownSourceError, match="there is no source 'store'; the sources are n"):
        find_source("store")
