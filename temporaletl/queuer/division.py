"""Division of a window into those of its jobs, by counts of what each part holds."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from temporaletl.external.threads import gather_all
from temporaletl.messages import Window

#: Bounds lie on whole ones, so that no source's precision matters.
MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Into so many parts a stretch is divided at once: a power of two, so that bounds stay the same
#: where another count divides it further. All are counted together, which is one wait for a source.
_PARTS = 8


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of what a source has in a window, by the time that orders it.

    `exact` is whether a count of nothing means that there is nothing.
    """

    count: Callable[[Window], Awaitable[int]]
    exact: bool = True


@dataclass(frozen=True, slots=True)
class _Stretch:
    start: int  # minutes since 1970
    end: int
    held: int


async def divide(
    counts: Counts,
    whole: Window,
    *,
    size: Callable[[int], int],
    ends: Callable[[int], Awaitable[tuple[datetime, datetime]]],
) -> tuple[Window, ...]:
    """Divide a window into consecutive ones of at most about `size(count of all)` items.

    The outer bounds stay as they are, open ones open; none where an exact count finds nothing.
    `ends`, of that size, are the times between which bounds may lie; what is outside of them is in
    the first and the last window, and counts there. Windows that still hold too many lie within
    one minute.

    Raises: as counting does.
    """
    count = await counts.count(whole)
    if count == 0 and counts.exact:
        return ()
    most = size(count)
    if count <= most:
        return (whole,)
    earliest, latest = await ends(most)
    low = (earliest - EPOCH) // MINUTE
    high = max(-((EPOCH - latest) // MINUTE), low + 1)

    async def divided(stretch: _Stretch) -> list[_Stretch]:
        if stretch.held <= most or stretch.end - stretch.start <= 1:
            return [stretch]
        bounds = _bounds(stretch)

        def window_of(start: int, end: int) -> Window:
            return Window(start=whole.start if start == low else _time(start), end=_time(end))

        # The last part holds what the others do not: also what is newer than the highest bound.
        held = await gather_all(counts.count(window_of(*each)) for each in pairwise(bounds[:-1]))
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
    cuts = [whole.start, *map(_time, starts[1:]), whole.end]
    return tuple(Window(start=start, end=end) for start, end in pairwise(cuts))


def _time(minute: int) -> datetime:
    return EPOCH + minute * MINUTE


def _bounds(stretch: _Stretch) -> Sequence[int]:
    """The bounds of a stretch's parts: halves of halves."""
    bounds = [stretch.start, stretch.end]
    while len(bounds) <= _PARTS:
        middles = [start + (end - start) // 2 for start, end in pairwise(bounds)]
        finer = sorted({*bounds, *middles})
        if len(finer) == len(bounds):
            break
        bounds = finer
    return bounds
