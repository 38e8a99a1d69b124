"""The examples in the docstrings of the author's API: each is there, and each runs.

An example is an indented block of a docstring. It may use the public names of `temporaletl`, some
of Python's own, the `ShopQuery` of its source, and `shop`: a client of one's own.
"""

import ast
import inspect
import textwrap
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from pydantic import JsonValue

import temporaletl
from temporaletl import (
    ETLInput,
    PageRequest,
    Plan,
    Query,
    TransformContext,
    Window,
    strategies,
)
from temporaletl.messages import BatchMetadata
from tests.registries import forget_sources

ORDERS = [
    {"id": str(number), "clerk": "clerk-7", "placed_at": f"2024-05-0{number}T12:00:00Z"}
    for number in (1, 2, 3)
]
#: Aliases have no docstring of their own.
ALIASES = {"FindDeleted", "Json", "LocalTime"}
#: Their example needs servers: see tests/integration/engine/test_library.py.
NEED_SERVERS = {"run", "run_async"}


class Shop:
    def branches(self, region: str) -> list[str]:
        return [f"{region}-1", f"{region}-2"]

    def orders(self, _region: str, *, behind: int) -> list[dict[str, str]]:
        return ORDERS[behind : behind + 2]

    def order(self, id_: str) -> dict[str, str] | None:
        return next((order for order in ORDERS if order["id"] == id_), None)

    def clerks(self) -> list[dict[str, str]]:
        return [{"id": "clerk-7", "email": "ann@example.com"}]

    def me(self) -> dict[str, Any]:
        return {"id": "api-user", "branches": ["north-1"]}

    def close(self) -> None: ...

    def get(self, _path: str) -> bytes:
        return b"{}"


class ShopQuery(Query):
    region: str = "north"
    branch: str | None = None


def names() -> dict[str, Any]:
    given = [AsyncGenerator, Iterator, Mapping, Sequence, datetime, timedelta, ClassVar, dataclass]
    public = {name: getattr(temporaletl, name) for name in temporaletl.__all__}
    others = {
        str(getattr(each, "__name__", None) or getattr(each, "_name", "")): each for each in given
    }
    return {
        **public,
        **others,
        "UTC": UTC,
        "JsonValue": JsonValue,
        "ShopQuery": ShopQuery,
        "shop": Shop(),
    }


def examples_of(name: str) -> Iterator[str]:
    """The indented blocks of a docstring; those of a section, as `Raises:`, are none."""
    block: list[str] = []
    section = False
    for line in [*inspect.cleandoc(getattr(temporaletl, name).__doc__ or "").splitlines(), "end"]:
        if not line.strip() or (line.startswith("    ") and not section):
            block.append(line)
            continue
        if text := textwrap.dedent("\n".join(block)).strip():
            yield text
        block, section = [], line == "Raises:" or (section and line.startswith("    "))


@pytest.fixture(autouse=True)
def _scratch_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_sources(monkeypatch)


def run(name: str, world: dict[str, Any]) -> None:
    for text in examples_of(name):
        exec(compile(ast.parse(text), f"<the example of {name}>", "exec"), world)  # noqa: S102


@pytest.mark.parametrize("name", sorted({*temporaletl.__all__} - ALIASES - NEED_SERVERS))
def test_each_public_name_has_an_example_that_runs(name: str) -> None:
    assert list(examples_of(name)), f"{name} has no example in its docstring"
    run(name, names())


async def test_the_examples_of_the_five_decorators_are_a_whole_source() -> None:
    world = names()
    for name in (
        "query_type",
        "params_method",
        "transform_inputs_method",
        "extract_method",
        "transform_method",
    ):
        run(name, world)
    metadata = BatchMetadata(
        batch_id="b",
        source="shop",
        mode="full",
        connection="default",
        windows={"orders": Window(end=datetime(2024, 6, 1, tzinfo=UTC))},
        worker_queue="q",
        started=datetime(2024, 6, 1, tzinfo=UTC),
    )
    plan = Plan(metadata)
    backlog = strategies.planners.get("shop").describe(plan)
    expanded = strategies.expanders.get("shop")(plan, backlog)
    assert isinstance(expanded, Iterator)
    jobs: list[ETLInput] = list(expanded)
    assert [job.params["branch"] for job in jobs] == ["north-1", "north-2"]

    found = strategies.resolve("shop", "orders")
    query = found.query.from_dict(jobs[0].params)
    context = TransformContext(jobs[0], query)
    pages = [page async for page in found.extract(PageRequest(jobs[0], query))]
    assert [page.cursor for page in pages] == [2, 3]
    rows = [
        row for page in pages for each in page.records for row in found.transform(each, context)
    ]
    assert [getattr(row, "event_id", None) for row in rows] == [
        "order:1:placed",
        "order:2:placed",
        "order:3:placed",
    ]
