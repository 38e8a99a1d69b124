"""The join rule on Temporal: graphs of five nodes, drawn by chance, against the model."""

import asyncio
import random
from typing import Any

import pytest

from temporaletl.worker.pipelines import interpreter
from temporaletl.worker.pipelines.graph import Join
from tests.integration.pipelines.conftest import Pipelines, mapping
from tests.pipeline_graphs import Drawn, expected, graphs

_JOINS: tuple[Join, ...] = ("any", "all")


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
