"""Division of a range of issues into the ranges of its jobs, by counts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from temporaletl import Window
from temporaletl.external.jira.site import IssueRange, as_ms
from temporaletl.queuer import division
from temporaletl.queuer.division import EPOCH, MINUTE

MINUTE_MS = MINUTE // timedelta(milliseconds=1)
#: Two of them, as a power of two of minutes.
_CENTURIES = (1 << 27) * MINUTE
#: Jobs of a range that is not divided by a given size: enough to keep every request of a worker
#: busy, and few enough for what each job costs.
LEAST_PER_JOB, _MOST_PER_JOB = 500, 4_000


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of issues: by the site, or by the dataset in Trino.

    `exact` is whether a count of nothing means that there is nothing; Cloud's is about right only.
    """

    count: Callable[[IssueRange], Awaitable[int]]
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

    async def ends(most: int) -> tuple[datetime, datetime]:
        low = span.start or await _lowest(counts, whole, most)
        if span.end is not None:
            return low, span.end
        # A power of two of minutes, so that a later batch of the same range has the same bounds.
        minutes = max(_time(now_ms) - low, timedelta(0)) // MINUTE
        return low, low + (1 << minutes.bit_length()) * MINUTE

    span = Window(
        start=None if whole.from_ms is None else _time(whole.from_ms),
        end=None if whole.to_ms is None else _time(whole.to_ms),
    )
    of_windows = division.Counts(lambda window: counts.count(range_of(window)), counts.exact)
    windows = await division.divide(of_windows, span, size=size, ends=ends)
    return tuple(map(range_of, windows))


async def _lowest(counts: Counts, whole: IssueRange, most: int) -> datetime:
    """The lower bound to divide from: 1970, or earlier where an import has older issues."""
    older = await counts.count(replace(whole, to_ms=min(0, whole.to_ms or 0)))
    return EPOCH if older <= most else EPOCH - _CENTURIES


def _time(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)
