"""Steps by type of node."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from temporaletl.errors import ConfigurationError
from temporaletl.worker.pipelines.messages import CloseRequest
from temporaletl.worker.pipelines.steps.context import NodeContext, Produced, Waiting


@dataclass(frozen=True, slots=True)
class Step:
    """What nodes of a type do: `run` gives a result, or what to wait for before `close` gives one.

    Both may be repeated: after a crash, nobody knows how far the last attempt came.
    """

    run: Callable[[NodeContext[Any]], Awaitable[Produced | Waiting]]
    close: Callable[[NodeContext[Any], CloseRequest], Awaitable[Produced]] | None = None


#: By type, the module beside this one that has `run_TYPE`, and `close_TYPE` where its nodes wait.
#: It is imported with the first node of that type: it may bring libraries that others do without.
STEPS: Mapping[str, str] = {
    "ai_agent": "agents",
    "api_call": "requests",
    "approval": "waiting",
    "condition": "logic",
    "database": "database",
    "delay": "logic",
    "load": "loading",
    "map": "mapping",
    "pipeline": "pipelines",
    "source": "loading",
    "switch": "logic",
    "transform": "logic",
    "wait_for_webhook": "waiting",
    "webhook": "requests",
}


@cache
def step_of(kind: str) -> Step:
    """The step of a type of nodes.

    Raises:
        ConfigurationError: this version runs no nodes of that type.
    """
    if kind not in STEPS:
        raise ConfigurationError(f"nodes of type {kind} are not run by this version")
    module = import_module(f"{__package__}.{STEPS[kind]}")
    return Step(getattr(module, f"run_{kind}"), getattr(module, f"close_{kind}", None))
