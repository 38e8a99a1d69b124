"""Executions: what runs, what is skipped, and what the warehouse says of it."""

from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from tests.integration.pipelines.conftest import Pipelines, definition, mapping


async def test_the_guides_first_node_runs_as_written(pipelines: Pipelines) -> None:
    document = {
        "nodes": [
            {
                "id": "only",
                "type": "transform",
                "data": {"transform_type": "mapping", "mapping": {"result": "inputs.data"}},
            }
        ],
        "edges": [],
    }

    summary = await pipelines.run(document, {"data": [1, 2]})

    assert (summary.state, summary.nodes, summary.last) == ("completed", {"completed": 1}, "only")
    assert pipelines.result(summary, "only") == {"result": [1, 2]}


async def test_an_untaken_branch_is_skipped_and_the_join_runs_once(pipelines: Pipelines) -> None:
    document = definition(
        {
            "big": ("condition", {"condition": "trigger.amount > 10"}),
            "yes": mapping(said="'big ' + str(inputs.amount)"),
            "no": mapping(said="'small'"),
            "after": mapping(got="inputs.said", no="no"),
        },
        "big -true-> yes",
        "big -false-> no",
        "yes -> after",
        "no -> after",
    )

    summary = await pipelines.run(document, {"amount": 11})

    assert pipelines.states(summary) == {
        "big": "completed",
        "yes": "completed",
        "after": "completed",
        "no": "skipped",
    }
    assert pipelines.result(summary, "after") == {"got": "big 11", "no": None}


async def test_quick_nodes_run_with_the_one_that_decides_them(pipelines: Pipelines) -> None:
    document = definition(
        {
            "first": mapping(n="trigger.n"),
            "odd": ("condition", {"condition": "inputs.n % 2 == 1"}),
            "yes": mapping(n="inputs.n + 1"),
            "no": mapping(n="0"),
            "join": ("switch", {"cases": [{"name": "big", "when": "inputs.n > 5"}]}),
            "bad": mapping(x="inputs.nope"),
            "told": mapping(why="inputs.node", n="first.n"),
            "waits": ("delay", {"seconds": 1}),
            "last": mapping(n="join.n", m="waits.why"),
        },
        *("first -> odd", "odd -true-> yes", "odd -false-> no", "yes -> join", "no -> join"),
        *(
            "join -big-> bad",
            "bad -error-> told",
            "told -> waits",
            "waits -> last",
        ),
    )
    handle = await pipelines.start(document, {"n": 7})

    summary = await handle.result()

    states = dict.fromkeys(document_ids := [one["id"] for one in document["nodes"]], "completed")
    assert pipelines.states(summary) == states | {"no": "skipped", "bad": "failed"}
    assert (summary.last, pipelines.result(summary, "last")) == ("last", {"n": 8, "m": "bad"})
    nodes = pipelines.nodes(summary)
    assert {nodes[one].attempts for one in document_ids if one not in ("no", "bad")} == {1}
    assert (nodes["yes"].input_bytes, nodes["join"].result_bytes) == (7, 7)
    events = [event.event_type for event in (await handle.fetch_history()).events]
    # To begin, `first` with three more, `bad` and its failure, `told`, `last`, and to end.
    assert events.count(EventType.EVENT_TYPE_MARKER_RECORDED) == 7


async def test_a_failed_node_takes_its_error_edge(pipelines: Pipelines) -> None:
    document = definition(
        {
            "bad": ("transform", {"transform_type": "mapping", "mapping": {"x": "trigger.nope"}}),
            "told": mapping(why="inputs.message", kind="inputs.type", node="inputs.node"),
            "never": mapping(x="1"),
        },
        "bad -error-> told",
        "bad -> never",
    )

    summary = await pipelines.run(document, {})

    assert summary.state == "completed"
    assert pipelines.states(summary) == {"bad": "failed", "told": "completed", "never": "skipped"}
    told = pipelines.result(summary, "told")
    assert "nope" in told["why"]
    assert (told["kind"], told["node"]) == ("EvaluationError", "bad")
    assert pipelines.nodes(summary)["bad"].attempts == 1


async def test_a_failure_that_nobody_catches_ends_the_execution(pipelines: Pipelines) -> None:
    document = definition(
        {"bad": mapping(x="trigger.nope"), "never": mapping(x="1")}, "bad -> never"
    )

    summary = await pipelines.run(document, {})

    assert summary.state == "failed"
    assert summary.error is not None
    assert (summary.error.node, summary.error.type) == ("bad", "EvaluationError")
    assert pipelines.states(summary) == {"bad": "failed", "never": "skipped"}


@pytest.mark.parametrize(
    "passing",
    [("condition", {"condition": "True"}), ("delay", {"seconds": 1})],
    ids=lambda one: one[0],
)
async def test_a_node_that_passes_on_what_it_got_passes_on_all_of_it(
    pipelines: Pipelines, passing: tuple[str, dict[str, Any]]
) -> None:
    handle = "true" if passing[0] == "condition" else ""
    document = definition(
        {"a": mapping(n="1"), "b": mapping(n="2"), "on": passing, "got": mapping(all="inputs")},
        *("a -> on", "b -> on", f"on -{handle}-> got"),
    )

    summary = await pipelines.run(document)

    assert pipelines.result(summary, "got") == {"all": {"a": {"n": 1}, "b": {"n": 2}}}
