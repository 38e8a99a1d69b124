"""Steps by type of node."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from temporaletl.errors import ConfigurationError
from temporaletl.worker.pipelines.messages import CloseRequest
from temporaletl.worker.pipelines.steps.context import NodeContext, Produced, Waiting
from temporaletl.worker.pipelines.steps.database import run_database
from temporaletl.worker.pipelines.steps.loading import (
    close_load,
    close_source,
    run_load,
    run_source,
)
from temporaletl.worker.pipelines.steps.logic import (
    close_delay,
    run_condition,
    run_delay,
    run_switch,
    run_transform,
)
from temporaletl.worker.pipelines.steps.mapping import close_map, run_map
from temporaletl.worker.pipelines.steps.pipelines import close_pipeline, run_pipeline
from temporaletl.worker.pipelines.steps.requests import run_api_call, run_webhook
from temporaletl.worker.pipelines.steps.waiting import (
    close_approval,
    close_wait_for_webhook,
    run_approval,
    run_wait_for_webhook,
)


@dataclass(frozen=True, slots=True)
class Step:
    """What nodes of a type do: `run` gives a result, or what to wait for before `close` gives one.

    Both may be repeated: after a crash, nobody knows how far the last attempt came.
    """

    run: Callable[[NodeContext[Any]], Awaitable[Produced | Waiting]]
    close: Callable[[NodeContext[Any], CloseRequest], Awaitable[Produced]] | None = None


STEPS: Mapping[str, Step] = {
    "api_call": Step(run_api_call),
    "approval": Step(run_approval, close_approval),
    "condition": Step(run_condition),
    "database": Step(run_database),
    "delay": Step(run_delay, close_delay),
    "load": Step(run_load, close_load),
    "map": Step(run_map, close_map),
    "pipeline": Step(run_pipeline, close_pipeline),
    "source": Step(run_source, close_source),
    "switch": Step(run_switch),
    "transform": Step(run_transform),
    "wait_for_webhook": Step(run_wait_for_webhook, close_wait_for_webhook),
    "webhook": Step(run_webhook),
}


def step_of(kind: str) -> Step:
    """The step of a type of nodes.

    Raises:
        ConfigurationError: this version runs no nodes of that type.
    """
    found = STEPS.get(kind)
    if found is None:
        raise ConfigurationError(f"nodes of type {kind} are not run by this version")
    return found
