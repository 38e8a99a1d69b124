"""Validation of definitions: every fault at once, each with its place."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import JsonValue, ValidationError

from temporaletl.worker.pipelines.definition import (
    ERROR_HANDLE,
    MOST_BYTES,
    MOST_EDGES,
    MOST_NODES,
    Definition,
    Edge,
    Node,
)
from temporaletl.worker.pipelines.expressions.grammar import ExpressionError, parse_expression
from temporaletl.worker.pipelines.expressions.templates import (
    SecretHole,
    Template,
    parse_template,
)
from temporaletl.worker.pipelines.faults import (
    DefinitionError,
    DefinitionFault,
    faults_of_expression,
    faults_of_shape,
)
from temporaletl.worker.pipelines.graph import Graph, Link
from temporaletl.worker.pipelines.nodes.fields import ExpressionField, NodeData, texts_of
from temporaletl.worker.pipelines.nodes.types import MAPPED, NODE_TYPES
from temporaletl.worker.pipelines.surroundings import Surroundings, faults_of_surroundings

_ITEM_NAMES = ("item", "index")
#: U+0000 as JSON has it, behind no backslash that belongs to the text.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
#: Types of nodes that decide what goes on.
_JUDGING = ("approval", "condition", "switch")


@dataclass(frozen=True, slots=True)
class Step:
    """A node that is valid: its place in the definition, and its data by type."""

    id: str
    type: str
    data: NodeData
    path: str


@dataclass(frozen=True)
class Pipeline:
    """A definition that can run: its steps by id, its graph, and warnings about it."""

    definition: Definition
    graph: Graph
    steps: Mapping[str, Step]
    warnings: tuple[DefinitionFault, ...] = ()
    #: Where nodes stand in the picture, as the canvas has put it.
    positions: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def before(self) -> dict[str, frozenset[str]]:
        """The nodes on any way to each node."""
        return self.graph.before()

    def catches(self, node: str) -> bool:
        """Whether an edge of the outcome `error` leaves a node."""
        return any(link.handle == ERROR_HANDLE for link in self.graph.out_of[node])

    def goes_on(self, node: str) -> bool:
        """Whether the execution goes on where a node fails and no edge catches that."""
        return self.steps[node].data.on_error != "fail"


def validate(document: object, surroundings: Surroundings | None = None) -> Pipeline:
    """Check a definition, as JSON or YAML gives it, and what is known of where it will run.

        pipeline = validate({
            "nodes": [
                {"id": "wait", "type": "delay", "data": {"seconds": 5}},
                {"id": "result", "type": "transform", "data": {
                    "transform_type": "mapping", "mapping": {"result": "inputs.data"}}},
            ],
            "edges": [{"id": "1", "source": "wait", "target": "result"}],
        })
        assert pipeline.graph.before()["result"] == {"wait"}

    Raises:
        DefinitionError: with every fault.
    """
    checked = _Validation(surroundings or Surroundings())
    pipeline = checked.run(document)
    if pipeline is None:
        raise DefinitionError(fault for fault in checked.faults if not fault.warning)
    return pipeline


@dataclass(slots=True)
class _Validation:
    surroundings: Surroundings
    faults: list[DefinitionFault] = field(default_factory=list)
    #: Path of its data, id and data of each node, those within a map too.
    nodes: list[tuple[str, str, NodeData]] = field(default_factory=list)

    def run(self, document: object) -> Pipeline | None:
        """Collect all faults; the pipeline, where there are warnings at most."""
        if not isinstance(document, dict):
            self._refuse("", "a definition is an object with nodes and edges")
            return None
        if not self._is_small(document):
            return None
        nodes = self._parts(document, "nodes", Node)
        edges = self._parts(document, "edges", Edge)
        definition = self._envelope(document, nodes, edges)
        ids = self._distinct(nodes)
        steps = {node.id: step for path, node in nodes if (step := self._step(path, node))}
        links = [*self._links(edges, nodes, steps)]
        graph = Graph(tuple(ids), tuple(links), {one.id: one.data.join for one in steps.values()})
        cycle = graph.cycle()
        if cycle is not None:
            self._refuse("edges", f"a cycle: {' -> '.join([*cycle, cycle[0]])}")
        self._check_reach(graph, ids)
        before = graph.before() if cycle is None else dict.fromkeys(ids, frozenset(ids))
        for step in steps.values():
            self._check_texts(step, before[step.id])
        if cycle is None:
            self._warn_of_unjudged(graph, steps)
        self.faults += faults_of_surroundings(self.nodes, self.surroundings)
        if definition is not None and definition.webhook is not None:
            for index, name in enumerate(definition.webhook.signing_secrets):
                path = f"webhook.signing_secrets[{index}]"
                self.faults += self.surroundings.faults_of_secret(name, path)
        if definition is None or not all(fault.warning for fault in self.faults):
            return None
        return Pipeline(definition, graph, steps, tuple(self.faults), _positions_of(document))

    def _refuse(self, path: str, message: str, node: str | None = None) -> None:
        self.faults.append(DefinitionFault(path or "definition", message, node))

    # Shape

    def _is_small(self, document: dict[str, Any]) -> bool:
        for name, most in (("nodes", MOST_NODES), ("edges", MOST_EDGES)):
            parts = document.get(name, [])
            if isinstance(parts, list) and len(parts) > most:
                self._refuse(name, f"{len(parts):,} are more than {most:,}")
        try:
            text = json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            self._refuse("", "has half of a surrogate pair in a text, which is no character")
        except (TypeError, ValueError, RecursionError) as error:
            self._refuse("", f"is none of JSON: {error}")
        else:
            if len(text) > MOST_BYTES:
                self._refuse("", f"{len(text):,} bytes are more than {MOST_BYTES:,}")
            if _NUL.search(text):
                self._refuse("", "has the character U+0000 in a text, which no database stores")
        return not self.faults

    def _parts[Part: (Node, Edge)](
        self, document: dict[str, Any], name: str, kind: type[Part]
    ) -> list[tuple[str, Part]]:
        found: list[tuple[str, Part]] = []
        parts = document.get(name, [])
        for index, part in enumerate(parts if isinstance(parts, list) else []):
            path = f"{name}[{index}]"
            known = [one.alias or name for name, one in kind.model_fields.items()]
            try:
                found.append((path, kind.model_validate(part)))
            except ValidationError as error:
                of = part.get("id") if isinstance(part, dict) and kind is Node else None
                self.faults += faults_of_shape(
                    error, path, known, of if isinstance(of, str) else None
                )
        return found

    def _envelope(
        self,
        document: dict[str, Any],
        nodes: Sequence[tuple[str, Node]],
        edges: Sequence[tuple[str, Edge]],
    ) -> Definition | None:
        whole = {**document}
        if isinstance(document.get("nodes"), list):
            whole["nodes"] = [node for _, node in nodes]
            if not document["nodes"]:
                self._refuse("nodes", "a pipeline has a node at least")
        if isinstance(document.get("edges"), list):
            whole["edges"] = [edge for _, edge in edges]
        try:
            return Definition.model_validate(whole)
        except ValidationError as error:
            self.faults += faults_of_shape(error, "", Definition.model_fields)
            return None

    def _distinct(self, nodes: Sequence[tuple[str, Node]]) -> dict[str, str]:
        """The places of the nodes, by id."""
        seen: dict[str, str] = {}
        for path, node in nodes:
            if node.id in seen:
                self._refuse(f"{path}.id", f"{node.id} is also the id of {seen[node.id]}", node.id)
            seen.setdefault(node.id, path)
        return seen

    def _step(self, path: str, node: Node) -> Step | None:
        kind = NODE_TYPES.get(node.type)
        if kind is None:
            listed = ", ".join(NODE_TYPES)
            self._refuse(f"{path}.type", f"{node.type} is no type; there are {listed}", node.id)
            return None
        data = self._data(kind, node.data, f"{path}.data", node.id)
        return Step(node.id, node.type, data, path) if data is not None else None

    def _data(
        self, kind: type[NodeData], data: dict[str, JsonValue], path: str, node: str
    ) -> NodeData | None:
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            self.faults += faults_of_shape(error, path, kind.model_fields, node)
            return None

    # Graph

    def _links(
        self,
        edges: Sequence[tuple[str, Edge]],
        nodes: Sequence[tuple[str, Node]],
        steps: Mapping[str, Step],
    ) -> Iterator[Link]:
        ids = {node.id for _, node in nodes}
        for path, edge in edges:
            missing = [end for end in ("source", "target") if getattr(edge, end) not in ids]
            for end in missing:
                self._refuse(f"{path}.{end}", f"no node is called {getattr(edge, end)}")
            if missing:
                continue
            step = steps.get(edge.source)
            known = (*step.data.handles(), ERROR_HANDLE) if step else (edge.source_handle,)
            if edge.source_handle not in known:
                listed = ", ".join("none" if one is None else one for one in known)
                handle = edge.source_handle or "none"
                of = f"{edge.source} ({step.type})" if step else edge.source
                self._refuse(
                    f"{path}.sourceHandle", f"{handle} is no outcome of {of}; there are {listed}"
                )
            yield Link(edge.source, edge.target, edge.source_handle)

    def _check_reach(self, graph: Graph, ids: Mapping[str, str]) -> None:
        for node, path in ids.items():
            into, out_of = graph.into[node], graph.out_of[node]
            if graph.links and not into and not out_of:
                self._refuse(
                    path,
                    f"{node} is unreachable: no edge leads to it, or from it",
                    node,
                )
            for link in into if graph.joins.get(node) == "all" else ():
                other = next(
                    (o for o in into if o.source == link.source and o.handle != link.handle), None
                )
                if other is not None:
                    handles = f"{link.handle or 'none'} and {other.handle or 'none'}"
                    self._refuse(
                        f"{path}.data.join",
                        f"{node} is unreachable: {link.source} never ends with both {handles}",
                        node,
                    )
                    break

    def _warn_of_unjudged(self, graph: Graph, steps: Mapping[str, Step]) -> None:
        """Warn where what a model says reaches a write, and nothing judges it in between."""
        unjudged: dict[str, str] = {}  # node to the model's that its input comes from
        for node in graph.order:
            step = steps.get(node)
            if step is None or step.type in _JUDGING:
                continue
            sources = (link.source for link in graph.into[node])
            model = next((unjudged[one] for one in sources if one in unjudged), None)
            if model is not None and step.data.writes:
                message = f"what {model} answers is sent on: put a condition or an approval between"
                self.faults.append(DefinitionFault(step.path, message, node, warning=True))
            if step.type == "ai_agent":
                unjudged[node] = node
            elif model is not None:
                unjudged[node] = model

    # Expressions

    def _check_texts(self, step: Step, before: frozenset[str]) -> None:
        self._check_marked(step.data, f"{step.path}.data", step.id, before, ())
        nested = getattr(step.data, "data", None)
        if step.type != "map":
            return
        kind = getattr(step.data, "type", "")
        if kind not in MAPPED:
            self._refuse(
                f"{step.path}.data.type",
                f"{kind} cannot run for each item; there are {', '.join(MAPPED)}",
                step.id,
            )
            return
        path = f"{step.path}.data.data"
        data = self._data(NODE_TYPES[kind], nested or {}, path, step.id)
        if data is not None:
            self._check_marked(data, path, step.id, before, _ITEM_NAMES)

    def _check_marked(
        self,
        data: NodeData,
        path: str,
        node: str,
        before: frozenset[str],
        names: Sequence[str],
    ) -> None:
        self.nodes.append((path, node, data))
        for name, value, mark in data.marked():
            readable = (*names, *mark.names)
            for place, text in texts_of(value, f"{path}.{name}"):
                if name == "cases" and place.endswith(".name"):
                    continue
                try:
                    if isinstance(mark, ExpressionField):
                        parse_expression(text, before, names=readable)
                    else:
                        found = parse_template(text, before, names=readable, secrets=mark.secrets)
                        self._check_secrets(found, place, node)
                except ExpressionError as error:
                    self.faults += faults_of_expression(error, place, node)

    def _check_secrets(self, template: Template, place: str, node: str) -> None:
        for part in template.parts:
            if isinstance(part, SecretHole):
                at = (part.line, part.column)
                self.faults += self.surroundings.faults_of_secret(part.name, place, node, at)


def _positions_of(document: Mapping[str, Any]) -> dict[str, object]:
    return {node["id"]: node.get("position") for node in document["nodes"]}
