"""Division of a range of issues into the ranges of its jobs, by counts."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from temporaletl.external.jira.site import IssueRange
from temporaletl.external.threads import gather_all

MINUTE_MS = 60_000
#: Two of them, as a power of two of minutes.
_CENTURIES_MS = (1 << 27) * MINUTE_MS
#: Into so many parts a stretch is divided at once: a power of two, so that bounds stay the same
#: where another count divides it further. All are counted together, which is one wait for a site.
_PARTS = 8
#: Jobs of a range that is not divided by a given size: enough to keep every request of a worker
#: busy, and few enough for what each job costs.
_LEAST_PER_JOB, _MOST_PER_JOB = 500, 4_000


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of issues: by the site, or by the dataset in Trino.

    `exact` is whether a count of nothing means that there is nothing; Cloud's is about right only.
    """

    count: Callable[[IssueRange], Awaitable[int]]
    exact: bool


@dataclass(frozen=True, slots=True)
class _Stretch:
    start: int
    end: int
    held: int

    @property
    def minutes(self) -> int:
        return (self.end - self.start) // MINUTE_MS


def issues_per_job(count: int, concurrency: int) -> int:
    """How many issues a job reads at most, where nobody says so: from 500 to 4,000.

    With two jobs for each request that may be under way, one that takes longer keeps none idle.
    """
    size = _LEAST_PER_JOB
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
    count = await counts.count(whole)
    if count == 0 and counts.exact:
        return ()
    most = size(count)
    if count <= most:
        return (whole,)
    low = await _lowest(counts, whole, most) if whole.from_ms is None else whole.from_ms
    if whole.to_ms is not None:
        high = max(whole.to_ms, low + MINUTE_MS)
    else:
        # A power of two of minutes, so that a later batch of the same range has the same bounds.
        high = low + (1 << (max(now_ms - low, 0) // MINUTE_MS).bit_length()) * MINUTE_MS

    async def divided(stretch: _Stretch) -> list[_Stretch]:
        if stretch.held <= most or stretch.minutes <= 1:
            return [stretch]
        bounds = _bounds(stretch)

        def range_of(start: int, end: int) -> IssueRange:
            # What is older than the lowest bound is in the first range, and counts there.
            return replace(whole, from_ms=whole.from_ms if start == low else start, to_ms=end)

        # The last part holds what the others do not: also what is newer than the highest bound.
        held = await gather_all(counts.count(range_of(*each)) for each in pairwise(bounds[:-1]))
        held.append(max(0, stretch.held - sum(held)))
        parts = [_Stretch(*ends, n) for ends, n in zip(pairwise(bounds), held, strict=True)]
        return [each for found in await gather_all(map(divided, parts)) for each in found]

    starts: list[int] = []
    total = 0
    for stretch in await divided(_Stretch(low, high, count)):
        if starts and (stretch.held == 0 or total + stretch.held <= most):
            total += stretch.held
        else:
            starts.append(stretch.start)
            total = stretch.held
    ends = [whole.from_ms, *starts[1:], whole.to_ms]
    return tuple(replace(whole, from_ms=start, to_ms=end) for start, end in pairwise(ends))


def _bounds(stretch: _Stretch) -> Sequence[int]:
    """The bounds of a stretch's parts: halves of halves, each of whole minutes."""
    bounds = [stretch.start, stretch.end]
    while len(bounds) <= _PARTS:
        middles = [
            start + (end - start) // MINUTE_MS // 2 * MINUTE_MS for start, end in pairwise(bounds)
        ]
        finer = sorted({*bounds, *middles})
        if len(finer) == len(bounds):
            break
        bounds = finer
    return bounds


async def _lowest(counts: Counts, whole: IssueRange, most: int) -> int:
    """The lower bound to divide from: 1970, or earlier where an import has older issues."""
    older = await counts.count(replace(whole, to_ms=min(0, whole.to_ms or 0)))
    return 0 if older <= most else -_CENTURIES_MS
