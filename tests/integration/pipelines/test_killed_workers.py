"""A worker that is killed in the middle of a node: another goes on, and repeats nothing done."""

import asyncio
from collections import Counter
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

from temporaletl import names
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_nodes import read_nodes
from temporaletl.warehouse.pipelines import store_version
from temporaletl.worker.pipelines.definition import Definition
from temporaletl.worker.pipelines.messages import Decision
from temporaletl.worker.pipelines.steps.steps import STEPS
from tests.fakes.server import Request, Response
from tests.integration.command_line import CommandLine
from tests.integration.pipelines.conftest import Pipelines, definition, mapping
from tests.integration.pipelines.site import Site
from tests.integration.pipelines.worker_process import (
    WITHIN_SECONDS,
    holding,
    worker,
    workers,
)
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shop")

#: Of nodes that branch: the edge that is taken.
HANDLES = {
    "approval": "-approved->",
    "condition": "-true->",
    "switch": "-yes->",
    "wait_for_webhook": "-received->",
}
ROWS = "[{'id': 1, 'amount': 2}, {'id': 2, 'amount': 3}]"


@pytest.fixture(autouse=True)
def model(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The site answers as a model does, too."""
    monkeypatch.setenv("PIPELINE_MODEL_URL", f"{site.url}/middle")
    monkeypatch.setenv("PIPELINE_MODEL", "m")


def between(before: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """A node of a kind, behind one whose request is counted and before one that sees its result."""
    sent = {"method": "POST", "url": before, "body": {}}
    nodes = {"before": ("api_call", sent), "middle": (kind, data), "behind": mapping(got="inputs")}
    return definition(nodes, "before -> middle", f"middle {HANDLES.get(kind, '->')} behind")


def of_execution(request: Request) -> str:
    return str(request.headers["idempotency-key"]).partition("/")[0]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        # Its death is no attempt of the node.
        ("api_call", {"method": "POST", "body": {"n": 1}, "retry": {"max_attempts": 1}}),
        ("ai_agent", {"agent_type": "summarise"}),
        pytest.param("api_call", {"method": "GET"}, marks=pytest.mark.slow),
        pytest.param("webhook", {"payload": {"n": 1}}, marks=pytest.mark.slow),
    ],
)
async def test_a_request_that_a_killed_worker_did_not_finish_is_sent_again(
    commands: CommandLine, site: Site, kind: str, data: dict[str, Any]
) -> None:
    held, release = Event(), Event()

    def hold_the_first(_: Request) -> Response:
        if not held.is_set():
            held.set()
            release.wait(WITHIN_SECONDS)
        said = {"message": {"content": "yes"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 1}
        return Response.of({"choices": [said], "usage": usage})

    site.routes |= {
        "/before": lambda _: Response.of({}),
        "/middle": hold_the_first,
        "/middle/chat/completions": hold_the_first,
    }
    pipelines = Pipelines(commands.services)
    url = {} if kind == "ai_agent" else {"url": f"{site.url}/middle"}
    document = between(f"{site.url}/before", kind, {**url, **data})

    try:
        async with worker(commands):
            handle = await pipelines.start(document)
            await until(held.is_set, within_seconds=WITHIN_SECONDS)
    finally:
        release.set()
    async with worker(commands), asyncio.timeout(WITHIN_SECONDS):
        summary = await handle.result()

    assert set(pipelines.states(summary).values()) == {"completed"}
    assert len(site.requests("/before")) == 1
    sent = site.requests("/middle")
    assert len(sent) == 2
    if data.get("method") != "GET":
        key = f"{summary.execution_id}/middle"
        assert [one.headers["idempotency-key"] for one in sent] == [key, key]
    if kind == "ai_agent":  # nobody knows what the lost answer took
        details = pipelines.nodes(summary)["middle"].details or {}
        assert (details["calls"], details["prompt_tokens"]) == (1, 9)
        assert details["reserved_tokens"] > 1_000


def written(operation: str, **data: Any) -> dict[str, Any]:
    return {"connection": "till", "operation": operation, "table": "orders", "rows": ROWS, **data}


COLUMNS = {"id": "integer", "amount": "decimal"}
INNER = "SELECT state FROM pipeline_executions WHERE parent_node = 'middle'"
LINES = "SELECT name FROM lines"
LOADED = "SELECT id, amount::int, (SELECT count(*) FROM etl_batches) FROM loaded ORDER BY id"
LOADS = [(1, 2, 1), (2, 3, 1)]
ORDERS = "SELECT id, amount::int FROM orders ORDER BY id"
RUNS = "SELECT state FROM etl_batches"
TWO = [(1, 2), (2, 3)]

#: Type, data, what shows its effect, and what that is.
CASES: list[tuple[str, dict[str, Any], str, list[tuple[Any, ...]]]] = [
    # A table without a key would take the rows twice.
    ("database", written("insert", table="lines", rows="[{'name': 'a'}]"), LINES, [("a",)]),
    ("database", written("insert", key=["id"]), ORDERS, TWO),
    ("database", written("upsert", key=["id"]), ORDERS, TWO),
    ("database", written("update", key=["id"]), ORDERS, []),
    ("database", {"connection": "shop", "operation": "query", "query": "SELECT 1"}, ORDERS, []),
    ("transform", {"transform_type": "mapping", "mapping": {"n": "6 * 7"}}, ORDERS, []),
    ("condition", {"condition": "inputs.status == 200"}, ORDERS, []),
    ("switch", {"cases": [{"name": "yes", "when": "True"}]}, ORDERS, []),
    ("delay", {"seconds": 1}, ORDERS, []),
    ("approval", {"title": "Pay?"}, ORDERS, []),
    ("wait_for_webhook", {}, ORDERS, []),
    ("api_call", {"url": "SITE/middle", "method": "PUT", "body": "x"}, ORDERS, []),
    ("webhook", {"url": "SITE/middle", "payload": {}}, ORDERS, []),
    ("load", {"table": "loaded", "key": ["id"], "columns": COLUMNS, "rows": ROWS}, LOADED, LOADS),
    ("source", {"source": "numbers", "mode": "full"}, RUNS, [("completed",)]),
    ("pipeline", {"pipeline": "inner"}, INNER, [("completed",)]),
]


def test_every_type_of_nodes_is_here_or_has_tests_of_its_own() -> None:
    assert {case[0] for case in CASES} | {"ai_agent", "map"} == {*STEPS}


@pytest.mark.parametrize(
    ("kind", "data", "effect", "left"),
    [CASES[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:])],
)
async def test_a_node_whose_result_was_not_recorded_has_its_effect_once(
    commands: CommandLine,
    site: Site,
    warehouse: Warehouse,
    postgres_url: str,
    kind: str,
    data: dict[str, Any],
    effect: str,
    left: list[tuple[Any, ...]],
) -> None:
    """The worker dies with all done, at the write of the result (of `load`: of its rows)."""
    inner = definition({"sum": mapping(total="1 + 1")})
    digest = Definition.model_validate(inner).content_hash()
    store_version(warehouse, "inner", digest, inner, created_by=None)
    data = {name: _at(site, value) for name, value in data.items()}
    pipelines = Pipelines(commands.services)
    with holding(postgres_url, warehouse) as held:

        def hold(request: Request) -> Response:
            row = {"node": "middle", "part": 0, "bytes": 0, "body": b""}
            held.hold("pipeline_results", execution_id=of_execution(request), **row)
            return Response.of({})

        site.routes |= {"/before": hold, "/middle": lambda _: Response.of({"ok": True})}
        async with worker(commands):
            handle = await pipelines.start(between(f"{site.url}/before", kind, data))
            if kind in ("approval", "wait_for_webhook"):
                outcome = HANDLES[kind].strip("->")
                await handle.signal(names.DECIDE, Decision(node="middle", outcome=outcome))
            await until(held.is_waited_for, within_seconds=WITHIN_SECONDS)
    async with worker(commands), asyncio.timeout(WITHIN_SECONDS):
        summary = await handle.result()

    assert summary.state == "completed", summary.error
    assert pipelines.states(summary) == dict.fromkeys(("before", "middle", "behind"), "completed")
    middle = pipelines.result(summary, "middle")
    assert pipelines.result(summary, "behind") == {"got": middle}
    assert len(site.requests("/before")) == 1
    keys = {one.headers["idempotency-key"] for one in site.requests("/middle")}
    assert keys <= {f"{summary.execution_id}/middle"}
    assert commands.services.rows(effect) == left


def _at(site: Site, value: Any) -> Any:
    return value.replace("SITE", site.url) if isinstance(value, str) else value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "data", "outcome"),
    [
        ("approval", {"title": "Pay?"}, "approved"),
        ("wait_for_webhook", {}, "received"),
        ("delay", {"seconds": 3}, None),
    ],
)
async def test_a_node_that_waited_when_its_worker_was_killed_waits_on(
    commands: CommandLine, site: Site, kind: str, data: dict[str, Any], outcome: str | None
) -> None:
    site.routes["/before"] = lambda _: Response.of({})
    pipelines = Pipelines(commands.services)
    document = between(f"{site.url}/before", kind, data)

    async with worker(commands):
        handle = await pipelines.start(document)
        execution = handle.result_run_id or ""

        def waits() -> bool:
            found = read_nodes(commands.services.warehouse, execution)
            return any(one.node == "middle" and one.wait is not None for one in found)

        await until(waits, within_seconds=WITHIN_SECONDS)
    if outcome is not None:
        await handle.signal(names.DECIDE, Decision(node="middle", outcome=outcome))
    async with worker(commands), asyncio.timeout(WITHIN_SECONDS):
        summary = await handle.result()

    assert set(pipelines.states(summary).values()) == {"completed"}
    assert len(site.requests("/before")) == 1


def over_numbers(site: Site, count: int, **options: Any) -> dict[str, Any]:
    """A map that puts each number of the first `count` to the site."""
    data = {"url": f"{site.url}/item/{{{{ item }}}}", "method": "PUT", "body": "{{ index }}"}
    given = {"over": f"list(range({count}))", "type": "api_call", "data": data, **options}
    return definition({"each": ("map", given)})


def calls(site: Site) -> Counter[str]:
    return Counter(one.path for one in site.requests("/item"))


async def test_items_that_are_done_are_not_done_again(
    commands: CommandLine, site: Site, warehouse: Warehouse, postgres_url: str
) -> None:
    """The worker dies with an item in the middle of a chunk answered, and not recorded."""
    pipelines = Pipelines(commands.services)
    with holding(postgres_url, warehouse) as held:

        def hold(request: Request) -> Response:
            row = {"node": "each", "item": 5, "input_sha256": "", "state": "completed"}
            held.hold("pipeline_items", execution_id=of_execution(request), **row)
            return Response.of({})

        paths = [f"/item/{number}" for number in range(8)]
        site.routes |= dict.fromkeys(paths, lambda _: Response.of({})) | {paths[0]: hold}
        async with worker(commands):
            handle = await pipelines.start(over_numbers(site, 8, chunk_items=4, concurrency=1))
            await until(held.is_waited_for, within_seconds=WITHIN_SECONDS)
    async with worker(commands), asyncio.timeout(WITHIN_SECONDS):
        summary = await handle.result()

    assert [one["status"] for one in pipelines.result(summary, "each")] == [200] * 8
    assert calls(site) == Counter([*paths, paths[5]])


@pytest.mark.slow
async def test_an_item_that_kills_each_worker_fails_and_the_others_do_not(
    commands: CommandLine, site: Site
) -> None:
    pipelines = Pipelines(commands.services)
    async with workers(commands) as following:
        paths = [f"/item/{number}" for number in range(6)]
        site.routes = dict.fromkeys(paths, lambda _: Response.of({}))
        site.routes[paths[2]] = killing(following.kill)
        async with asyncio.timeout(4 * WITHIN_SECONDS):
            summary = await pipelines.run(over_numbers(site, 6))

    assert summary.state == "completed", summary.error
    failed = [number for number, one in enumerate(pipelines.result(summary, "each")) if not one]
    [told] = (pipelines.nodes(summary)["each"].details or {})["errors"]
    assert (failed, told["item"]) == ([2], 2)
    assert "3 workers in a row died" in told["message"]
    assert calls(site) == Counter([*paths, *[paths[2]] * 2])


@pytest.mark.slow
async def test_a_node_that_kills_each_worker_fails_by_a_bound_of_its_own(
    commands: CommandLine, site: Site
) -> None:
    pipelines = Pipelines(commands.services)
    data = {"url": f"{site.url}/item", "retry": {"max_attempts": 1, "max_seconds": 1}}
    async with workers(commands) as following:
        site.routes["/item"] = killing(following.kill)
        async with asyncio.timeout(4 * WITHIN_SECONDS):
            summary = await pipelines.run(definition({"bad": ("api_call", data)}))

    assert summary.error is not None
    assert (summary.state, summary.error.type) == ("failed", "UnansweredError")
    assert len(site.requests("/item")) == following.killed == 5


def killing(kill: Callable[[], None]) -> Callable[[Request], Response]:
    """A route that kills the worker which asks."""

    def answer(_: Request) -> Response:
        kill()
        return Response.of({})

    return answer
