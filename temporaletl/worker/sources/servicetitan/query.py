"""The query of a job of source `servicetitan`: one stream, by list or by export."""

from typing import Annotated

from pydantic import Field

from temporaletl import Query, query_type
from temporaletl.external.servicetitan.settings import MOST_ROWS, SOURCE, Paging


@query_type(SOURCE)
class ServiceTitanQuery(Query):
    """The records of one stream that were modified since the start of the job's window.

    `continue_from` is the token with which an export begins, None to begin by date.
    """

    paging: Paging
    continue_from: str | None = None
    page_size: Annotated[int, Field(ge=1, le=MOST_ROWS)] | None = None  # None: the setting
