"""Context of a node that runs: its data, the results it may read, and the services it may use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from pydantic import JsonValue

from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.pipeline_results import TRIGGER, read_result
from temporaletl.worker.pipelines.egress.settings import EgressSettings
from temporaletl.worker.pipelines.expressions.grammar import Expression, parse_expression
from temporaletl.worker.pipelines.expressions.templates import (
    Template,
    as_text,
    parse_template,
)
from temporaletl.worker.pipelines.messages import Wait
from temporaletl.worker.pipelines.model.settings import ModelSettings
from temporaletl.worker.pipelines.nodes.fields import NodeData
from temporaletl.worker.pipelines.secrets import SecretStore
from temporaletl.worker.pipelines.settings import PipelineSettings

if TYPE_CHECKING:
    from temporaletl.worker.pipelines.egress.client import GuardedClient
    from temporaletl.worker.pipelines.expressions.evaluation import Evaluator

#: Parts of a list that a node gives.
PART_ITEMS, PART_BYTES = 1_000, 1_000_000
#: Gives the parts of a list, one at a time, in the transaction that writes them.
type Parts = Callable[[Connection], Iterable[list[JsonValue]]]


@dataclass(frozen=True)
class Produced:
    """What a node gave: its value, or its parts where it is a list of much; and its outcomes.

    With `passes_input` its result is what it got; `copied_from` names an execution and a node whose
    result it is. `details` are told beside it. Parts that nobody needs at once are a function.
    """

    value: JsonValue = None
    handles: tuple[str | None, ...] = (None,)
    parts: Sequence[list[JsonValue]] | Parts | None = None
    passes_input: bool = False
    copied_from: tuple[str, str] | None = None
    details: Mapping[str, JsonValue] | None = None

    @property
    def whole(self) -> JsonValue:
        """Its value; of parts that are at hand, all of them as one list."""
        if self.parts is None or callable(self.parts):
            return self.value
        return [one for part in self.parts for one in part]


@dataclass(frozen=True)
class Waiting:
    """A node that waits, and what is told of it meanwhile.

    `parts` are what is written before, as its result, for those whom it waits for to read.
    """

    wait: Wait
    details: Mapping[str, JsonValue] | None = None
    parts: Parts | None = None


@dataclass(frozen=True)
class RunningExecution:
    """The execution that a node belongs to."""

    execution_id: str
    pipeline: str | None
    sha256: str
    started_at: datetime

    def as_value(self) -> JsonValue:
        """What expressions see as `execution`."""
        return {
            "id": self.execution_id,
            "pipeline": self.pipeline,
            "version": self.sha256,
            "started_at": self.started_at.isoformat(),
        }


@dataclass(frozen=True)
class Services:
    """What steps use beside the warehouse; one for all executions of a worker.

    What takes time and memory to import is imported with the first node that needs it.
    """

    warehouse: Warehouse
    secrets: SecretStore
    settings: PipelineSettings
    egress: EgressSettings
    model: ModelSettings

    @cached_property
    def evaluator(self) -> Evaluator:
        """The sandboxes for expressions."""
        from temporaletl.worker.pipelines.expressions.evaluation import Evaluator  # noqa: PLC0415

        return Evaluator(self.settings)

    @cached_property
    def client(self) -> GuardedClient:
        """The client that requests are sent with."""
        from temporaletl.worker.pipelines.egress.client import GuardedClient  # noqa: PLC0415

        return GuardedClient(self.egress)


@dataclass
class NodeContext[Data: NodeData]:
    """A node's data, and what its expressions may read: the results of the nodes before it.

        result = await context.value("inputs.total > 10")

    `sources` are the nodes whose results are its input; `input_bytes` counts what was read.
    `names` are values that are read besides, such as `item`; `at_hand` are results that need not be
    read from the warehouse.
    """

    execution: RunningExecution
    node: str
    data: Data
    before: frozenset[str]
    sources: tuple[str, ...]
    attempt: int
    services: Services
    names: Mapping[str, JsonValue] = field(default_factory=dict)
    input_bytes: int = 0
    at_hand: dict[str, JsonValue] = field(default_factory=dict)
    #: The nodes that `input_bytes` counts.
    read: set[str] = field(default_factory=set)

    @property
    def idempotency_key(self) -> str:
        """What tells another service that a request is the same one, sent again."""
        item = self.names.get("index")
        suffix = "" if item is None else f"/{item}"
        return f"{self.execution.execution_id}/{quote(self.node, safe=':')}{suffix}"

    def parse(self, text: str, *names: str) -> Expression:
        """Read an expression of the node's data, which validation has checked."""
        return parse_expression(text, self.before, names=(*self.names, *names))

    async def value(self, text: str) -> JsonValue:
        """The value of an expression.

        Raises:
            EvaluationError: it failed, or took too much.
            OversizedResultError: it reads a result that is too large to be read at once.
        """
        expression = self.parse(text)
        return await self.run(expression.code, [expression])

    def bare_reference(self, text: str) -> str | None:
        """The node whose result as a whole is an expression's value; None where it is another."""
        expression = self.parse(text)
        if len(self.sources) <= 1 and expression.code == self.parse("inputs").code:
            return self.sources[0] if self.sources else TRIGGER
        for node in expression.nodes:
            if expression.code == self.parse(f"nodes[{json.dumps(node, ensure_ascii=False)}]").code:
                return node
        return None

    async def run(
        self, code: str, expressions: Sequence[Expression], **names: JsonValue
    ) -> JsonValue:
        """The value of code that is made of these expressions, in one evaluation.

        `names` are values that it reads besides.

        Raises:
            EvaluationError, OversizedResultError: as `value`.
        """
        variables = {**self.names, **names}
        roots = frozenset[str]().union(*(one.roots for one in expressions))
        read = frozenset[str]().union(*(one.nodes for one in expressions))
        variables["nodes"] = {node: await self.result(node) for node in sorted(read)}
        if "inputs" in roots:
            variables["inputs"] = await self.inputs()
        if "trigger" in roots:
            variables["trigger"] = await self.result(TRIGGER)
        if "execution" in roots:
            variables["execution"] = self.execution.as_value()
        return await asyncio.to_thread(self.services.evaluator.evaluate, code, variables)

    async def fill(self, structure: Any, *, write: Callable[[JsonValue], str] = as_text) -> Any:
        """A structure whose texts are templates, with their holes filled, in one evaluation.

        `write` makes a text of what stands within one. Secrets stand in the result: it is for
        requests alone.

        Raises:
            EvaluationError, OversizedResultError: as `value`.
            NotFoundError: there is no such secret.
        """
        templates: list[Template] = []
        shape = self._parsed(structure, templates)
        expressions = [one for template in templates for one in template.expressions]
        values: list[JsonValue] = []
        if expressions:
            listed = ", ".join(one.code for one in expressions)
            found = await self.run(f"[{listed}]", expressions)
            values = found if isinstance(found, list) else []
        return self._filled(shape, iter(values), write)

    async def inputs(self) -> JsonValue:
        """The node's input: the result before it; of several, an object of them by id."""
        match self.sources:
            case ():
                return await self.result(TRIGGER)
            case (source,):
                return await self.result(source)
        return {source: await self.result(source) for source in self.sources}

    async def result(self, node: str) -> JsonValue:
        """The result of a node before this one, or the execution's input.

        Raises:
            OversizedResultError: it is too large to be read at once.
        """
        if node not in self.at_hand:
            value = await asyncio.to_thread(
                read_result,
                self.services.warehouse,
                self.execution.execution_id,
                node,
                most_megabytes=self.services.settings.result_megabytes,
            )
            self.at_hand[node] = value
        value = self.at_hand[node]
        if value is not None and node not in self.read:
            self.read.add(node)
            self.input_bytes += len(msgspec.json.encode(value))
        return value

    def _parsed(self, value: JsonValue, found: list[Template]) -> Any:
        match value:
            case str():
                template = parse_template(value, self.before, names=tuple(self.names), secrets=True)
                found.append(template)
                return template
            case list():
                return [self._parsed(one, found) for one in value]
            case dict():
                return {key: self._parsed(one, found) for key, one in value.items()}
        return value

    def _filled(
        self, shape: Any, values: Iterator[JsonValue], write: Callable[[JsonValue], str]
    ) -> Any:
        match shape:
            case Template():
                return shape.filled(values, self.services.secrets.read, write)
            case list():
                return [self._filled(one, values, write) for one in shape]
            case dict():
                return {key: self._filled(one, values, write) for key, one in shape.items()}
        return shape


def as_object(entries: Mapping[str, Expression]) -> str:
    """Code of an object whose values are expressions."""
    return "{" + ", ".join(f"{key!r}: {one.code}" for key, one in entries.items()) + "}"
