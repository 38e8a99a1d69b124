"""Graph of a pipeline: which node is before which, and the rule by which nodes run or are skipped.

The join rule: a node runs once each edge into it is settled and at least one was taken, with
`join: all` only if all were taken; else it is skipped. A skipped node takes no edge. Nodes without
edges into them run at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Literal, NamedTuple

NodeState = Literal[
    "waiting", "running", "completed", "failed", "skipped", "cancelled", "timed_out"
]
Join = Literal["any", "all"]

#: States of a node from which its edges are settled.
SETTLED: frozenset[NodeState] = frozenset(
    {"completed", "failed", "skipped", "cancelled", "timed_out"}
)


class Link(NamedTuple):
    """An edge: taken when its source ends with `handle`."""

    source: str
    target: str
    handle: str | None


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of their definition, and the links between them, without cycles."""

    nodes: tuple[str, ...]
    links: tuple[Link, ...]
    joins: Mapping[str, Join] = field(default_factory=dict)

    @cached_property
    def into(self) -> dict[str, list[Link]]:
        """The links into each node, in the order of the definition."""
        return self._by(lambda link: link.target)

    @cached_property
    def out_of(self) -> dict[str, list[Link]]:
        """The links out of each node, in the order of the definition."""
        return self._by(lambda link: link.source)

    def _by(self, end: Callable[[Link], str]) -> dict[str, list[Link]]:
        found: dict[str, list[Link]] = {node: [] for node in self.nodes}
        for link in self.links:
            found[end(link)].append(link)
        return found

    def before(self) -> dict[str, frozenset[str]]:
        """The nodes on any way to each node, itself not included."""
        found: dict[str, frozenset[str]] = {}
        for node in self.order:
            direct = {link.source for link in self.into[node]}
            found[node] = frozenset(direct.union(*(found[one] for one in direct)))
        return found

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Every node behind all those before it.

        Raises:
            CycleError: there is a cycle.
        """
        sorter = TopologicalSorter[str]()
        for node in self.nodes:
            sorter.add(node, *(link.source for link in self.into[node]))
        return tuple(sorter.static_order())

    def led_by(self, node: str, most: int) -> "Graph":
        """A node, and at most so many behind it that nothing decides but it and each other."""
        led = {node}
        for target in self.order[self.order.index(node) + 1 :]:
            if len(led) > most:
                break
            sources = {link.source for link in self.into[target]}
            if sources and sources <= led:
                led.add(target)
        nodes = tuple(one for one in self.nodes if one in led)
        links = tuple(link for link in self.links if {link.source, link.target} <= led)
        return Graph(nodes, links, self.joins)

    def cycle(self) -> list[str] | None:
        """The nodes of one cycle, in its order, or None."""
        try:
            _ = self.order
        except CycleError as error:
            nodes: list[str] = error.args[1]
            return nodes[:-1]
        return None


@dataclass(slots=True)
class Progress:
    """States of an execution's nodes, moved by what becomes of each; deterministic.

    `taken` has the links that were taken.
    """

    graph: Graph
    states: dict[str, NodeState]
    taken: set[Link] = field(default_factory=set)

    @classmethod
    def of(cls, graph: Graph) -> "Progress":
        return cls(graph, dict.fromkeys(graph.nodes, "waiting"))

    def ready(self) -> list[str]:
        """The nodes that can run now, in the order of their definition; skips those that cannot."""
        found = []
        for node in self.graph.order:
            if self.states[node] != "waiting":
                continue
            links = self.graph.into[node]
            if any(self.states[link.source] not in SETTLED for link in links):
                continue
            if self._joins(node, links):
                found.append(node)
            else:
                self.states[node] = "skipped"
        return [node for node in self.graph.nodes if node in found]

    def start(self, node: str) -> None:
        """Take note that a node runs."""
        self.states[node] = "running"

    def settle(self, node: str, state: NodeState, handles: Iterable[str | None] = ()) -> None:
        """Take note of a node's end, and of the outcomes whose edges are taken."""
        self.states[node] = state
        outcomes = set(handles)
        self.taken |= {link for link in self.graph.out_of[node] if link.handle in outcomes}

    @property
    def is_over(self) -> bool:
        """Whether no node runs and none can."""
        return not self.ready() and "running" not in self.states.values()

    def sources(self, node: str) -> list[str]:
        """The nodes whose results a node gets: those of the links that were taken, each once."""
        return list(
            dict.fromkeys(link.source for link in self.graph.into[node] if link in self.taken)
        )

    def _joins(self, node: str, links: Sequence[Link]) -> bool:
        if not links:
            return True
        were_taken = [link in self.taken for link in links]
        return all(were_taken) if self.graph.joins.get(node) == "all" else any(were_taken)
