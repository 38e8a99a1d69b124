"""`map`: something is done with each item of a list, in chunks, and recorded item by item."""

import time
from typing import Any

import pytest

from temporaletl import names
from temporaletl.warehouse.pipeline_executions import read_execution
from temporaletl.warehouse.pipeline_items import SettledItem, record_items
from temporaletl.warehouse.pipeline_results import encode
from temporaletl.worker.pipelines.chunks import item_hash
from temporaletl.worker.pipelines.executions import enter
from temporaletl.worker.pipelines.messages import ExecutionInput, ExecutionSummary
from temporaletl.worker.pipelines.nodes.logic import MapData
from tests.fakes.server import Request, Response
from tests.integration.pipelines.conftest import Pipelines, definition
from tests.integration.pipelines.site import Site

DIVIDED = {"transform_type": "mapping", "mapping": {"at": "index", "is": "100 // item"}}


def over(kind: str, data: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A definition of one map over the input of the execution."""
    return definition({"each": ("map", {"over": "trigger", "type": kind, "data": data, **options})})


def posted(site: Site) -> dict[str, Any]:
    """Posts each item to the site."""
    return {"url": f"{site.url}/{{{{ item.path }}}}", "method": "POST", "body": "{{ index }}"}


async def resumed(
    pipelines: Pipelines, document: dict[str, Any], value: Any, summary: ExecutionSummary
) -> ExecutionSummary:
    warehouse, execution_id = pipelines.services.warehouse, f"{summary.execution_id}-again"
    enter(
        warehouse,
        ExecutionInput(definition=document, input=value),
        execution_id=execution_id,
        started_how="resume",
        resumed_from=read_execution(warehouse, summary.execution_id),
        failed_items_only=True,
    )
    return await entered(pipelines, execution_id)


async def entered(pipelines: Pipelines, execution_id: str) -> ExecutionSummary:
    summary: ExecutionSummary = await pipelines.services.client.execute_workflow(
        names.PIPELINE_FLOW,
        ExecutionInput(execution_id=execution_id),
        id=f"pipeline/{execution_id}",
        task_queue=f"{pipelines.services.queue}-etl",
        result_type=ExecutionSummary,
    )
    return summary


async def test_results_keep_the_order_and_a_bad_item_is_named(pipelines: Pipelines) -> None:
    items = [*range(1, 8), 0, *range(8, 12)]

    summary = await pipelines.run(over("transform", DIVIDED, chunk_items=5, concurrency=3), items)

    assert summary.state == "completed", summary.error
    expected = [{"at": at, "is": 100 // one} if one else None for at, one in enumerate(items)]
    assert pipelines.result(summary, "each") == expected
    details = pipelines.nodes(summary)["each"].details or {}
    assert (details["items"], details["failed"]) == (12, 1)
    [error] = details["errors"]
    assert error["item"] == 7
    assert "ero" in error["message"]


async def test_items_that_fail_can_fail_the_node(pipelines: Pipelines) -> None:
    document = over("transform", DIVIDED, item_errors="fail", chunk_items=1)

    summary = await pipelines.run(document, [5, 0, 0])

    assert summary.state == "failed"
    assert summary.error is not None
    assert summary.error.type == "ItemFailedError"
    assert summary.error.message.startswith("item 1 failed, 2 of 3 did: EvaluationError: ")


@pytest.mark.parametrize(
    ("given", "state", "said"),
    [
        ([], "completed", ""),
        ({"a": 1}, "failed", "over is a list, not an object of a"),
        (None, "failed", "over is a list, not null"),
    ],
)
async def test_over_is_a_list(pipelines: Pipelines, given: Any, state: str, said: str) -> None:
    summary = await pipelines.run(over("transform", DIVIDED), given)

    assert summary.state == state
    assert (summary.error.message if summary.error else "") == said
    if state == "completed":
        assert pipelines.result(summary, "each") == []


async def test_an_item_is_tried_again_and_its_chunk_is_not(
    site: Site, pipelines: Pipelines
) -> None:
    statuses = iter([503, 200])

    def hesitant(_: Request) -> Response:
        return Response.of({}, next(statuses))

    site.routes = {"/a": lambda _: Response.of({}), "/b": hesitant}
    document = over("api_call", posted(site), retry={"initial_seconds": 0.01})

    summary = await pipelines.run(document, [{"path": "a"}, {"path": "b"}, {"path": "gone"}])

    assert [one and one["status"] for one in pipelines.result(summary, "each")] == [200, 200, None]
    assert [one.path for one in site.requests()] == ["/a", "/b", "/b", "/gone"]
    keys = [one.headers["idempotency-key"] for one in site.requests()]
    assert keys == [f"{summary.execution_id}/each/{index}" for index in (0, 1, 1, 2)]


async def test_a_chunk_that_runs_again_skips_what_is_recorded(
    site: Site, pipelines: Pipelines
) -> None:
    site.routes = {f"/{name}": lambda _: Response.of({}) for name in "abc"}
    document = over("api_call", posted(site))
    items: list[Any] = [{"path": "a"}, {"path": "b"}, {"path": "c"}]
    warehouse = pipelines.services.warehouse
    enter(
        warehouse,
        ExecutionInput(definition=document, input=items),
        execution_id="interrupted",
        started_how="command",
    )
    data = MapData.model_validate(document["nodes"][0]["data"])
    with warehouse.connection() as connection:
        done = encode({"done": "before"})
        settled = [
            SettledItem(0, item_hash(data, items[0]), 1, done.size, done.body),
            SettledItem(1, item_hash(data, "of another list"), 1, done.size, done.body),
        ]
        record_items(connection, "interrupted", "each", settled)

    summary = await entered(pipelines, "interrupted")

    assert [one.path for one in site.requests()] == ["/b", "/c"]
    first, second, _ = pipelines.result(summary, "each")
    assert (first, second["status"]) == ({"done": "before"}, 200)


async def test_failed_items_alone_run_again(site: Site, pipelines: Pipelines) -> None:
    site.routes = {"/a": lambda _: Response.of({"first": True})}
    document = definition(
        {
            "each": ("map", {"over": "trigger", "type": "api_call", "data": posted(site)}),
            "after": ("transform", {"transform_type": "filter", "where": "item is not None"}),
        },
        "each -> after",
    )
    items = [{"path": "a"}, {"path": "b"}]
    failed = await pipelines.run(document, items)
    assert len(pipelines.result(failed, "after")) == 1
    site.routes = {"/b": lambda _: Response.of({"first": False})}

    summary = await resumed(pipelines, document, items, failed)

    assert [one.path for one in site.requests()] == ["/a", "/b", "/b"]
    answered = [one["data"]["first"] for one in pipelines.result(summary, "after")]
    assert answered == [True, False]


async def test_a_long_list_leaves_a_short_history(pipelines: Pipelines) -> None:
    handle = await pipelines.start(over("transform", DIVIDED, chunk_items=1), [1] * 2_000)

    summary = await handle.result()

    assert len(pipelines.result(summary, "each")) == 2_000
    history = await handle.fetch_history()
    kinds = [event.WhichOneof("attributes") for event in history.events]
    assert kinds.count("activity_task_scheduled_event_attributes") <= 204
    assert len(kinds) < 4_096


async def test_a_rate_holds_over_all_chunks(pipelines: Pipelines) -> None:
    document = over("transform", DIVIDED, chunk_items=2, concurrency=2, per_minute=240)
    begun = time.monotonic()

    summary = await pipelines.run(document, [1] * 4)

    assert summary.state == "completed"
    assert time.monotonic() - begun >= 4 * 60 / 240  # each of two waits half a second, twice
