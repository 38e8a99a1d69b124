"""The join rule on Temporal: graphs of five nodes, drawn by chance, against the model."""

import asyncio
import itertools
import random
from typing import Any

import pytest

from temporaletl import names
from temporaletl.worker.pipelines import interpreter
from temporaletl.worker.pipelines.graph import Join
from temporaletl.worker.pipelines.messages import Decision
from tests.integration.pipelines.conftest import Pipelines, mapping
from tests.integration.pipelines.test_execution_control import Handle, status
from tests.pipeline_graphs import Drawn, expected, graphs, held
from tests.waiting import until

_JOINS: tuple[Join, ...] = ("any", "all")
_WITHIN_SECONDS = 120


def document(drawn: Drawn, joins: dict[str, Join], failing: set[str]) -> dict[str, Any]:
    nodes = []
    for node in drawn.nodes:
        kind, data = mapping(x="1 / 0" if node in failing else "1")
        on_error = {"join": joins[node], "on_error": "continue"}
        nodes.append({"id": node, "type": kind, "data": {**data, **on_error}})
    edges = [
        {"source": link.source, "target": link.target, "sourceHandle": link.handle}
        for link in drawn.links
    ]
    return {"nodes": nodes, "edges": edges}


def drawn_by_chance(chance: random.Random, count: int) -> list[Drawn]:
    """Graphs in which every node has an edge, as validation demands."""
    every = [
        drawn
        for drawn in graphs(5)
        if {end for link in drawn.links for end in link[:2]} == {*drawn.nodes}
    ]
    return chance.sample(every, count)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [15, pytest.param(400, marks=pytest.mark.slow)])
async def test_graphs_of_five_nodes_run_and_skip_as_the_rule_says(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(interpreter, "NODES_PER_RUN", 2)
    chance = random.Random(count)  # noqa: S311
    few = asyncio.Semaphore(5)

    async def check(drawn: Drawn) -> None:
        joins = {node: chance.choice(_JOINS) for node in drawn.nodes}
        failing = {node for node in drawn.nodes if chance.random() < 0.3}
        async with few:
            summary = await pipelines.run(document(drawn, joins, failing))
        told = (drawn.links, joins, failing)
        assert summary.state == "completed", told
        states = pipelines.states(summary)
        assert states == expected(drawn, joins, failing, drawn.nodes), told

    await asyncio.gather(*map(check, drawn_by_chance(chance, count)))


def holding(document: dict[str, Any], node: str) -> dict[str, Any]:
    """The definition with a node that waits until it is approved, in the place of a quick one."""
    nodes = [
        {
            "id": node,
            "type": "approval",
            "data": {
                **{name: one["data"][name] for name in ("join", "on_error")},
                "title": "Go on?",
                "timeout_seconds": 3_600,
            },
        }
        if one["id"] == node
        else one
        for one in document["nodes"]
    ]
    edges = [
        {**edge, "sourceHandle": edge["sourceHandle"] or "approved"}
        if edge["source"] == node
        else edge
        for edge in document["edges"]
    ]
    return {"nodes": nodes, "edges": edges}


async def at_rest(handle: Handle, state: str, nodes: dict[str, str] | None = None) -> None:
    """Wait until it is in a state, and of its nodes those have run that shall, and no others."""
    ran = {node: became for node, became in (nodes or {}).items() if became != "skipped"}

    async def is_at_rest() -> bool:
        found = await status(handle)
        so_far = {node: became for node, became in found.nodes.items() if became != "skipped"}
        return found.state == state and (nodes is None or so_far == ran)

    await until(is_at_rest, within_seconds=_WITHIN_SECONDS)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.slow)])
async def test_graphs_that_are_paused_cancelled_or_out_of_time_end_as_the_rule_says(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """At any node: those beside it come to their end, and those behind it wait, or never run."""
    monkeypatch.setattr(interpreter, "NODES_PER_RUN", 2)
    chance = random.Random(count)  # noqa: S311
    few = asyncio.Semaphore(5)

    async def check(drawn: Drawn, what: str) -> None:
        joins = {node: chance.choice(_JOINS) for node in drawn.nodes}
        failing = {node for node in drawn.nodes if chance.random() < 0.3}
        became = expected(drawn, joins, failing, drawn.nodes)
        node = chance.choice([node for node in drawn.nodes if became[node] != "skipped"])
        failing.discard(node)
        became = expected(drawn, joins, failing, drawn.nodes)
        given = holding(document(drawn, joins, failing), node)
        told = (what, node, drawn.links, joins, failing)
        async with few:
            if what == "timed_out":
                handle = await pipelines.start({**given, "timeout_seconds": 1})
            else:
                handle = await pipelines.start(given)
                if what == "completed" and chance.random() < 0.5:  # about when it begins
                    await handle.signal(names.PAUSE)
                    await at_rest(handle, "paused")
                    await handle.signal(names.RESUME)
                await at_rest(handle, "running", held(drawn, became, node, "running"))
                if what == "cancelled":
                    await handle.signal(names.CANCEL_WORKFLOW)
                else:
                    await handle.signal(names.PAUSE)
                    await handle.signal(names.DECIDE, Decision(node=node, outcome="approved"))
                    rested = held(drawn, became, node, "completed")
                    if rested == became:  # nothing is left to be started
                        await at_rest(handle, "completed", became)
                    else:
                        await at_rest(handle, "paused", rested)
                        await handle.signal(names.RESUME)
            summary = await handle.result()
        states = pipelines.states(summary)
        assert summary.state == what, told
        if what == "completed":
            assert states == became, told
            return
        stopped = held(drawn, became, node, what)
        if what == "cancelled":
            assert states == stopped, told
            return
        # Its time may be over before the others have ended, or have begun.
        for one, state in states.items():
            assert state in {stopped[one], what, "skipped"}, told
            assert state == "skipped" or one == node or stopped[one] != "skipped", told

    ways = itertools.cycle(("completed", "cancelled", "timed_out"))
    await asyncio.gather(*map(check, drawn_by_chance(chance, count), ways))
