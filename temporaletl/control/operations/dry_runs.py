"""Dry runs of pipelines: conditions and transforms are evaluated, and nothing is sent or written.

What a node would do to others is told, not done: its result comes from a pin. Without one, what is
behind it waits. Needs neither Temporal nor a warehouse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from temporaletl.clock import utc_now
from temporaletl.control.operations.dry_effects import effect_of, services_at_rest
from temporaletl.errors import ConfigurationError, ETLError, PermanentError
from temporaletl.temporal.attempts import message_of
from temporaletl.validation import faults_of
from temporaletl.warehouse.pipeline_nodes import NodeRecord
from temporaletl.warehouse.pipeline_results import TRIGGER, encode
from temporaletl.worker.pipelines.chunks import data_of_items
from temporaletl.worker.pipelines.definition import ERROR_HANDLE
from temporaletl.worker.pipelines.graph import NodeState, Progress
from temporaletl.worker.pipelines.messages import NodeError
from temporaletl.worker.pipelines.nodes.logic import MapData
from temporaletl.worker.pipelines.outcomes import value_of_failure
from temporaletl.worker.pipelines.steps.context import (
    NodeContext,
    Produced,
    RunningExecution,
    Services,
)
from temporaletl.worker.pipelines.steps.lists import items_of
from temporaletl.worker.pipelines.steps.mapping import ItemFailedError
from temporaletl.worker.pipelines.steps.steps import step_of
from temporaletl.worker.pipelines.validation import Pipeline, Step

#: Types of nodes whose results their expressions alone decide.
COMPUTING = ("condition", "switch", "transform")
_EXECUTION = "dry-run"


class Pin(BaseModel):
    """What a node gives in a dry run: a result, the outcome that it takes, or an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: JsonValue = None
    outcome: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class DryNode:
    """What became of a node: `would` is what it would do, `handles` the outcomes it takes.

    One that `needs_pin` has no result, and what is behind it waits.
    """

    id: str
    type: str
    state: NodeState
    handles: tuple[str | None, ...] = ()
    result: JsonValue = None
    would: Mapping[str, JsonValue] | None = None
    error: NodeError | None = None
    pinned: bool = False
    needs_pin: bool = False


@dataclass(frozen=True)
class DryRun:
    """A dry run, with its nodes in the order of the definition.

    `incomplete` is one that came to nodes which need a pin.
    """

    state: Literal["completed", "failed", "incomplete"]
    nodes: tuple[DryNode, ...]


def parse_pins(value: JsonValue) -> dict[str, Pin]:
    """Pins by node: `{"fetch": {"result": []}, "ask": {"outcome": "approved"}}`.

    Raises:
        ConfigurationError: there is something else.
    """
    if not isinstance(value, dict):
        raise ConfigurationError("pins are an object of nodes: each has result, outcome or error")
    pins = {}
    for node, one in value.items():
        try:
            pins[node] = Pin.model_validate(one)
        except ValidationError as error:
            told = "; ".join(map(str, faults_of(error)))
            raise ConfigurationError(f"pin of {node}: {told}") from None
    return pins


def is_recorded(record: NodeRecord, pipeline: Pipeline) -> bool:
    """Whether a node of an execution can be a pin: it has ended, and does more than compute."""
    step = pipeline.steps.get(record.node)
    return (
        step is not None
        and record.type == step.type
        and record.state in ("completed", "failed", "timed_out")
        and record.type not in COMPUTING
    )


def recorded_pin(record: NodeRecord, result: JsonValue) -> Pin:
    """The pin of what a node of an execution gave."""
    if record.state != "completed":
        return Pin(error=str((record.error or {}).get("message", record.state)))
    return Pin(result=result, outcome=next(iter(record.handles or ()), None))


async def dry_run(
    pipeline: Pipeline, value: JsonValue, pins: Mapping[str, Pin], *, most_shown: int
) -> DryRun:
    """Run a pipeline without doing anything to others; `value` is its input.

    Of lists that would be written or sent, the first `most_shown` are told.

    Raises:
        ConfigurationError: a pin names a node or an outcome that there is not, or a value could not
            be stored.
    """
    _check_json("the input", value)
    for node, pin in pins.items():
        _check_pin(pipeline, node, pin)
        _check_json(f"pin of {node}", pin.result)
    with services_at_rest() as services:
        return await _Running(pipeline, value, pins, services, most_shown).run()


def _check_json(what: str, value: JsonValue) -> None:
    try:
        encode(value)
    except PermanentError as error:
        raise ConfigurationError(f"{what}: {message_of(error)}") from None


def _check_pin(pipeline: Pipeline, node: str, pin: Pin) -> None:
    step = pipeline.steps.get(node)
    if step is None:
        listed = ", ".join(pipeline.steps)
        raise ConfigurationError(f"pin of {node}: there is no such node; there are {listed}")
    known = step.data.handles()
    listed = ", ".join(str(one) for one in known if one is not None) or "none but error"
    if pin.error is None and pin.outcome not in known:
        what = "needs an outcome" if pin.outcome is None else f"{pin.outcome} is no outcome of it"
        raise ConfigurationError(f"pin of {node} ({step.type}): {what}; there are {listed}")
    if pin.error is not None and (pin.outcome or ERROR_HANDLE) != ERROR_HANDLE:
        raise ConfigurationError(f"pin of {node}: with an error, it takes no other outcome")


