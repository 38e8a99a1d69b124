"""The query of a job of source `trino`: values for its stream's parameters."""

from typing import ClassVar

from pydantic import Field, PositiveInt

from temporaletl import Query, query_type
from temporaletl.external.trino.streams import Value


@query_type("trino")
class TrinoQuery(Query):
    """Values for the query's own parameters, instead of those that the stream sets."""

    #: 2: `person` beside `employee_id`, which is null while the person is unknown.
    VERSION: ClassVar[str] = "2"

    parameters: dict[str, Value] = Field(default_factory=dict)
    page_rows: PositiveInt | None = None  # None: TRINO_PAGE_ROWS
