"""Lists that an expression gives, item by item; of a node's result, with one part in memory."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from pydantic import JsonValue

from temporaletl.errors import PermanentError
from temporaletl.warehouse.connection import Connection
from temporaletl.warehouse.pipeline_results import iterate_parts
from temporaletl.worker.pipelines.steps.context import NodeContext

_MOST_SHOWN = 60


async def listed(
    context: NodeContext[Any], field: str, text: str
) -> Callable[[Connection], Iterator[JsonValue]]:
    """The items of the list that an expression gives, read in the caller's transaction.

    Raises:
        PermanentError: it gives none; says what it gives. Of a reference, once it is read.
        EvaluationError, OversizedResultError: as `NodeContext.value`.
    """
    execution_id = context.execution.execution_id
    if (node := context.bare_reference(text)) is not None:
        return lambda connection: items_of(field, iterate_parts(connection, execution_id, node))
    value = await context.value(text)
    return lambda _connection: items_of(field, [value])


def items_of(field: str, parts: Iterable[JsonValue]) -> Iterator[JsonValue]:
    """The items of a list that comes in parts.

    Raises:
        PermanentError: a part is no list; says what it is, and of which field.
    """
    read = iter(parts)
    first = next(read, None)
    for part in chain([first], read):
        if not isinstance(part, list):
            raise PermanentError(f"{field} is a list, not {_told(part)}")
        yield from part


def _told(value: JsonValue) -> str:
    match value:
        case None:
            return "null"
        case dict():
            return f"an object of {', '.join(list(value)[:10]) or 'nothing'}"
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
