"""The query of a job of source `jira`: a range of issues."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, PositiveInt

from temporaletl import Query, query_type
from temporaletl.external.jira.settings import check_jql
from temporaletl.external.jira.site import IssueRange, Order


@query_type("jira")
class JiraQuery(Query):
    """The issues of one range, oldest first; times are epoch milliseconds, None unbounded.

    `issues_per_job` was for the planning.
    """

    #: 2: `person` beside `employee_id`, which is null while the person is unknown.
    VERSION: ClassVar[str] = "2"

    order: Order = "created"
    from_ms: int | None = None  # inclusive, of the order's time
    to_ms: int | None = None  # exclusive, of the order's time
    updated_from_ms: int | None = None  # inclusive
    jql: Annotated[str, AfterValidator(check_jql)] | None = None
    page_size: PositiveInt | None = None  # None: JIRA_PAGE_SIZE
    issues_per_job: PositiveInt | None = None

    def issues(self, site_filter: str | None) -> IssueRange:
        """Return the range; `site_filter` is the one that holds for every job."""
        return IssueRange(
            order=self.order,
            from_ms=self.from_ms,
            to_ms=self.to_ms,
            updated_from_ms=self.updated_from_ms,
            filters=tuple(text for text in (site_filter, self.jql) if text),
        )
