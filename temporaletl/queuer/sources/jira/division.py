"""Division of a range of issues into the ranges of its jobs, by counts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from temporaletl import Window
from temporaletl.external.jira.site import IssueRange, as_ms
from temporaletl.queuer import division
from temporaletl.queuer.division import EPOCH, MINUTE

MINUTE_MS = MINUTE // timedelta(milliseconds=1)
#: Jobs of a range that is not divided by a given size: enough to keep every request of a worker
#: busy, and few enough for what each job costs.
LEAST_PER_JOB, _MOST_PER_JOB = 500, 4_000


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of issues: by the site, or by the dataset in Trino.

    `exact` is whether a count of nothing means that there is nothing; Cloud's is about right only.
    `ends` are the times of a range's first and last issue in milliseconds, where they are known.
    """

    count: Callable[[IssueRange], Awaitable[int]]
    ends: Callable[[IssueRange], Awaitable[tuple[int, int] | None]]
    exact: bool


def issues_per_job(count: int, concurrency: int) -> int:
    """How many issues a job reads at most, where nobody says so: from 500 to 4,000.

    With two jobs for each request that may be under way, one that takes longer keeps none idle.
    """
    size = LEAST_PER_JOB
    while size < _MOST_PER_JOB and size * 2 * concurrency < count:
        size *= 2
    return size


async def divide(
    counts: Counts, whole: IssueRange, now_ms: int, size: Callable[[int], int]
) -> tuple[IssueRange, ...]:
    """Divide a range into consecutive ones of at most about `size(count of all)` issues.

    The outer bounds stay as they are, open ones open. A later batch of the same range has the same
    bounds, as far as its counts allow. Ranges that still hold too many lie within one minute.
    """

    def range_of(window: Window) -> IssueRange:
        bounds = (None if time is None else as_ms(time) for time in (window.start, window.end))
        from_ms, to_ms = bounds
        return replace(whole, from_ms=from_ms, to_ms=to_ms)

    async def ends() -> tuple[datetime, datetime]:
        low, high = span.start, span.end
        found = await counts.ends(whole) if low is None else None
        if found is not None:
            low, high = _time(found[0]), high or _time(found[1])
        return low or EPOCH, high or _time(now_ms)

    span = Window(
        start=None if whole.from_ms is None else _time(whole.from_ms),
        end=None if whole.to_ms is None else _time(whole.to_ms),
    )
    of_windows = division.Counts(lambda window: counts.count(range_of(window)), counts.exact)
    windows = await division.divide(of_windows, span, size=size, ends=ends)
    return tuple(map(range_of, windows))


def _time(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)
