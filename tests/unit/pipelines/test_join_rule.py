"""The join rule over every small graph, against a model of its own."""

import itertools
import random
from collections.abc import Iterable

import pytest

from temporaletl.worker.pipelines.graph import Graph, Join, Link, Progress
from tests.pipeline_graphs import Drawn, expected, graphs

_JOINS: tuple[Join, ...] = ("any", "all")


def became(graph: Graph, drawn: Drawn, failing: set[str], chance: random.Random) -> dict[str, str]:
    """What becomes of each node where they end in any order."""
    progress = Progress.of(graph)
    running: list[str] = []
    while True:
        for node in progress.ready():
            progress.start(node)
            running.append(node)
        if not running:
            assert progress.is_over
            return dict(progress.states)
        assert not progress.is_over
        node = running.pop(chance.randrange(len(running)))
        if node not in failing:
            progress.settle(node, "completed", (None,))
        else:
            progress.settle(node, "failed", ("error",) if drawn.catches(node) else ())


def check(
    drawn: Drawn, joins: dict[str, Join], outcomes: Iterable[set[str]], chance: random.Random
) -> None:
    graph = Graph(drawn.nodes, drawn.links, joins)
    for failing in outcomes:
        found = became(graph, drawn, failing, chance)
        assert found == expected(drawn, joins, failing), (drawn.links, joins, failing)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", [1, 2, 3, 4, pytest.param(5, marks=pytest.mark.slow)])
def test_every_small_graph_runs_and_skips_as_the_join_rule_says(size: int) -> None:
    chance = random.Random(size)  # noqa: S311
    every: list[tuple[Join, ...]] = [*itertools.product(_JOINS, repeat=size)]
    joined = every if size < 4 else [every[0], every[-1]]
    for drawn in graphs(size):
        # What becomes of a node that no edge leaves is nothing to the others.
        sources = {link.source for link in drawn.links}
        failing = [
            {node for node, fails in zip(sources, outcomes, strict=True) if fails}
            for outcomes in itertools.product((False, True), repeat=len(sources))
        ]
        for chosen in joined:
            check(drawn, dict(zip(drawn.nodes, chosen, strict=True)), failing, chance)


def test_every_graph_of_five_nodes_holds_to_the_rule_in_one_way_of_many() -> None:
    chance = random.Random(5)  # noqa: S311
    for drawn in graphs(5):
        joins = {node: chance.choice(_JOINS) for node in drawn.nodes}
        failing = {node for node in drawn.nodes if chance.random() < 0.4}
        check(drawn, joins, [failing], chance)


def test_a_node_gets_what_the_edges_that_were_taken_bring_and_each_source_once() -> None:
    links = (
        Link("a", "c", "x"),
        Link("a", "c", "y"),
        Link("b", "c", None),
        Link("b", "c", "error"),
    )
    progress = Progress.of(Graph(("a", "b", "c"), links))
    assert progress.ready() == ["a", "b"]
    progress.settle("a", "completed", ("x",))
    assert progress.ready() == ["b"]
    progress.settle("b", "failed", ("error",))
    assert progress.ready() == ["c"]
    assert progress.sources("c") == ["a", "b"]


def test_a_cycle_is_named_in_its_order() -> None:
    graph = Graph(
        ("a", "b", "c"), (Link("a", "b", None), Link("b", "c", None), Link("c", "b", None))
    )
    assert graph.cycle() in (["b", "c"], ["c", "b"])
    assert Graph(("a", "b"), (Link("a", "b", None),)).cycle() is None
