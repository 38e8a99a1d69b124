"""The query of a job of source `salesforce`: rows of one object."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveInt

from temporaletl import Query, query_type
from temporaletl.external.salesforce.settings import check_name


@query_type("salesforce")
class SalesforceQuery(Query):
    """Rows of one object whose stamp lies in the job's window.

    `bounded` is false where the window's end is no limit, `deleted` true where only deleted rows
    are wanted, `counted` where the planning counted no more of them than REST reads. A schedule may
    set `page_size` (None: SF_PAGE_SIZE) and `bulk_above_rows` (None: SF_BULK_ABOVE_ROWS);
    `rows_per_job` was for the planning.
    """

    #: 2: `person` beside `employee_id`, which is null while the person is unknown.
    VERSION: ClassVar[str] = "2"

    object: Annotated[str, AfterValidator(check_name)]
    stamp: Literal["SystemModstamp", "CreatedDate"] = "SystemModstamp"
    deleted: bool = False
    bounded: bool = True
    counted: bool = False
    page_size: int | None = Field(None, ge=1, le=2_000)
    bulk_above_rows: PositiveInt | None = None
    rows_per_job: PositiveInt | None = None
