"""Every small graph, and a model of what becomes of its nodes that knows no other."""

import itertools
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from temporaletl.worker.pipelines.graph import Join, Link

#: Of each pair of nodes: no edge, an edge, or an edge that is taken when its source fails.
_NONE, _EDGE, _ERROR = range(3)

type Rows = tuple[tuple[int, ...], ...]
"""Kinds of the edges into each node, from those before it."""


class Drawn(NamedTuple):
    """Nodes in an order that holds, and the edges between them."""

    nodes: tuple[str, ...]
    links: tuple[Link, ...]

    def catches(self, node: str) -> bool:
        return any(link.source == node and link.handle == "error" for link in self.links)


def graphs(size: int) -> Iterator[Drawn]:
    """Every graph of so many nodes, but for the names of all nodes other than the last."""
    for rows in _grown(size):
        yield _drawn(rows)


def _grown(size: int) -> Iterator[Rows]:
    """Each graph that is one smaller, once, with each way to put a node behind it."""
    for smaller in _different(size - 1):
        for row in itertools.product((_NONE, _EDGE, _ERROR), repeat=size - 1):
            yield (*smaller, row)


@cache
def _different(size: int) -> tuple[Rows, ...]:
    """Every graph once, whatever its nodes are called."""
    if size == 0:
        return ((),)
    return tuple({_named_first(rows): rows for rows in _grown(size)}.values())


def _named_first(rows: Rows) -> tuple[tuple[int, int, int], ...]:
    """Of all that one graph can be called, the first."""
    edges = [(a, b, kind) for b, row in enumerate(rows) for a, kind in enumerate(row) if kind]
    names = itertools.permutations(range(len(rows)))
    return min(tuple(sorted((new[a], new[b], kind) for a, b, kind in edges)) for new in names)


def _drawn(rows: Rows) -> Drawn:
    nodes = tuple(f"n{number}" for number in range(len(rows)))
    links = (
        Link(nodes[source], nodes[target], "error" if kind == _ERROR else None)
        for target, row in enumerate(rows)
        for source, kind in enumerate(row)
        if kind != _NONE
    )
    return Drawn(nodes, tuple(links))


def expected(
    drawn: Drawn,
    joins: Mapping[str, Join],
    failing: Collection[str],
    going_on: Collection[str] = (),
) -> dict[str, str]:
    """What becomes of each node where all come to their end, read off the rule."""

    def takes(link: Link) -> bool:
        match became(link.source):
            case "completed":
                return link.handle is None
            case "failed" if drawn.catches(link.source):
                return link.handle == "error"
            case "failed":
                return link.handle is None and link.source in going_on
        return False

    @cache
    def became(node: str) -> str:
        taken = [takes(link) for link in drawn.links if link.target == node]
        runs = not taken or (False not in taken if joins[node] == "all" else True in taken)
        return "skipped" if not runs else "failed" if node in failing else "completed"

    return {node: became(node) for node in drawn.nodes}


def held(drawn: Drawn, states: Mapping[str, str], node: str, became: str) -> dict[str, str]:
    """What becomes of nodes where all others have come to their end, and `node` never does."""
    behind = {node}
    for link in drawn.links:  # in the nodes' order
        if link.source in behind:
            behind.add(link.target)
    return {**{one: "skipped" if one in behind else states[one] for one in states}, node: became}
