"""The transform of rows into events."""

from typing import Any

from temporaletl import ConfigurationError, Event, RecordError, TransformContext, transform_method
from temporaletl.external.trino.streams import load_streams
from temporaletl.worker.sources.trino.extract import TrinoRecord
from temporaletl.worker.sources.trino.mapping import ColumnMapping
from temporaletl.worker.sources.trino.query import TrinoQuery


@transform_method("trino")
def transform(record: Any, context: TransformContext[TrinoQuery]) -> list[Event]:
    """Make the event of a row: a `TrinoRecord`, or the row as a reject keeps it.

    Raises:
        RecordError: the row lacks what an event must have; the column is named.
    """
    if isinstance(record, TrinoRecord):
        return [record.mapping.event(record.raw, context)]
    if not isinstance(record, dict):
        raise RecordError("the record is not a row: an object of columns")
    streams = load_streams()
    name = context.job.stream
    try:
        mapping = ColumnMapping(
            name, streams.get(name), tuple(record), where=streams.described(name)
        )
    except ConfigurationError as error:
        # The stream was changed since; other rows may fit it.
        raise RecordError(str(error)) from None
    return [mapping.event(record, context)]
