"""The backlog of source `jira`: the issues of a window, in ranges of thousands."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Protocol

from pydantic import AfterValidator, JsonValue, PositiveInt

from temporaletl import ConfigurationError, Plan, Query, Window, params_method
from temporaletl.external.jira import account as _account  # noqa: F401 - registers the view
from temporaletl.external.jira.dataset import IssueTable, open_issues
from temporaletl.external.jira.settings import JiraSettings, check_jql
from temporaletl.external.jira.site import IssueRange, as_ms, open_site
from temporaletl.external.trino.access import TrinoSettings

_MINUTE_MS = 60_000
#: Two of them, as a power of two of minutes.
_CENTURIES_MS = (1 << 27) * _MINUTE_MS


class JiraParams(Query):
    """Parameters of a run of source `jira`.

    `jql` is a further filter, beside JIRA_JQL; with it, no run looks for deleted issues. A job
    reads about `issues_per_job` issues.
    """

    jql: Annotated[str, AfterValidator(check_jql)] | None = None
    issues_per_job: PositiveInt = 5_000


@dataclass(frozen=True, slots=True)
class Backlog:
    """The ranges of issues to read, one for each job: disjoint, without gaps."""

    ranges: tuple[IssueRange, ...]


class Counted(Protocol):
    """A counter of issues: the site, or the dataset in Trino."""

    @property
    def cloud(self) -> bool:
        """Whether a count is about right only, as Cloud's is."""

    def count(self, issues: IssueRange) -> int:
        """Return how many issues there are. Blocks."""


class _CountedTable:
    """Counts in the dataset; where issues are read from the site, it may be behind."""

    def __init__(self, table: IssueTable, *, exact: bool) -> None:
        self.cloud = not exact
        self.count = table.count


def check_settings() -> JiraSettings:
    """Read the settings of Jira, and of Trino where it is used.

    Raises:
        ConfigurationError: one is missing or wrong; it is named.
    """
    settings = JiraSettings.load()
    if settings.uses_trino:
        TrinoSettings.load()
    return settings


def _scope() -> dict[str, JsonValue]:
    jql = JiraSettings.load().jql
    return {} if jql is None else {"JIRA_JQL": jql}


@params_method(
    "jira",
    streams=("issues",),
    # Searches lag behind writes, and clocks differ.
    overlap=timedelta(minutes=10),
    lag=timedelta(minutes=1),
    settings=check_settings,
    params=JiraParams,
    filters=("jql",),
    scope=_scope,
)
async def describe_backlog(plan: Plan) -> Backlog:
    """Count the window's issues, and divide them into ranges.

    Raises:
        ConfigurationError: a parameter or a setting is wrong.
        ETLError: as the API or Trino, whichever is used, raises.
    """
    window = plan.windows.get("issues")
    if window is None or (window.start is not None and window.start == window.end):
        # Without an upper bound, an empty window of long ago would be all that came after it.
        return Backlog(())
    params = JiraParams.from_dict(plan.metadata.params)
    settings = JiraSettings.load()
    if settings.extract_from == "trino":
        if params.jql:
            raise ConfigurationError(
                "the parameter jql is not for JIRA_EXTRACT_FROM=trino: Trino does not understand it"
            )
        if plan.metadata.mode == "incremental" and window.start is not None:
            # What changed in Jira comes into the dataset later, with the time of its change.
            late = timedelta(hours=settings.trino_overlap_hours)
            window = Window(start=window.start - late, end=window.end)
    filters = tuple(text for text in (settings.jql, params.jql) if text)
    whole = range_of(window, plan.metadata.mode, filters)
    now_ms = as_ms(plan.metadata.started)
    return Backlog(await _divided(settings, whole, now_ms, params.issues_per_job))


async def _divided(
    settings: JiraSettings, whole: IssueRange, now_ms: int, issues_per_job: int
) -> tuple[IssueRange, ...]:
    if settings.counted_in == "api":
        site = open_site(settings)
        return await site.start(divide, site, whole, now_ms, issues_per_job)
    table = open_issues(settings)
    counted = _CountedTable(table, exact=settings.extract_from == "trino")
    return await table.server.start(divide, counted, whole, now_ms, issues_per_job)


def range_of(window: Window, mode: str, filters: tuple[str, ...]) -> IssueRange:
    """Return the range of all issues that a window concerns.

    The bounds are whole minutes, rounded outwards, so that no site's precision matters.
    """
    start = None if window.start is None else as_ms(window.start) // _MINUTE_MS * _MINUTE_MS
    end = None if window.end is None else -(-as_ms(window.end) // _MINUTE_MS) * _MINUTE_MS
    if mode == "backfill":
        # Whatever happened to an issue in the window came after its creation and not after its
        # latest update. Creation never changes, so the order of reading is that.
        return IssueRange("created", to_ms=end, updated_from_ms=start, filters=filters)
    if mode == "full" or start is None:
        return IssueRange("created", filters=filters)
    # No upper bound: an issue that changes every few minutes would always be above it.
    return IssueRange("updated", from_ms=start, filters=filters)


def divide(
    site: Counted, whole: IssueRange, now_ms: int, issues_per_job: int
) -> tuple[IssueRange, ...]:
    """Divide a range into consecutive ones of at most about so many issues.

    The outer bounds stay as they are, open ones open. Times are halved, so that ranges which
    still hold too many lie within one minute.
    """
    count = site.count(whole)
    if count == 0 and not site.cloud:
        # Only an exact count can say that there is nothing to do.
        return ()
    if count <= issues_per_job:
        return (whole,)
    low = _lowest(site, whole, issues_per_job) if whole.from_ms is None else whole.from_ms
    if whole.to_ms is not None:
        high = max(whole.to_ms, low + _MINUTE_MS)
    else:
        # A power of two of minutes, so that a later batch of the same range has the same bounds.
        high = low + (1 << (max(now_ms - low, 0) // _MINUTE_MS).bit_length()) * _MINUTE_MS

    def halved(start: int, end: int, held: int) -> Iterator[tuple[int, int]]:
        minutes = (end - start) // _MINUTE_MS
        if held <= issues_per_job or minutes <= 1:
            yield start, held
            return
        middle = start + minutes // 2 * _MINUTE_MS
        # What is older than the lowest bound is in the first range, and counts there.
        bound = whole.from_ms if start == low else start
        left = site.count(replace(whole, from_ms=bound, to_ms=middle))
        yield from halved(start, middle, left)
        yield from halved(middle, end, max(0, held - left))

    starts: list[int] = []
    total = 0
    for start, held in halved(low, high, count):
        if starts and (held == 0 or total + held <= issues_per_job):
            total += held
        else:
            starts.append(start)
            total = held
    bounds = [whole.from_ms, *starts[1:], whole.to_ms]
    return tuple(replace(whole, from_ms=start, to_ms=end) for start, end in pairwise(bounds))


def _lowest(site: Counted, whole: IssueRange, issues_per_job: int) -> int:
    """The lower bound to divide from: 1970, or earlier where an import has older issues."""
    older = site.count(replace(whole, to_ms=min(0, whole.to_ms or 0)))
    return 0 if older <= issues_per_job else -_CENTURIES_MS
