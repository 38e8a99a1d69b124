"""Step that does something for each item of a list, in chunks: map."""

import asyncio
from collections.abc import Callable, Iterator
from math import ceil

from pydantic import JsonValue

from temporaletl.errors import PermanentError
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.pipeline_items import (
    chunk_sizes,
    count_failed,
    failed_items,
    iterate_results,
)
from temporaletl.warehouse.pipeline_results import split
from temporaletl.worker.pipelines.messages import CloseRequest, Wait
from temporaletl.worker.pipelines.nodes.logic import MapData
from temporaletl.worker.pipelines.steps.context import NodeContext, Produced, Waiting
from temporaletl.worker.pipelines.steps.lists import listed

#: Chunks of a list, whatever its length: each is some six events of the history.
_MOST_CHUNKS = 200
_MOST_ITEMS = 1_000_000
#: Errors of items that are told beside the result.
_MOST_ERRORS = 20


class ItemFailedError(PermanentError):
    """An item of a `map` failed whose `item_errors` is `fail`."""


async def run_map(context: NodeContext[MapData]) -> Produced | Waiting:
    """Write the items down in chunks, and wait until something was done with each of them."""
    data = context.data
    items = await listed(context, "over", data.over)
    count = await asyncio.to_thread(_count, context.services.warehouse, items)
    if count == 0:
        return Produced([], details={"items": 0, "failed": 0})
    if count > _MOST_ITEMS:
        raise PermanentError(
            f"over has {count:,} items; a map takes at most {_MOST_ITEMS:,}: divide the list"
        )
    size = max(data.chunk_items, ceil(count / _MOST_CHUNKS))
    chunks = ceil(count / size)

    def parts(connection: Connection) -> Iterator[list[JsonValue]]:
        return split(items(connection), most_items=size)

    wait = Wait(
        chunks=chunks, concurrency=min(data.concurrency, chunks), per_minute=data.per_minute
    )
    return Waiting(wait, parts=parts, details={"items": count})


async def close_map(context: NodeContext[MapData], _end: CloseRequest) -> Produced:
    """Give the results of the items in their order, null where one failed; tell why they did."""
    return await asyncio.to_thread(_close, context)


def _count(warehouse: Warehouse, items: Callable[[Connection], Iterator[JsonValue]]) -> int:
    with warehouse.connection() as connection:
        return sum(1 for _ in items(connection))


def _close(context: NodeContext[MapData]) -> Produced:
    execution_id, node = context.execution.execution_id, context.node
    with context.services.warehouse.connection() as connection:
        sizes = chunk_sizes(connection, execution_id, node)
        items = sum(sizes)
        failed = count_failed(connection, execution_id, node, items)
        errors = failed_items(connection, execution_id, node, items, most=_MOST_ERRORS)
    if errors and context.data.item_errors == "fail":
        first = errors[0]
        raise ItemFailedError(
            f"item {first.item} failed, {failed:,} of {items:,} did: {first.type}: {first.message}"
        )
    return Produced(
        parts=lambda connection: iterate_results(connection, execution_id, node, sizes),
        details={
            "items": items,
            "failed": failed,
            "errors": [{"item": one.item, "message": one.message} for one in errors],
        },
    )
