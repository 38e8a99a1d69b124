"""The backlog of source `jira`: the issues of a window, in ranges of thousands."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, JsonValue, PositiveInt

from temporaletl import (
    ConfigurationError,
    Plan,
    Query,
    SourceUnavailableError,
    Window,
    params_method,
)
from temporaletl.errors import SourceProtocolError
from temporaletl.external.jira import account as _account  # noqa: F401 - registers the view
from temporaletl.external.jira.dataset import open_issues
from temporaletl.external.jira.settings import JiraSettings, check_jql
from temporaletl.external.jira.site import IssueRange, JiraSite, as_ms, open_site
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.queuer.sources.jira.division import (
    LEAST_PER_JOB,
    MINUTE_MS,
    Counts,
    divide,
    issues_per_job,
)
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.queuer.sources.jira")

#: Each job on the dataset is a query that sorts it.
_ISSUES_PER_QUERY = 5_000


class JiraParams(Query):
    """Parameters of a run of source `jira`.

    `jql` is a further filter, beside JIRA_JQL; with it, no run looks for deleted issues. A job
    reads about `issues_per_job` issues; by default as many as keep a worker's requests to the site
    busy.
    """

    jql: Annotated[str, AfterValidator(check_jql)] | None = None
    issues_per_job: PositiveInt | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """The ranges of issues to read, one for each job: disjoint, without gaps."""

    ranges: tuple[IssueRange, ...]


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
    settings: JiraSettings, whole: IssueRange, now_ms: int, given: int | None
) -> tuple[IssueRange, ...]:
    def size(count: int) -> int:
        if given is None and settings.extract_from == "trino":
            return _ISSUES_PER_QUERY
        return given or issues_per_job(count, settings.concurrency)

    if settings.counted_in == "api":
        site = open_site(settings)
        exact = not await site.start(lambda: site.cloud)
        if not exact and whole.order == "updated":
            few = await site.start(_count_few, site, whole)
            if few is not None and few <= size(few):
                return (whole,) if few else ()
        counts = Counts(partial(site.start, site.count), partial(site.start, _ends, site), exact)
        return await divide(counts, whole, now_ms, size)
    table = open_issues(settings)
    # Where issues are read from the site, the dataset may be behind.
    exact = settings.extract_from == "trino"
    start = table.server.start
    counts = Counts(partial(start, table.count), partial(start, table.ends), exact)
    return await divide(counts, whole, now_ms, size)


def _count_few(site: JiraSite, issues: IssueRange) -> int | None:
    """Count what is new exactly, where it is as little as it mostly is; None where it is more."""
    return _unless_it_fails(lambda: site.count_few(issues, LEAST_PER_JOB))


def _ends(site: JiraSite, issues: IssueRange) -> tuple[int, int] | None:
    return _unless_it_fails(lambda: site.ends(issues))


def _unless_it_fails[T](search: Callable[[], T]) -> T | None:
    """Search; None where a search fails: it may for one issue, and jobs know what to do then."""
    try:
        return search()
    except (SourceProtocolError, SourceUnavailableError) as error:
        if isinstance(error, SourceUnavailableError) and error.delay is not None:
            raise
        log.warning("issues_not_shown", error=str(error))
        return None


def range_of(window: Window, mode: str, filters: tuple[str, ...]) -> IssueRange:
    """Return the range of all issues that a window concerns.

    The bounds are whole minutes, rounded outwards, so that no site's precision matters.
    """
    start = None if window.start is None else as_ms(window.start) // MINUTE_MS * MINUTE_MS
    end = None if window.end is None else -(-as_ms(window.end) // MINUTE_MS) * MINUTE_MS
    if mode == "backfill":
        # Whatever happened to an issue in the window came after its creation and not after its
        # latest update. Creation never changes, so the order of reading is that.
        return IssueRange("created", to_ms=end, updated_from_ms=start, filters=filters)
    if mode == "full" or start is None:
        return IssueRange("created", filters=filters)
    # No upper bound: an issue that changes every few minutes would always be above it.
    return IssueRange("updated", from_ms=start, filters=filters)
