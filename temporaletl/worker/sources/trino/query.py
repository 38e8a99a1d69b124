"""The query of a job of source `trino`: values for its stream's parameters."""

from pydantic import Field, PositiveInt

from temporaletl import Query, query_type
from temporaletl.external.trino.streams import Value


@query_type("trino")
class TrinoQuery(Query):
    """Values for the query's own parameters, instead of those that the stream sets."""

    parameters: dict[str, Value] = Field(default_factory=dict)
    page_rows: PositiveInt | None = None  # None: TRINO_PAGE_ROWS
