"""What a job of source `trino` asks for, beside its window."""

from pydantic import Field, PositiveInt

from temporaletl import Query, query_type
from temporaletl.external.trino.streams import Value


@query_type("trino")
class TrinoQuery(Query):
    """Values for the query's own parameters, instead of those that the stream sets.

    A `census` reads no row and finds those that are gone; `accept_deletions` lets it be many.
    """

    parameters: dict[str, Value] = Field(default_factory=dict)
    census: bool = False
    accept_deletions: bool = False
    page_rows: PositiveInt | None = None  # None: TRINO_PAGE_ROWS