@dataclass
class _Running:
    pipeline: Pipeline
    value: JsonValue
    pins: Mapping[str, Pin]
    services: Services
    most_shown: int
    _results: dict[str, JsonValue] = field(default_factory=dict)
    _nodes: dict[str, DryNode] = field(default_factory=dict)
    _started: datetime = field(default_factory=utc_now)

    async def run(self) -> DryRun:
        progress = Progress.of(self.pipeline.graph)
        self._results[TRIGGER] = self.value
        failed = False
        while not failed and (ready := progress.ready()):
            for node in ready:
                progress.start(node)
                found = self._nodes[node] = await self._node(node, tuple(progress.sources(node)))
                if found.needs_pin:
                    continue
                self._results[node] = found.result
                progress.settle(node, found.state, found.handles)
                caught = self.pipeline.catches(node) or self.pipeline.goes_on(node)
                failed = failed or (found.state == "failed" and not caught)
        left: NodeState = "skipped" if failed else "waiting"
        nodes = tuple(
            self._nodes.get(node)
            or DryNode(node, step.type, left if progress.states[node] == "waiting" else "skipped")
            for node, step in self.pipeline.steps.items()
        )
        open_ = any(one.needs_pin for one in nodes)
        return DryRun("failed" if failed else "incomplete" if open_ else "completed", nodes)

    async def _node(self, node: str, sources: tuple[str, ...]) -> DryNode:
        step, pin = self.pipeline.steps[node], self.pins.get(node)
        context = self._context(step, sources)
        try:
            would = await effect_of(step.type, context, self.most_shown)
            found = DryNode(node, step.type, "completed", would=would, pinned=pin is not None)
            if pin is not None:
                return self._pinned(found, pin)
            produced = await self._produced(step, context)
            if produced is None:
                return replace(found, state="waiting", needs_pin=True)
            value = await context.inputs() if produced.passes_input else produced.whole
            encode(value)  # as it would be stored
        except ETLError as error:
            told = NodeError(type=type(error).__name__, message=message_of(error), node=node)
            return self._failed(DryNode(node, step.type, "failed"), told)
        return replace(found, handles=produced.handles, result=value)

    def _pinned(self, found: DryNode, pin: Pin) -> DryNode:
        if pin.error is not None:
            told = NodeError(type="PinnedError", message=pin.error, node=found.id)
            return self._failed(found, told)
        return replace(found, handles=(pin.outcome,), result=pin.result)

    def _failed(self, found: DryNode, error: NodeError) -> DryNode:
        node, default = found.id, self.pipeline.steps[found.id].data.default
        catches, goes_on = self.pipeline.catches(node), self.pipeline.goes_on(node)
        value, handles = value_of_failure(error, default, catches=catches, goes_on=goes_on)
        return replace(found, state="failed", error=error, result=value, handles=handles)

    async def _produced(self, step: Step, context: NodeContext[Any]) -> Produced | None:
        """What a node gives that does nothing to others; None of one that needs a pin."""
        if step.type in COMPUTING:
            produced = await step_of(step.type).run(context)
            assert isinstance(produced, Produced)  # noqa: S101 - they wait for nothing
            return produced
        if step.type == "delay":
            return Produced(passes_input=True)
        if isinstance(step.data, MapData) and step.data.type in COMPUTING:
            return await _mapped(context)
        return None

    def _context(self, step: Step, sources: tuple[str, ...]) -> NodeContext[Any]:
        definition, before = self.pipeline.definition, self.pipeline.before[step.id]
        return NodeContext(
            execution=RunningExecution(
                _EXECUTION, definition.name, definition.content_hash(), self._started
            ),
            node=step.id,
            data=step.data,
            before=before,
            sources=sources,
            attempt=1,
            services=self.services,
            at_hand={one: self._results.get(one) for one in (*before, TRIGGER)},
        )


async def _mapped(context: NodeContext[Any]) -> Produced:
    """What a map of nodes that compute gives: null where one failed, as `close_map` has it."""
    data: MapData = context.data
    step = step_of(data.type)
    results: list[JsonValue] = []
    first = ""
    for number, item in enumerate(items_of("over", [await context.value(data.over)])):
        names: dict[str, JsonValue] = {"item": item, "index": number}
        try:
            produced = await step.run(replace(context, data=data_of_items(data), names=names))
        except ETLError as error:
            first = first or f"item {number} failed: {type(error).__name__}: {message_of(error)}"
            results.append(None)
        else:
            results.append(produced.whole if isinstance(produced, Produced) else None)
    if first and data.item_errors == "fail":
        raise ItemFailedError(first)
    return Produced(results)
