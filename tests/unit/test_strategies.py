import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from temporaletl import strategies
from temporaletl.errors import (
    ConfigurationError,
    DuplicateStrategyError,
    StrategyImportError,
    UnknownSourceError,
)
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import BatchMetadata, ETLInput, Window
from temporaletl.query import Query, name_source
from temporaletl.rereading import Unread, reread_method
from temporaletl.rows import Event, Row
from temporaletl.strategies import (
    Plan,
    extract_method,
    import_sources,
    params_method,
    query_type,
    resolve,
    transform_inputs_method,
    transform_method,
)
from temporaletl.transformation import TransformContext
from tests.registries import forget_sources

NOW = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_sources(monkeypatch)


type Build = Callable[..., str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Writes a package `shops` of the given modules onto the path; forgets it afterwards."""
    before = set(sys.modules)

    def build(**modules: str) -> str:
        for name, text in {"__init__": "", **modules}.items():
            file = tmp_path / "shops" / f"{name.replace('__in__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"from temporaletl import *\n{text}\n")
        return "shops"

    monkeypatch.syspath_prepend(str(tmp_path))
    yield build
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("shops", "corner_shop"):
            del sys.modules[name]


PLANNER = "@params_method('shop', streams=('orders',))\ndef describe(plan): ...\n"


def test_every_module_of_a_package_registers(package: Build) -> None:
    import_sources(package(plain=PLANNER, nested__in____init__="", nested__in__deep=QUERY))
    assert list(strategies.planners) == ["shop"]
    assert list(strategies.queries) == ["shop"]


QUERY = "@query_type('shop')\nclass ShopQuery(Query): ...\n"


def test_importing_twice_registers_once(package: Build) -> None:
    name = package(plain=PLANNER)
    import_sources(name)
    import_sources(name)
    assert list(strategies.planners) == ["shop"]


def test_a_name_taken_twice_is_refused_with_both_places(package: Build) -> None:
    with pytest.raises(DuplicateStrategyError) as refused:
        import_sources(package(first=PLANNER, second=PLANNER))
    assert "'shop' is registered twice" in str(refused.value)
    assert "in shops.first.describe:2 and in shops.second.describe:2" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError: "),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_cause(
    package: Build, text: str, cause: str
) -> None:
    with pytest.raises(StrategyImportError) as refused:
        import_sources(package(bad=text))
    assert f"source module shops.bad cannot be imported: {cause}" in str(refused.value)


def test_one_source_is_imported_alone_by_the_name_of_its_module(package: Build) -> None:
    name = package(shop__in____init__="", shop__in__deep=QUERY, other="1 / 0", shops="1 / 0")
    import_sources(name, "shop")
    import_sources(name, "none.of.them")
    assert list(strategies.queries) == ["shop"]


@pytest.mark.parametrize("text", ["import no_such_module", "1 / 0"])
def test_a_package_that_cannot_be_imported_is_named_too(package: Build, text: str) -> None:
    """Also where it had registered something before it failed."""
    with pytest.raises(StrategyImportError, match=r"module shops\.nested cannot be imported"):
        import_sources(package(nested__in____init__=f"{PLANNER}{text}", nested__in__deep=""))


def test_the_package_itself_may_be_what_fails(package: Build) -> None:
    with pytest.raises(StrategyImportError, match="source module shops cannot"):
        import_sources(package(__init__="1 / 0"))


def test_another_distribution_adds_a_source_by_its_entry_point(
    package: Build, tmp_path: Path
) -> None:
    (tmp_path / "corner_shop.py").write_text(f"from temporaletl import *\n{QUERY}")
    information = tmp_path / "corner_shop-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: corner-shop\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[temporaletl.sources]\nshop = corner_shop\n")
    import_sources(package())
    assert strategies.queries.place("shop") == "corner_shop.ShopQuery"


def test_an_entry_point_that_cannot_be_imported_is_named(package: Build, tmp_path: Path) -> None:
    information = tmp_path / "corner_shop-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: corner-shop\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[temporaletl.sources]\nshop = corner_shop\n")
    with pytest.raises(StrategyImportError, match="module corner_shop cannot"):
        import_sources(package())


class ShopQuery(Query):
    VERSION: ClassVar[str] = "2"
    SPECIFIC_VERSION: ClassVar[str] = "2.7"

    region: str
    size: int = 10


def nothing(_plan: Plan) -> None: ...


async def no_pages(_request: PageRequest[Query]) -> AsyncGenerator[Page]:
    return
    yield


def one_event(record: str, _context: TransformContext[Query]) -> list[Row]:
    return [Event(event_id=record, event_type="order_made", event_time_utc=NOW)]


def no_event(_record: str, _context: TransformContext[Query]) -> list[Row]:
    return []


@pytest.fixture
def shop() -> None:
    query_type("shop")(ShopQuery)
    extract_method("shop-orders")(no_pages)
    extract_method("shop-refunds")(no_pages)
    transform_method("shop")(one_event)
    transform_method("shop-refunds", rows=())(no_event)


@pytest.mark.usefixtures("shop")
def test_a_stream_resolves_to_its_strategies() -> None:
    found = resolve("shop", "orders")
    assert found.query is ShopQuery
    assert found.transform is one_event
    assert found.rows == (Event,)


@pytest.mark.usefixtures("shop")
def test_a_streams_own_transform_wins_over_the_sources() -> None:
    assert resolve("shop", "refunds").transform is no_event
    assert resolve("shop", "refunds").rows == ()


@pytest.mark.usefixtures("shop")
def test_one_extract_method_may_stand_for_all_other_streams() -> None:
    async def any_pages(_request: PageRequest[Query]) -> AsyncGenerator[Page]:
        return
        yield

    extract_method("shop-*")(any_pages)
    assert resolve("shop", "orders").extract is no_pages
    assert resolve("shop", "customers").extract is any_pages


def test_streams_may_be_what_the_settings_say_when_they_are_asked_for() -> None:
    known = ["orders"]
    params_method("shop", streams=lambda: known)(nothing)
    planner = strategies.planners.get("shop")
    assert list(planner.streams) == ["orders"]
    known.append("refunds")
    assert list(planner.streams) == ["orders", "refunds"]


@pytest.mark.usefixtures("shop")
def test_an_unknown_source_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownSourceError, match="'store'; known: shop"):
        resolve("store", "orders")


@pytest.mark.usefixtures("shop")
def test_an_unknown_stream_is_answered_with_the_sources_streams() -> None:
    with pytest.raises(UnknownSourceError, match="its streams: shop-orders, shop-refunds"):
        resolve("shop", "customers")


def test_an_extract_method_must_be_an_async_generator() -> None:
    def plain(_request: PageRequest[Query]) -> None: ...

    with pytest.raises(ConfigurationError, match=r"plain.* is not an async generator"):
        extract_method("shop-orders")(plain)  # type: ignore[type-var]


def test_an_extract_method_must_be_of_a_stream() -> None:
    with pytest.raises(ConfigurationError, match="must be named <source>-<stream>"):
        extract_method("shop")(no_pages)


def test_a_query_type_must_know_its_versions() -> None:
    class Unversioned:
        @classmethod
        def from_dict(cls, _params: dict[str, Any]) -> object: ...

    with pytest.raises(ConfigurationError, match=r"Unversioned has no version\(\)"):
        query_type("shop")(Unversioned)  # type: ignore[type-var]


def test_decorators_give_back_what_they_decorate() -> None:
    def describe(_plan: Plan) -> None: ...

    def expand(_plan: Plan, _backlog: None) -> Iterator[ETLInput]:
        yield from ()

    assert params_method("shop", streams=["orders"])(describe) is describe
    assert transform_inputs_method("shop")(expand) is expand
    assert query_type("shop")(ShopQuery) is ShopQuery
    assert extract_method("shop-orders")(no_pages) is no_pages
    assert transform_method("shop")(one_event) is one_event
    assert strategies.planners.get("shop").streams == ("orders",)


def test_a_query_is_its_checked_parameters_and_versions() -> None:
    query = ShopQuery.from_dict({"region": "north"})
    assert (query.region, query.size) == ("north", 10)
    assert (query.version(), query.specific_version()) == ("2", "2.7")


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({}, "^shop: region: Field required"),
        ({"region": "north", "size": "many"}, "^shop: size: "),
        (
            {"region": "north", "rigeon": "n"},
            "^shop takes no parameter 'rigeon'; it takes: region, size$",
        ),
    ],
)
def test_a_bad_parameter_is_named(params: dict[str, Any], named: str) -> None:
    name_source(ShopQuery, "shop")
    with pytest.raises(ConfigurationError, match=named) as refused:
        ShopQuery.from_dict(params)
    assert "\n" not in str(refused.value)


def test_a_planned_job_carries_the_batchs_parameters_and_its_own() -> None:
    window = Window(end=NOW)
    metadata = BatchMetadata(
        batch_id="b",
        source="shop",
        mode="full",
        connection="second",
        windows={"orders": window},
        params={"region": "north", "size": 1},
        worker_queue="q",
        started=NOW,
    )
    planned = Plan(metadata).job("orders", window, size=2)
    assert planned.params == {"region": "north", "size": 2}
    assert (planned.batch_id, planned.connection, planned.window) == ("b", "second", window)


def test_an_unknown_person_keeps_the_sources_id() -> None:
    planned = ETLInput(batch_id="b", seq=0, job_id="j", source="s", stream="t", mode="full")
    context = TransformContext(planned, Query(), {"u1": "E7"})
    assert [context.employee(p) for p in ("u1", "u2", None)] == ["E7", None, None]


def test_a_source_looks_back_and_stays_behind_a_little_unless_it_says_otherwise() -> None:
    params_method("shop", streams=("orders",))(nothing)
    planner = strategies.planners.get("shop")
    assert timedelta(0) < planner.lag() < planner.overlap


class NarrowQuery(ShopQuery):
    counter: int = 1


class OtherQuery(Query):
    pass


def test_methods_may_take_queries_of_a_class_that_the_sources_own_is_one_of() -> None:
    async def pages(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        yield Page([request.query.region], cursor=None)

    query_type("shop")(NarrowQuery)
    extract_method("shop-orders")(pages)
    transform_method("shop")(one_event)
    assert resolve("shop", "orders").query is NarrowQuery


@pytest.mark.usefixtures("shop")
def test_a_method_for_queries_that_no_job_brings_is_refused_with_both_places() -> None:
    async def pages(_request: PageRequest[OtherQuery]) -> AsyncGenerator[Page]:
        return
        yield

    def events(_record: str, _context: TransformContext[OtherQuery]) -> list[Row]:
        return []

    async def again(_unread: Unread, _request: PageRequest[OtherQuery]) -> None: ...

    extract_method("shop-lists")(pages)
    transform_method("shop-orders")(events)
    reread_method("shop-refunds")(again)
    for stream, method in (("lists", "pages"), ("orders", "events"), ("refunds", "again")):
        with pytest.raises(ConfigurationError, match=rf"{method}:.*OtherQuery, .*ShopQuery"):
            resolve("shop", stream)


def test_types_know_the_query() -> None:
    """What mypy refuses here stands in a comment, and mypy complains where it does not."""

    async def pages(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        size: str = request.query.size  # type: ignore[assignment]
        request.query.rigeon  # type: ignore[attr-defined]  # noqa: B018
        yield Page([size], cursor=None)

    def events(_record: str, context: TransformContext[ShopQuery]) -> list[Row]:
        context.query.rigeon  # type: ignore[attr-defined]  # noqa: B018
        return []

    planned = ETLInput(batch_id="b", seq=0, job_id="j", source="s", stream="t", mode="full")
    pages(PageRequest(planned, ShopQuery(region="north")))
    pages(PageRequest(planned, OtherQuery()))  # type: ignore[arg-type]
    assert transform_method("shop")(events) is events
    with pytest.raises(ConfigurationError):
        extract_method("shop-orders")(events)  # type: ignore[type-var]
