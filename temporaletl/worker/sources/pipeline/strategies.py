"""The strategies of source `pipeline`: parts of a node's rows, made rows of the table it names."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from temporaletl.errors import RecordError
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import ETLInput
from temporaletl.own_strategies import strategies_method
from temporaletl.rows import Row
from temporaletl.strategies import Strategies
from temporaletl.transformation import TransformContext
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_results import count_parts, read_part
from temporaletl.warehouse.rejects import params_of_rejects
from temporaletl.worker.sources.pipeline.query import PipelineQuery
from temporaletl.worker.sources.pipeline.rows import row_class


@strategies_method("pipeline")
def strategies_of(warehouse: Warehouse, job: ETLInput) -> Strategies:
    """The strategies of a node's job; of one that reprocesses rejects, for all of their tables.

    Where rejects of one table were met under several declarations of it, the latest holds.
    """
    return strategies_for(
        warehouse, [PipelineQuery.from_dict(one) for one in _declared(warehouse, job)]
    )


def strategies_for(warehouse: Warehouse, queries: Sequence[PipelineQuery]) -> Strategies:
    """The strategies of these queries; their transform needs no warehouse."""
    classes = {query.table: row_class(query) for query in queries}
    return Strategies(
        PipelineQuery,
        partial(_pages, warehouse),
        _Transform(classes),
        tuple(classes.values()),
        queries[-1].max_rejected if queries else None,
    )


def _declared(warehouse: Warehouse, job: ETLInput) -> Iterable[Any]:
    if job.mode == "replay":
        return params_of_rejects(warehouse, job)
    return [job.params]


async def _pages(warehouse: Warehouse, request: PageRequest[PipelineQuery]) -> AsyncGenerator[Page]:
    """A page for each part; the cursor is the number of parts that were read."""
    query = request.query
    parts = await asyncio.to_thread(count_parts, warehouse, query.execution, query.node)
    for number in range(int(str(request.cursor or 0)), parts):
        part = await asyncio.to_thread(read_part, warehouse, query.execution, query.node, number)
        yield Page(part if isinstance(part, list) else [part], cursor=number + 1)


class _Transform:
    """Makes a record a row of its table; its fields that are no columns are left out."""

    def __init__(self, classes: dict[str, type[Row]]) -> None:
        self._classes = classes
        self._times = {
            table: [
                field.name
                for field in msgspec.structs.fields(row)
                if field.type in (datetime, datetime | None)
            ]
            for table, row in classes.items()
        }

    def __call__(self, record: Any, context: TransformContext[PipelineQuery]) -> Sequence[Row]:
        table = context.query.table
        try:
            row = msgspec.convert(record, self._classes[table], strict=False)
        except msgspec.ValidationError as error:
            raise RecordError(str(error)) from None
        for name in self._times[table]:
            value = getattr(row, name)
            if value is not None and value.tzinfo is None:
                row = msgspec.structs.replace(row, **{name: value.replace(tzinfo=UTC)})
        return [row]
