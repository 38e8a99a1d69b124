"""Pipelines as steps of others."""

from typing import Any

from temporaletl.warehouse.pipeline_executions import read_execution
from temporaletl.warehouse.pipelines import store_version
from temporaletl.worker.pipelines.definition import Definition
from tests.integration.pipelines.conftest import Pipelines, definition, mapping


def store(pipelines: Pipelines, name: str, document: dict[str, Any]) -> None:
    digest = Definition.model_validate(document).content_hash()
    store_version(pipelines.services.warehouse, name, digest, document, created_by=None)


def of(name: str, **data: Any) -> tuple[str, dict[str, Any]]:
    return "pipeline", {"pipeline": name, **data}


async def test_the_result_of_the_others_last_node_is_the_nodes(pipelines: Pipelines) -> None:
    store(pipelines, "inner", definition({"sum": mapping(total="trigger.a + trigger.b")}))
    inner = of("inner", input={"a": "{{ trigger.a }}", "b": 2})
    document = definition({"sub": inner, "told": mapping(got="sub.total")}, "sub -> told")

    summary = await pipelines.run(document, {"a": 40})

    assert summary.error is None
    assert pipelines.result(summary, "told") == {"got": 42}
    child = read_execution(pipelines.services.warehouse, f"{summary.execution_id}~sub")
    assert (child.parent, child.parent_node) == (summary.execution_id, "sub")
    assert (child.started_how, child.state) == ("pipeline", "completed")


async def test_ids_with_dots_are_those_of_no_other_execution(pipelines: Pipelines) -> None:
    store(pipelines, "inner", definition({"b": of("echo", input="{{ trigger }}")}))
    store(pipelines, "echo", definition({"said": mapping(got="trigger")}))
    nodes = {"a": of("inner", input="within"), "a.b": of("echo", input="beside")}

    summary = await pipelines.run(definition(nodes))

    results = {node: pipelines.result(summary, node) for node in nodes}
    assert results == {"a": {"got": "within"}, "a.b": {"got": "beside"}}


async def test_a_failure_within_is_that_of_the_node(pipelines: Pipelines) -> None:
    store(pipelines, "inner", definition({"bad": mapping(x="trigger.nope")}))

    summary = await pipelines.run(definition({"sub": of("inner", input={})}), {})

    assert summary.error is not None
    assert (summary.error.node, summary.error.type) == ("sub", "ExecutionFailedError")
    assert " is failed at bad: " in summary.error.message


async def test_a_pipeline_that_contains_itself_is_refused(pipelines: Pipelines) -> None:
    store(pipelines, "outer", definition({"sub": of("inner")}))
    store(pipelines, "inner", definition({"sub": of("outer")}))

    summary = await pipelines.run(definition({"sub": of("outer")}))

    assert summary.error is not None
    told = "pipeline outer contains itself: a definition without a name → outer → inner → outer"
    assert told in summary.error.message


async def test_too_many_within_each_other_are_refused(pipelines: Pipelines) -> None:
    for level in range(9):
        store(pipelines, f"level-{level}", definition({"sub": of(f"level-{level + 1}")}))
    store(pipelines, "level-9", definition({"end": mapping(x="1")}))

    summary = await pipelines.run(definition({"sub": of("level-0")}))

    assert summary.error is not None
    assert "more than 8 pipelines within each other" in summary.error.message
