"""Faults of a definition: what is wrong, at which place of the document."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from temporaletl.errors import ConfigurationError
from temporaletl.worker.pipelines.expressions.grammar import ExpressionError

_MOST_SHOWN = 60
_LONGEST_MESSAGE = 2_000


@dataclass(frozen=True, slots=True)
class DefinitionFault:
    """A fault: `path` leads to it (`nodes[3].data.condition`); lines and columns count from 1.

    `node` is the id of the node it belongs to; a `warning` does not keep the pipeline from running.
    """

    path: str
    message: str
    node: str | None = None
    line: int | None = None
    column: int | None = None
    warning: bool = False

    def __post_init__(self) -> None:
        """Cut a message that repeats what is far too long."""
        if len(self.message) > _LONGEST_MESSAGE:
            object.__setattr__(self, "message", f"{self.message[:_LONGEST_MESSAGE]}...")

    def __str__(self) -> str:
        line = f" line {self.line}" if self.line is not None and self.line > 1 else ""
        column = f" column {self.column}" if self.column is not None else ""
        return f"{self.path}{line}{column}: {self.message}"


class DefinitionError(ConfigurationError):
    """A definition that cannot run; `faults` are all that are wrong with it."""

    def __init__(self, faults: Iterable[DefinitionFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


def faults_of_expression(
    error: ExpressionError, path: str, node: str | None = None
) -> Iterator[DefinitionFault]:
    """Faults of an expression, or of a template, that stands at `path`."""
    for fault in error.faults:
        yield DefinitionFault(path, fault.message, node, fault.line, fault.column)


def faults_of_shape(
    error: ValidationError, path: str, known: Iterable[str], node: str | None = None
) -> Iterator[DefinitionFault]:
    """Faults of a part that misses something, or has something else than it should."""
    for one in error.errors(include_url=False):
        place = path + "".join(_step(step) for step in one["loc"] if step != "[key]")
        yield DefinitionFault(place.lstrip("."), _message(one, known), node)


def _step(step: int | str) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def _message(error: Any, known: Iterable[str]) -> str:
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return f"is not known here; there are {', '.join(sorted(known))}"
        case "value_error":
            return str(error["ctx"]["error"])
        case "string_pattern_mismatch":
            return f"{error['input']!r} does not have the form {error['ctx']['pattern']}"
        case _:
            return f"{error['msg'][:1].lower()}{error['msg'][1:]}, not {_shown(error['input'])}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
