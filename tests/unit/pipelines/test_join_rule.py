"""The join rule over every small graph, against a model of its own."""

import itertools
import random
from collections.abc import Iterator
from functools import cache

import pytest

from temporaletl.worker.pipelines.graph import Graph, Join, Link, Progress

#: Of each pair of nodes: no edge, an edge, or an edge that is taken when its source fails.
_EDGES = (None, "done", "error")


def graphs(size: int) -> Iterator[tuple[list[str], tuple[Link, ...]]]:
    nodes = [f"n{number}" for number in range(size)]
    pairs = [*itertools.combinations(nodes, 2)]
    for kinds in itertools.product(_EDGES, repeat=len(pairs)):
        chosen = zip(pairs, kinds, strict=True)
        yield nodes, tuple(Link(*pair, kind) for pair, kind in chosen if kind is not None)


def expected(
    nodes: list[str], links: tuple[Link, ...], joins: dict[str, Join], failing: set[str]
) -> dict[str, str]:
    """What becomes of each node, read off the rule: nodes are numbered in an order that holds."""

    @cache
    def became(node: str) -> str:
        took = [
            became(link.source) == _OUTCOME[link.handle or ""] for link in links if link[1] == node
        ]
        runs = not took or (all(took) if joins[node] == "all" else any(took))
        return "skipped" if not runs else "failed" if node in failing else "completed"

    return {node: became(node) for node in nodes}


_JOINS: tuple[Join, ...] = ("any", "all")
_OUTCOME = {"done": "completed", "error": "failed"}


def became(graph: Graph, failing: set[str], chance: random.Random) -> dict[str, str]:
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
        if node in failing:
            progress.settle(node, "failed", ("error",))
        else:
            progress.settle(node, "completed", ("done",))


@pytest.mark.parametrize("size", [1, 2, 3, 4, pytest.param(5, marks=pytest.mark.slow)])
def test_every_small_graph_runs_and_skips_as_the_join_rule_says(size: int) -> None:
    chance = random.Random(size)  # noqa: S311
    every: list[tuple[Join, ...]] = [*itertools.product(_JOINS, repeat=size)]
    joined = every if size < 4 else [every[0], every[-1]]
    for nodes, links in graphs(size):
        for chosen in joined:
            joins = dict(zip(nodes, chosen, strict=True))
            graph = Graph(tuple(nodes), links, joins)
            for outcomes in itertools.product((False, True), repeat=size):
                failing = {node for node, fails in zip(nodes, outcomes, strict=True) if fails}
                assert became(graph, failing, chance) == expected(nodes, links, joins, failing)


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
